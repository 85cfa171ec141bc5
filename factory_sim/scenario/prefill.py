"""The pool of a deployment that computes prompts, where those who decode do not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.autoscaling import Autoscaling
from factory_sim.scenario.engine import EngineSpec
from factory_sim.scenario.names import SystemName
from factory_sim.scenario.network import FABRIC
from factory_sim.scenario.parallelism import Count, Parallelism
from factory_sim.scenario.router import Router
from factory_sim.units import BytesPerSecond


class Prefill(Frozen):
    """A pool of replicas that only compute prompts, and send their KV cache to those that decode.

    parallelism, engine, system: those of the deployment, if left out. The order of the queue, the
    prefix cache and its tiers are of this pool; who drafts, of both. kv_link: the
    link of the `network` that KV caches cross, or `fabric` (default); per_replica: what one replica
    of this pool sends over a link at the most, by its NICs (without: the whole link). first_token:
    who sends the client its first token: the prefill replica at once, or the decode replica once it
    has taken the request in. overlap: whether KV caches cross layer by layer while the rest of the
    prompt is computed (default: after the prompt). autoscaling: how many of this pool's replicas
    are up (without: all); those that decode have the deployment's own.
    """

    replicas: Count | Literal["fill"] = "fill"
    parallelism: Parallelism | None = None
    engine: EngineSpec | None = None
    system: SystemName | None = None
    router: Router = Router()
    kv_link: str = FABRIC
    per_replica: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    first_token: Literal["prefill", "decode"] = "prefill"
    overlap: bool = False
    autoscaling: Autoscaling | None = None

    @property
    def link(self) -> str | None:
        """Return the link that KV caches cross, None where that is the fabric."""
        return None if self.kv_link == FABRIC else self.kv_link

    @model_validator(mode="after")
    def _is_bounded_once(self) -> Prefill:
        if self.link is None and self.per_replica is not None:
            raise ValueError(
                "per_replica is what a replica sends over a named link, and on the fabric its NICs "
                "bound it; leave it out, name a 'kv_link', or give network.fabric.nic"
            )
        return self

    @model_validator(mode="after")
    def _drafts_as_who_decodes(self) -> Prefill:
        if self.engine is not None and self.engine.speculation is not None:
            raise ValueError(
                "who drafts is said of those who decode, and computes prompts here too; leave out "
                "engine.speculation of 'prefill'"
            )
        return self
