"""A deployment: one model served by equal replicas, how they batch, and what is promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from factory_sim.catalog.entries import Precision
from factory_sim.frozen import Frozen
from factory_sim.scenario.autoscaling import Autoscaling, Reactive, Scheduled
from factory_sim.scenario.cache_tiers import HostCache, NvmeCache
from factory_sim.scenario.encoder import Encoder
from factory_sim.scenario.names import EngineName, ModelName, SystemName
from factory_sim.scenario.network import FABRIC
from factory_sim.scenario.router import Router
from factory_sim.scenario.scheduling import Scheduling
from factory_sim.scenario.speculation import Speculation
from factory_sim.units import Bytes, BytesPerSecond, PositiveSeconds, Share

Count = Annotated[int, Field(gt=0, strict=True)]


class Parallelism(Frozen):
    """How a replica is spread over tp * cp * dp * pp GPUs, of one scale-up domain or of whole ones.

    tp: tensor parallelism. pp: stages of a pipeline, among which layers are dealt out. cp:
    context parallelism: so many groups of tp GPUs with the same weights share out every prompt's
    tokens and the KV cache of every context. dp:
    data-parallel attention of a sparse model: so many ranks of tp GPUs, each with sequences and a
    KV cache of its own, share its routed experts. ep: groups of the tp * dp GPUs among which
    experts are dealt out, sliced inside a group (1: every expert is sliced over all GPUs; tp * dp:
    each GPU has whole experts). expert_skew: how unlike experts are liked, as the standard
    deviation of the logarithm (0: all alike). redundant_experts: copies of experts in each layer,
    of those liked best.
    """

    tp: Count = 1
    cp: Count = 1
    pp: Count = 1
    dp: Count = 1
    ep: Count = 1
    expert_skew: Annotated[float, Field(ge=0, le=5)] = 0.0
    redundant_experts: Annotated[int, Field(ge=0, strict=True)] = 0

    @model_validator(mode="after")
    def _experts_over_the_same_gpus(self) -> Parallelism:
        if self.tp * self.dp % self.ep:
            product = "tp" if self.dp == 1 else "tp * dp"
            raise ValueError(f"ep must divide {product} ({self.tp * self.dp}), not {self.ep}")
        if self.pp > 1 and self.dp > 1:
            raise ValueError(
                "ranks of data-parallel attention have no pipelines yet; leave out dp, or pp"
            )
        if self.cp > 1 and self.dp * self.pp > 1:
            raise ValueError(
                "contexts are not shared out inside ranks or stages yet; leave out cp, or dp and pp"
            )
        if self.ep == 1 and (self.expert_skew or self.redundant_experts):
            raise ValueError(
                "with ep: 1 every GPU holds a slice of every expert, so that expert_skew and "
                "redundant_experts change nothing; leave them out, or set ep"
            )
        if self.redundant_experts and not self.expert_skew:
            raise ValueError(
                "redundant_experts only cost memory where all experts are liked alike; say how "
                "unlike they are, for example expert_skew: 0.5"
            )
        return self

    @property
    def gpus(self) -> int:
        """Return the GPUs of a replica."""
        return self.tp * self.cp * self.dp * self.pp


class EngineSpec(Frozen):
    """The serving engine of each replica. What is left out comes from the engine profile.

    max_num_seqs: sequences running at once. max_num_batched_tokens: token budget of a step.
    max_model_len: the longest request, prompt and answer (default: the model's context).
    max_queue: requests that may wait at a replica; more are rejected (default: no bound). With
    data-parallel attention max_num_seqs, max_num_batched_tokens and max_queue are of one rank,
    with a pipeline of one micro-batch.
    async_scheduling: whether each step is planned while the one before runs. prefix_caching:
    whether blocks of prompts are kept for others that begin alike (default: where a workload says
    which do). scheduling: who is served next (default: first come). preemption: whether requests
    that lose their KV blocks are computed again (default) or moved to host memory, of which each
    GPU has swap_space (default: vLLM's 4 GiB) at swap_bandwidth in each direction (default: the
    host link in the catalogue). host_cache: host memory for blocks that a prefix cache has no room
    for (default: none); nvme_cache: drives of the server for those that host memory has none for
    either (default: none). speculation: speculative decoding (default: none).
    """

    profile: EngineName = "vllm"
    batching: Literal["static", "continuous", "chunked"] | None = None
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    gpu_memory_utilization: Annotated[Share, Field(gt=0, le=1)] | None = None
    max_model_len: Count | None = None
    max_queue: Count | None = None
    async_scheduling: bool | None = None
    prefix_caching: bool | None = None
    scheduling: Scheduling | None = None
    preemption: Literal["recompute", "swap"] | None = None
    swap_space: Annotated[Bytes, Field(gt=0)] | None = None
    swap_bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    host_cache: HostCache | None = None
    nvme_cache: NvmeCache | None = None
    speculation: Speculation | None = None

    @model_validator(mode="after")
    def _options_have_a_use(self) -> EngineSpec:
        tokens, seqs = self.max_num_batched_tokens, self.max_num_seqs
        if self.batching == "static" and tokens is not None:
            raise ValueError(
                "static batching prefills the whole batch in one step and has no "
                "max_num_batched_tokens; leave it out, or use 'continuous' or 'chunked'"
            )
        if self.batching == "static" and self.async_scheduling:
            raise ValueError(
                "static batching takes requests only when nothing runs, so that planning ahead "
                "changes nothing; leave out async_scheduling, or use 'continuous' or 'chunked'"
            )
        if tokens is not None and seqs is not None and tokens < seqs:
            raise ValueError(
                f"max_num_batched_tokens ({tokens}) must be at least max_num_seqs ({seqs}): "
                "every running sequence takes a token of each step"
            )
        return self

    @model_validator(mode="after")
    def _swap_is_whole(self) -> EngineSpec:
        if self.preemption != "swap":
            for name in ("swap_space", "swap_bandwidth"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} is of preempted requests that are moved to host memory; leave it "
                        "out, or say 'preemption: swap'"
                    )
        elif self.prefix_caching:
            raise ValueError(
                "a prefix cache keeps the blocks of preempted requests where they are; leave out "
                "'preemption: swap', or say 'prefix_caching: false'"
            )
        return self

    @model_validator(mode="after")
    def _tiers_have_a_first(self) -> EngineSpec:
        tier = next(iter(self.cache_tiers), "")
        if tier and self.prefix_caching is False:
            raise ValueError(
                f"{tier} takes what a prefix cache has no room for; leave it out, or leave out "
                "'prefix_caching: false'"
            )
        if tier and self.preemption == "swap":
            raise ValueError(
                f"with {tier} preempted requests leave their blocks to the prefix cache, which "
                "moves them there itself; leave out 'preemption: swap'"
            )
        return self

    @property
    def cache_tiers(self) -> tuple[str, ...]:
        """Return the fields that say what is behind the prefix cache, the nearest first."""
        return tuple(name for name in ("host_cache", "nvme_cache") if getattr(self, name))

    @property
    def plain(self) -> bool:
        """Tell whether it serves first come, first served, and computes victims again."""
        first_come = self.scheduling is None or self.scheduling.policy == "fcfs"
        return first_come and self.preemption != "swap"


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
