"""The network of a scenario: a fabric between servers and storage, and links with names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen
from factory_sim.scenario.names import FabricName
from factory_sim.units import BytesPerSecond, NonNegativeSeconds

LinkName = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][\w .+-]*$")]
Count = Annotated[int, Field(gt=0, strict=True)]
Bandwidth = Annotated[BytesPerSecond, Field(gt=0)]

FABRIC = "fabric"
"""What a deployment may name as its link to mean the fabric."""


class LinkSpec(Frozen):
    """A link that all who send over it share fairly.

    bandwidth: of all transfers together. latency: from the last byte sent to its arrival.
    """

    bandwidth: Bandwidth
    latency: NonNegativeSeconds = 0.0


class Fabric(Frozen):
    """Servers behind leaf switches behind a spine; inside a scale-up domain NVLink, or
    what joins GPUs there.

    kind: whose defaults count (`factory-sim catalog fabrics`). nic: one direction of one NIC
    (default: what the catalogue gives a GPU); nics: of a server (default: one a GPU). leaf: which
    NICs share a leaf switch: those of a `rack`, or, of servers_per_leaf servers in a row, those of
    one `rail` (the first of each, the second of each, ...). oversubscription: bandwidth of a leaf's
    NICs over that of its links to the spine. latency: from the last byte sent to its arrival, by
    NICs. storage: what the site's storage, on the spine, sends in all; weights then come from it.
    """

    kind: FabricName = "infiniband-ndr"
    nic: Bandwidth | None = None
    nics: Count | None = None
    leaf: Literal["rack", "rail"] = "rail"
    servers_per_leaf: Count | None = None
    oversubscription: Annotated[float, Field(ge=1, strict=True)] | None = None
    latency: NonNegativeSeconds | None = None
    storage: Bandwidth | None = None

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Fabric:
        if self.leaf == "rack" and self.servers_per_leaf is not None:
            raise ValueError(
                "the servers of a rack share its leaf; leave out 'servers_per_leaf', or say "
                "'leaf: rail'"
            )
        return self


class Network(Frozen):
    """links: by the names that deployments use. fabric: between all servers."""

    links: dict[LinkName, LinkSpec] = Field(default_factory=dict)
    fabric: Fabric | None = None

    @model_validator(mode="after")
    def _is_something(self) -> Network:
        if not self.links and self.fabric is None:
            raise InputError(
                Problem("links", "must hold at least 1, not 0; or give a 'fabric', such as {}")
            )
        if FABRIC in self.links:
            raise InputError(
                Problem(f"links.{FABRIC}", "is what the fabric is called; give the link a name")
            )
        return self
