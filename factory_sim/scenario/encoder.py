"""A pool of GPUs that encode the images of a deployment's prompts, apart from the model.

encoder: {replicas: 1, link: fabric}
encoder: {replicas: 2, system: dgx-a100, max_batch: 4, link: images}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.names import SystemName
from factory_sim.scenario.network import FABRIC
from factory_sim.scenario.router import Router

Count = Annotated[int, Field(gt=0, strict=True)]


class Encoder(Frozen):
    """A pool of vision encoders, one GPU each, that send embeddings to those who compute prompts.

    system: that of the deployment, if left out. max_batch: images of a step (default: as many as
    the engine's token budget of a step holds, as vLLM bounds what it encodes in one). link: of the
    `network`, that embeddings cross, or `fabric` (default).
    """

    replicas: Count | Literal["fill"] = "fill"
    system: SystemName | None = None
    router: Router = Router()
    max_batch: Count | None = None
    link: str = FABRIC

    @property
    def named_link(self) -> str | None:
        """Return the link that embeddings cross, None where that is the fabric."""
        return None if self.link == FABRIC else self.link

    @model_validator(mode="after")
    def _router_has_something_to_find(self) -> Encoder:
        if self.router.policy in ("cache-aware", "sticky"):
            raise ValueError(
                f"router '{self.router.policy}' sends requests to what is kept of them, and "
                "encoders keep nothing; take least-outstanding"
            )
        return self
