"""The network of a scenario: links between pools of replicas and from storage, by name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from factory_sim.frozen import Frozen
from factory_sim.units import BytesPerSecond, NonNegativeSeconds

LinkName = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][\w .+-]*$")]


class LinkSpec(Frozen):
    """A link that all who send over it share fairly.

    bandwidth: of all transfers together. latency: from the last byte sent to its arrival.
    """

    bandwidth: Annotated[BytesPerSecond, Field(gt=0)]
    latency: NonNegativeSeconds = 0.0


class Network(Frozen):
    """Links, by the names that deployments use."""

    links: Annotated[dict[LinkName, LinkSpec], Field(min_length=1)]
