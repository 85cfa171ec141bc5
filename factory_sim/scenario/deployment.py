"""A deployment: one model served by equal replicas, its pools, and what is promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from factory_sim.catalog.facts import Precision
from factory_sim.frozen import Frozen
from factory_sim.scenario.autoscaling import Autoscaling, Reactive, Scheduled
from factory_sim.scenario.encoder import Encoder
from factory_sim.scenario.engine import EngineSpec
from factory_sim.scenario.names import ModelName, SystemName
from factory_sim.scenario.parallelism import Count, Parallelism
from factory_sim.scenario.prefill import Prefill
from factory_sim.scenario.router import Router
from factory_sim.units import PositiveSeconds


class Slo(Frozen):
    """The latency promise: so many per cent of requests within each limit.

    ttfo: to the first token of the answer, after those of reasoning.
    """

    ttft: PositiveSeconds | None = None
    ttfo: PositiveSeconds | None = None
    tpot: PositiveSeconds | None = None
    e2e: PositiveSeconds | None = None
    percentile: Annotated[float, Field(gt=0, lt=100)] = 99.0

    @model_validator(mode="after")
    def _promises_something(self) -> Slo:
        if all(limit is None for limit in (self.ttft, self.ttfo, self.tpot, self.e2e)):
            raise ValueError(
                "give at least one of ttft, tpot, e2e and ttfo, for example 'ttft: 2 s'"
            )
        if self.ttft is not None and self.ttfo is not None and self.ttfo <= self.ttft:
            raise ValueError(
                f"ttfo ({self.ttfo:g} s) is never before ttft ({self.ttft:g} s); leave out ttft, "
                "or give ttfo more"
            )
        return self


class Represented(Frozen):
    """So many replicas, of which a few are simulated and stand for all.

    simulate: how many are; they fill whole racks. represent: how many there are, or 'fill'. The
    simulated ones get their share of the requests, and what they do counts for as many more.
    """

    simulate: Count
    represent: Count | Literal["fill"] = "fill"

    @model_validator(mode="after")
    def _stands_for_more(self) -> Represented:
        if self.represent != "fill" and self.represent <= self.simulate:
            raise ValueError(
                f"represent ({self.represent}) must be more than simulate ({self.simulate}); "
                "to simulate all of them write 'replicas' as one number"
            )
        return self


def _form(given: Any) -> str:
    return "Represented" if isinstance(given, Mapping | Represented) else "literal[count]"


Replicas = Annotated[
    Annotated[Count | Literal["fill"], Tag("literal[count]")]
    | Annotated[Represented, Tag("Represented")],
    Discriminator(_form),
]


class Deployment(Frozen):
    """One model on equal replicas. replicas: how many, or 'fill': as many as the GPUs hold; or a
    few that are simulated and stand for all.

    prefill: a pool that computes prompts; the deployment's own replicas then only decode. encoder:
    a pool that encodes the images of prompts (without: who computes prompts does). kv_precision: of
    the KV cache. precision_fallback: whether weights in a precision that the GPU cannot multiply
    are multiplied in bf16 (without: such a pair is refused). step_time: what an engine step takes,
    by the calibrated roofline or by AIConfigurator's kernel database (extra `silicon`), to compare.
    system: whose GPUs to use, where the racks hold several. power_priority: who is slowed last when
    watts are short (the lowest number first). autoscaling: how many of the replicas are up, by load
    or by the clock (without: all). site: whose GPUs, of several `sites`. users_link: the link of
    the `network` that what users send comes in by, to several deployments if they name it (without:
    it shares no link). partition: parts of a GPU, one for each replica, as the catalogue names them
    (without: whole GPUs).
    """

    model: ModelName
    precision: Precision | Literal["fp16"] = "bf16"
    kv_precision: Literal["bf16", "fp8", "int8"] = "bf16"
    precision_fallback: bool = False
    parallelism: Parallelism = Parallelism()
    replicas: Replicas = "fill"
    engine: EngineSpec = EngineSpec()
    step_time: Literal["roofline", "aiconfigurator"] = "roofline"
    router: Router = Router()
    slo: Slo | None = None
    system: SystemName | None = None
    site: str | None = None
    users_link: str | None = None
    partition: str | None = None
    power_priority: Annotated[int, Field(strict=True)] = 0
    prefill: Prefill | None = None
    encoder: Encoder | None = None
    autoscaling: Autoscaling | None = None

    @model_validator(mode="after")
    def _drafts_are_modelled(self) -> Deployment:
        drafts = self.engine.speculation
        pools = {"": self.parallelism}
        if self.prefill is not None and self.prefill.parallelism is not None:
            pools["prefill."] = self.prefill.parallelism  # who passes prompts through the draft too
        for pool, spread in pools.items():
            for name in ("pp", "cp"):
                if drafts and getattr(spread, name) > 1:
                    raise ValueError(
                        f"replicas with {pool}parallelism.{name} do not draft yet; leave out "
                        f"engine.speculation, or {pool}parallelism.{name}"
                    )
        if drafts and self.step_time == "aiconfigurator":
            raise ValueError(
                "step_time 'aiconfigurator' has no steps that verify drafts; leave out "
                "engine.speculation, or take 'roofline'"
            )
        return self

    @model_validator(mode="after")
    def _pods_stand_alone(self) -> Deployment:
        routers = {"": self.router}
        routers |= {"prefill.": self.prefill.router} if self.prefill else {}
        routers |= {"encoder.": self.encoder.router} if self.encoder else {}
        for pool, router in routers.items():
            for other in ("prefill", "encoder", "autoscaling"):
                if router.pods > 1 and getattr(self, other) is not None:
                    raise ValueError(
                        f"replicas beside '{other}' are no pods yet; leave out "
                        f"{pool}router.pods, or {other}"
                    )
        return self

    @model_validator(mode="after")
    def _pools_fit_together(self) -> Deployment:
        prefill = self.prefill
        if prefill is None:
            return self
        if isinstance(self.replicas, Represented):
            raise ValueError(
                "with 'prefill' every replica is simulated, as all share one link; give 'replicas' "
                "as one number"
            )
        if self.fills and prefill.replicas == "fill" and prefill.system in (None, self.system):
            raise ValueError(
                "the replicas and those of 'prefill' cannot both fill the same GPUs; give one of "
                "them a number"
            )
        for engine in (self.engine, prefill.engine):
            if engine is not None and engine.preemption == "swap":
                raise ValueError(
                    "with 'prefill' victims are computed again where they decode, so far; leave "
                    "out 'preemption: swap', or 'prefill'"
                )
        if prefill.engine is not None:
            for name in ("scheduling", "prefix_caching", "host_cache", "nvme_cache"):
                if getattr(self.engine, name):
                    raise ValueError(
                        f"requests queue and are looked up at the prefill pool, which has an "
                        f"engine of its own, so that engine.{name} would change nothing; give "
                        f"prefill.engine.{name}"
                    )
        if self.engine.max_queue is not None:
            raise ValueError(
                "engine.max_queue would refuse requests whose prompt is computed already; requests "
                "wait for their prompt at the prefill pool: give prefill.engine.max_queue"
            )
        return self

    @model_validator(mode="after")
    def _parts_stand_alone(self) -> Deployment:
        if self.partition is None:
            return self
        if self.parallelism.gpus > 1:
            raise ValueError(
                "parts of GPUs reach each other over no link, so that a replica has one; leave out "
                "'partition', or 'parallelism'"
            )
        if self.prefill is not None:
            raise ValueError(
                "the pools of disaggregated prefill stand on whole GPUs so far; leave out "
                "'partition', or 'prefill'"
            )
        if self.step_time == "aiconfigurator":
            raise ValueError(
                "step_time 'aiconfigurator' knows whole GPUs only; leave out 'partition', or take "
                "'roofline'"
            )
        if self.encoder is not None:
            raise ValueError(
                "the pools of an encoder and its replicas stand on whole GPUs so far; leave out "
                "'partition', or 'encoder'"
            )
        return self

    @model_validator(mode="after")
    def _encoder_fits_beside(self) -> Deployment:
        encoder = self.encoder
        if encoder is None:
            return self
        if isinstance(self.replicas, Represented):
            raise ValueError(
                "with 'encoder' every replica is simulated, as all are fed by one pool; give "
                "'replicas' as one number"
            )
        others = {"the replicas": (self.fills, self.system)}
        if self.prefill is not None:
            system = self.prefill.system or self.system
            others["those of 'prefill'"] = (self.prefill.replicas == "fill", system)
        for whose, (fills, system) in others.items():
            if fills and encoder.replicas == "fill" and encoder.system in (None, system):
                raise ValueError(
                    f"{whose} and the encoders cannot both fill the same GPUs; give one of them a "
                    "number"
                )
        if self.scalings:
            raise ValueError(
                "a pool beside 'encoder' is not scaled yet: each would have to follow the other; "
                "leave out 'autoscaling', or 'encoder'"
            )
        return self

    @model_validator(mode="after")
    def _can_be_scaled(self) -> Deployment:
        if self.autoscaling is not None and isinstance(self.replicas, Represented):
            raise ValueError(
                "with 'autoscaling' every replica is simulated, as each starts and stops for "
                "itself; give 'replicas' as one number"
            )
        return self

    @property
    def scalings(self) -> dict[str, Reactive | Scheduled]:
        """Return what scales its pools, by the field that says so."""
        prefill = self.prefill.autoscaling if self.prefill else None
        found = {"autoscaling": self.autoscaling, "prefill.autoscaling": prefill}
        return {field: scaling for field, scaling in found.items() if scaling is not None}

    @property
    def front_engine(self) -> EngineSpec:
        """Return the engine that requests come to: their queue, and what is found of prompts."""
        return (self.prefill and self.prefill.engine) or self.engine

    @property
    def decodes_pool(self) -> Deployment:
        """Return the deployment as the pool that decodes what `prefill` has begun."""
        elsewhere = dict.fromkeys(("scheduling", "host_cache", "nvme_cache"))
        own = self.engine.model_copy(update=elsewhere)
        return self.model_copy(update={"engine": own})

    @property
    def prompts_pool(self) -> Deployment:
        """Return the `prefill` pool as a deployment of its own, without promises."""
        prefill = self.prefill
        assert prefill is not None
        return self.model_copy(
            update={
                "replicas": prefill.replicas,
                "parallelism": prefill.parallelism or self.parallelism,
                "engine": self.front_engine.model_copy(
                    update={"speculation": self.engine.speculation}
                ),
                "system": prefill.system or self.system,
                "router": prefill.router,
                "slo": None,
                "prefill": None,
                "autoscaling": prefill.autoscaling,
            }
        )

    @property
    def encoders_pool(self) -> Deployment:
        """Return the `encoder` pool as a deployment of its own: in bf16, without promises."""
        encoder = self.encoder
        assert encoder is not None
        engine = EngineSpec(
            profile=self.front_engine.profile,
            max_num_batched_tokens=self.front_engine.max_num_batched_tokens,
            gpu_memory_utilization=self.front_engine.gpu_memory_utilization,
        )
        return self.model_copy(
            update={
                "precision": "bf16",
                "kv_precision": "bf16",
                "precision_fallback": False,
                "parallelism": Parallelism(),
                "replicas": encoder.replicas,
                "engine": engine,
                "router": encoder.router,
                "slo": None,
                "system": encoder.system or self.system,
                "prefill": None,
                "encoder": None,
            }
        )

    @property
    def fills(self) -> bool:
        """Tell whether it takes all GPUs that are left."""
        spec = self.replicas
        return spec == "fill" or (isinstance(spec, Represented) and spec.represent == "fill")
