"""A fleet: one deployment resolved to engine settings, physics, memory and named GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from math import ceil

from factory_sim.catalog import Accelerator, Engine, Family, Model, PowerCurve, Precision, System
from factory_sim.errors import InputError, Problem
from factory_sim.factory.drafting import Drafting, drafting_of
from factory_sim.factory.site import Gpu
from factory_sim.physics import arithmetic as work
from factory_sim.physics.balance import imbalance
from factory_sim.physics.hardware import Chip, Host, Shard
from factory_sim.physics.memory import KvMemory, kv_memory
from factory_sim.physics.power import PowerModel
from factory_sim.scenario.autoscaling import Reactive, Scheduled
from factory_sim.scenario.deployment import Deployment, Parallelism, Represented
from factory_sim.scenario.scenario import Scenario

STATIC_STEP_TOKENS = 8192
"""Prompt tokens whose activations static batching sets memory aside for."""


PREFILL = "/prefill"
"""Ends the name of a deployment's pool that computes prompts; no deployment's name has a slash."""


@dataclass(frozen=True)
class Fleet:
    """One deployment, resolved: its engine settings, physics, and the GPUs of each replica.

    name: of the deployment, with `/prefill` for its pool that computes prompts; where: its path in
    the scenario. replicas: those that are simulated. represented: how many there are, at least as
    many. like: of each rack whose replicas are not simulated, the rack that stands for it.
    """

    name: str
    where: str
    spec: Deployment
    model: Model
    accelerator: Accelerator
    engine: Engine
    efficiency: Family
    power_curve: PowerCurve
    precision: Precision
    batching: str
    max_num_seqs: int
    max_step_tokens: int
    chip: Chip
    shard: Shard
    host: Host
    power: PowerModel
    memory: KvMemory
    replicas: tuple[tuple[Gpu, ...], ...]
    represented: int
    like: Mapping[str, str]
    drafting: Drafting | None = None

    @property
    def deployment(self) -> str:
        """Return the name of the deployment that it serves."""
        return self.name.removesuffix(PREFILL)

    @property
    def computes_prompts(self) -> bool:
        """Tell whether it is a pool that only computes prompts."""
        return self.name.endswith(PREFILL)

    @property
    def phases(self) -> tuple[str, ...]:
        """Return the phases of a request that its replicas do."""
        if self.computes_prompts:
            return ("prefill",)
        return ("prefill", "decode") if self.spec.prefill is None else ("decode",)

    @property
    def scale(self) -> float:
        """Return for how many replicas each simulated one stands."""
        return self.represented / len(self.replicas)

    @property
    def longest(self) -> int:
        """Return the most tokens, prompt and answer, of a request that a replica can serve."""
        longest = self.spec.engine.max_model_len or self.model.context_max
        drafts = self.drafting.tokens if self.drafting else 0
        return min(longest, self.memory.tokens + 1 - drafts)

    @property
    def tokens_per_step(self) -> float:
        """Return the tokens that a sequence makes in a step, in the mean."""
        return self.drafting.spec.tokens_per_step if self.drafting else 1.0

    @property
    def plans_ahead(self) -> bool:
        """Tell whether its engine plans each step while the one before runs."""
        asked = self.spec.engine.async_scheduling
        return self.engine.defaults.async_scheduling if asked is None else asked

    @property
    def ranks(self) -> int:
        """Return the ranks of a replica, each with sequences and a KV cache of its own."""
        return self.spec.parallelism.dp

    @property
    def slots(self) -> int:
        """Return the most sequences that a replica may run at once."""
        return self.max_num_seqs * self.ranks

    @property
    def gpus_per_replica(self) -> int:
        """Return the GPUs that one copy of the model spans."""
        return self.spec.parallelism.gpus


def path_of(name: str) -> str:
    """Return where a scenario describes a pool."""
    return f"deployments.{name.replace('/', '.')}"


def pools_of(scenario: Scenario) -> dict[str, Deployment]:
    """Return every pool of equal replicas: deployments by name, then who computes prompts."""
    found = dict(scenario.deployments)
    for name, spec in scenario.deployments.items():
        if spec.prefill is not None:
            found[name + PREFILL] = spec.prompts_pool
    return found


def make_fleet(
    scenario: Scenario, name: str, spec: Deployment, free: dict[str, list[Gpu]]
) -> Fleet:
    """Return a pool with its replicas placed on `free` GPUs, which it takes away.

    free: GPUs in no replica yet, by system. Raises InputError for what does not fit.
    """
    facts = scenario.facts
    where = path_of(name)
    system = facts.system(spec.system or scenario.racks[0].system)
    accelerator = facts.accelerator(system.accelerator)
    model = facts.model(spec.model)
    engine = facts.engine(spec.engine.profile)
    precision: Precision = "bf16" if spec.precision == "fp16" else spec.precision
    arithmetic = accelerator.arithmetic(precision)
    efficiency = facts.efficiency_of(accelerator, precision)
    cache = accelerator.arithmetic(spec.kv_precision)
    attention = facts.efficiency(accelerator.family, cache)
    curve = facts.power_curve(accelerator.family)
    gpus = spec.parallelism.gpus
    _check_parallelism(where, spec, system, model)
    batching, max_num_seqs, max_tokens = _limits(where, spec, engine)
    weight_bytes, kv_bytes = (work.BYTES_PER_WEIGHT[p] for p in (precision, spec.kv_precision))
    shard = _shard(model, spec.parallelism, weight_bytes, kv_bytes)
    memory = kv_memory(
        shard,
        accelerator.need("hbm"),
        spec.engine.gpu_memory_utilization or engine.defaults.gpu_memory_utilization,
        engine.graph_and_runtime.value,
        max_num_seqs,
        max_tokens,
        engine.defaults.block_tokens,
    )
    drafting = drafting_of(where, spec.engine.speculation, facts, shard, memory.block_tokens)
    if drafting is not None:
        memory = drafting.beside(memory, shard, max_num_seqs)
    if memory.blocks < 1:
        raise InputError(
            Problem(f"{where}.parallelism.tp", _too_big(memory, model, accelerator, gpus))
        )
    placed = _place(spec, where, free.get(system.name, []), gpus)
    if spec.autoscaling is not None:
        _check_scaling(f"{where}.autoscaling", spec.autoscaling, len(placed))
    replicas, like = _simulated(spec, where, placed)
    return Fleet(
        name=name,
        where=where,
        spec=spec,
        model=model,
        accelerator=accelerator,
        engine=engine,
        efficiency=efficiency,
        power_curve=curve,
        precision=precision,
        batching=batching,
        max_num_seqs=max_num_seqs,
        max_step_tokens=max_tokens,
        chip=chip_of(accelerator, arithmetic, efficiency, attention, engine, curve, gpus),
        shard=shard,
        host=Host(
            engine.per_step.value,
            engine.per_sequence.value,
            engine.per_request.value,
            engine.eager_per_layer.value,
            engine.launches_ahead,
        ),
        power=power_of(accelerator, curve, weight_bytes),
        memory=memory,
        replicas=replicas,
        represented=len(placed),
        like=like,
        drafting=drafting,
    )


def _shard(model: Model, spread: Parallelism, weight_bytes: float, kv_bytes: float) -> Shard:
    uneven, copies = 1.0, spread.redundant_experts
    if spread.expert_skew:
        assert model.moe is not None
        uneven = imbalance(model.moe.experts, spread.ep, spread.expert_skew, copies)
    tp, dp = spread.tp, spread.dp
    return Shard(model, tp, spread.ep, weight_bytes, kv_bytes, dp, copies, uneven)


def _check_scaling(where: str, spec: Reactive | Scheduled, placed: int) -> None:
    field, many = spec.most()
    if many > placed:
        raise InputError(
            Problem(
                f"{where}.{field}",
                f"asks for {many:g} replicas, and {placed} are placed; ask for fewer, or have "
                "more 'replicas'",
            )
        )
    if isinstance(spec, Scheduled) and not many:
        raise InputError(
            Problem(
                f"{where}.replicas",
                "wants no replica at any time, so that nobody is served; give at least one at some",
            )
        )
    least = spec.min if isinstance(spec, Reactive) else spec.replicas.min_over(0.0, float("inf"))
    if ceil(least - 1e-9) >= placed:
        kept = f"all {placed} replicas" if placed > 1 else "the only replica"
        raise InputError(
            Problem(
                f"{where}.{'min' if isinstance(spec, Reactive) else 'replicas'}",
                f"keeps {kept} up, so that nothing is scaled; lower it, or leave out 'autoscaling'",
            )
        )


def _check_parallelism(where: str, spec: Deployment, system: System, model: Model) -> None:
    tp, dp, ep = spec.parallelism.tp, spec.parallelism.dp, spec.parallelism.ep
    if tp * dp > system.scaleup_gpus:
        raise InputError(
            Problem(
                f"{where}.parallelism.{'tp' if dp == 1 else 'dp'}",
                f"{tp * dp} GPUs do not share one scale-up domain; {system.name} has "
                f"{system.scaleup_gpus}",
            )
        )
    if model.heads % tp:
        raise InputError(
            Problem(
                f"{where}.parallelism.tp",
                f"must divide the {model.heads} heads of {model.name}, not {tp}",
            )
        )
    if ep > 1 and model.moe is None:
        raise InputError(
            Problem(f"{where}.parallelism.ep", f"{model.name} has no experts; leave it out")
        )
    if dp == 1 and ep == 1:
        return
    if model.moe is None:
        raise InputError(
            Problem(
                f"{where}.parallelism.dp",
                f"{model.name} has no experts that ranks could share; leave it out, and give "
                f"{dp} times the replicas",
            )
        )
    slots = model.moe.experts + spec.parallelism.redundant_experts
    if spec.parallelism.expert_skew and slots % ep:
        more = -model.moe.experts % ep
        raise InputError(
            Problem(
                f"{where}.parallelism.redundant_experts",
                f"{slots} experts and copies of them do not divide by {ep} GPUs; give {more} "
                f"copies, or {more + ep}",
            )
        )
    if dp > 1 and spec.engine.host_cache is not None:
        raise InputError(
            Problem(
                f"{where}.engine.host_cache",
                "ranks of data-parallel attention have no tier in host memory yet; leave it out, "
                "or dp",
            )
        )
    if dp > 1 and not spec.engine.plain:
        raise InputError(
            Problem(
                f"{where}.parallelism.dp",
                "ranks serve first come, first served, and compute victims again; leave out "
                "engine.scheduling and engine.preemption, or dp",
            )
        )
    if dp > 1 and spec.step_time != "roofline":
        raise InputError(
            Problem(
                f"{where}.step_time",
                f"'{spec.step_time}' knows no data-parallel attention; leave it out",
            )
        )


def _limits(where: str, spec: Deployment, engine: Engine) -> tuple[str, int, int]:
    """Return the batching policy, the most sequences and the most tokens of a step."""
    batching = spec.engine.batching or engine.defaults.batching
    max_num_seqs = spec.engine.max_num_seqs or engine.defaults.max_num_seqs
    if batching == "static":
        return batching, max_num_seqs, STATIC_STEP_TOKENS
    speculation = spec.engine.speculation
    each = 1 + speculation.num_speculative_tokens if speculation else 1
    usual = max(engine.defaults.max_num_batched_tokens, max_num_seqs * each)
    max_tokens = spec.engine.max_num_batched_tokens or usual
    if max_tokens < max_num_seqs * each:
        drafts = f" times {each}, a token and its drafts" if each > 1 else ""
        raise InputError(
            Problem(
                f"{where}.engine.max_num_batched_tokens",
                f"must be at least max_num_seqs ({max_num_seqs}){drafts}, not {max_tokens}",
            )
        )
    return batching, max_num_seqs, max_tokens


def power_of(accelerator: Accelerator, curve: PowerCurve, bytes_per_weight: float) -> PowerModel:
    """Return the power model of a board at work; InputError if a figure is missing.

    bytes_per_weight: of the model it runs; narrow weights cost more watts to unpack.
    """
    narrow = bytes_per_weight < work.BYTES_PER_WEIGHT["bf16"]
    return PowerModel(
        idle_w=accelerator.need("idle"),
        tdp_w=accelerator.need("tdp"),
        active_weight=curve.active_weight.value,
        compute_weight=curve.compute_weight.value,
        memory_weight=curve.memory_weight.value * (curve.narrow_factor.value if narrow else 1.0),
        clock_exponent=curve.clock_exponent.value,
        voltage_floor=curve.voltage_floor.value,
    )


def chip_of(
    accelerator: Accelerator,
    arithmetic: Precision,
    efficiency: Family,
    attention: Family,
    engine: Engine,
    curve: PowerCurve,
    gpus: int,
) -> Chip:
    """Return the numbers of an accelerator, at this arithmetic, that step times need.

    attention: the row of the family for the precision of the KV cache. Raises InputError where one
    of them is not published.
    """
    per_layer_s = efficiency.per_layer.value + engine.launch_per_layer.value
    if arithmetic in ("fp8", "int8"):
        per_layer_s += engine.quantise_per_layer.value
    return Chip(
        flops=accelerator.need(f"flops.{arithmetic}"),
        flops_bf16=accelerator.need("flops.bf16"),
        bandwidth=accelerator.need("hbm_bandwidth"),
        link=accelerator.need("scaleup_bandwidth") if gpus > 1 else 1.0,
        gemm_compute=efficiency.gemm_compute.value,
        expert_compute=efficiency.expert_compute.value,
        gemm_memory=efficiency.gemm_memory.value,
        attention_compute=attention.attention_compute.value,
        kv_memory=attention.kv_memory.value,
        elementwise_memory=efficiency.elementwise_memory.value,
        per_layer_s=per_layer_s,
        moe_per_layer_s=efficiency.moe_per_layer.value + engine.launch_per_moe_layer.value,
        expert_spread=efficiency.expert_spread.value,
        allreduce_latency_s=efficiency.allreduce_latency.value,
        network=efficiency.network.value,
        memory_clock=curve.memory_clock.value,
    )


def _too_big(memory: KvMemory, model: Model, accelerator: Accelerator, tp: int) -> str:
    short_gb = (memory.bytes_per_token * memory.block_tokens - memory.kv_bytes) / 1e9
    kept = memory.window_bytes + memory.state_bytes
    return (
        f"{model.name} does not fit: weights need {memory.weight_bytes / 1e9:.1f} GB a GPU, "
        f"activations and runtime {(memory.activation_bytes + memory.runtime_bytes) / 1e9:.1f} GB, "
        + (f"windows and states of max_num_seqs sequences {kept / 1e9:.1f} GB, " if kept else "")
        + f"and a {accelerator.name} has {memory.usable_bytes / 1e9:.1f} GB to use; "
        f"{short_gb:.1f} GB are missing. Use more GPUs than tp: {tp}, a smaller precision, "
        + ("a lower engine.max_num_seqs, " if kept else "")
        + "or another accelerator"
    )


def _place(spec: Deployment, where: str, free: list[Gpu], tp: int) -> tuple[tuple[Gpu, ...], ...]:
    """Take free GPUs for each replica, all of one replica inside one scale-up domain."""
    wanted = spec.replicas
    if isinstance(wanted, Represented):
        wanted = wanted.represent
    placed: list[tuple[Gpu, ...]] = []
    for _, members in groupby(list(free), key=lambda gpu: gpu.domain):
        domain = list(members)
        while len(domain) >= tp and (wanted == "fill" or len(placed) < wanted):
            gpus, domain = tuple(domain[:tp]), domain[tp:]
            placed.append(gpus)
    if not placed or (wanted != "fill" and len(placed) < wanted):
        raise InputError(
            Problem(
                f"{where}.replicas",
                f"{wanted} replicas of {tp} GPUs need {tp if wanted == 'fill' else wanted * tp} "
                f"GPUs in whole scale-up domains; the free GPUs hold {len(placed)}",
            )
        )
    taken = {gpu.index for gpus in placed for gpu in gpus}
    free[:] = [gpu for gpu in free if gpu.index not in taken]
    return tuple(placed)


def _simulated(
    spec: Deployment, where: str, placed: tuple[tuple[Gpu, ...], ...]
) -> tuple[tuple[tuple[Gpu, ...], ...], dict[str, str]]:
    """Return the replicas that are simulated, and which rack stands for each of the others."""
    wanted = spec.replicas
    if not isinstance(wanted, Represented):
        return placed, {}
    by_rack: dict[str, list[tuple[Gpu, ...]]] = {}
    for gpus in placed:
        by_rack.setdefault(gpus[0].rack, []).append(gpus)
    each = len(next(iter(by_rack.values())))
    racks = list(by_rack)
    if any(len(held) != each for held in by_rack.values()):
        raise InputError(
            Problem(
                f"{where}.replicas.represent",
                f"{len(placed)} replicas do not fill whole racks of {each}; represent a multiple "
                f"of {each}, such as {len(placed) // each * each or each}",
            )
        )
    if wanted.simulate % each or wanted.simulate > len(placed):
        most = len(placed) // each * each
        raise InputError(
            Problem(
                f"{where}.replicas.simulate",
                f"{wanted.simulate} replicas are not whole racks of {each}; simulate a multiple of "
                f"{each} up to {most}",
            )
        )
    shown = racks[: wanted.simulate // each]
    like = {}
    if len(shown) < len(racks):
        like = {rack: shown[index % len(shown)] for index, rack in enumerate(racks)}
    return tuple(gpus for rack in shown for gpus in by_rack[rack]), like
