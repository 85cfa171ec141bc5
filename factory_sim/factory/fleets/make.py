"""From a deployment of the scenario to a fleet: its settings, physics, memory, and its place."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from sys import maxsize

from factory_sim.catalog import Accelerator, Engine, Family, Model, PowerCurve, Precision
from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.drafting import drafting_of
from factory_sim.factory.fleets.fleet import PREFILL, Fleet, deployment_of, path_of, stage_shard
from factory_sim.factory.fleets.parallelism import check_parallelism, shard_of
from factory_sim.factory.fleets.partition import part_of
from factory_sim.factory.fleets.placing import place, simulated
from factory_sim.factory.fleets.precision import multiplied_in
from factory_sim.factory.fleets.seeing import beside, images_of, vision_of
from factory_sim.factory.scaling.limits import check_scaling
from factory_sim.factory.site import Gpu
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Chip, Host, Shard
from factory_sim.physics.memory import KvMemory, kv_memory
from factory_sim.physics.pipeline import Stage, stages_of
from factory_sim.physics.power import PowerModel
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.scenario import Scenario

HOP_S = 4e-6
"""Seconds of one hop over NICs beside its bytes: what NCCL reckons with to choose an algorithm
(src/graph/tuning.cc, hwLat: network, ring, LL128). An estimate: it depends on NICs and switches."""

STATIC_STEP_TOKENS = 8192
"""Prompt tokens whose activations static batching sets memory aside for."""


def make_fleet(
    scenario: Scenario, name: str, spec: Deployment, free: dict[str, list[Gpu]]
) -> Fleet:
    """Return a pool with its replicas placed on `free` GPUs, which it takes away.

    free: GPUs in no replica yet, by system. Raises InputError for what does not fit.
    """
    facts = scenario.facts
    where = path_of(name)
    system = facts.system(spec.system or scenario.racks[0].system)
    accelerator = part_of(where, facts.accelerator(system.accelerator), spec)
    model = facts.model(spec.model)
    engine = facts.engine(spec.engine.profile)
    precision: Precision = "bf16" if spec.precision == "fp16" else spec.precision
    arithmetic = multiplied_in(where, accelerator, precision, spec, facts)
    efficiency = facts.efficiency_of(accelerator, precision)
    cache = accelerator.arithmetic(spec.kv_precision)
    attention = facts.efficiency(accelerator.family, cache)
    curve = facts.power_curve(accelerator.family)
    gpus = spec.parallelism.gpus
    check_parallelism(where, spec, system, model)
    prompts = name.endswith(PREFILL)
    batching, max_num_seqs, max_tokens = _limits(where, spec, engine, decodes=not prompts)
    weight_bytes, kv_bytes = (work.BYTES_PER_WEIGHT[p] for p in (precision, spec.kv_precision))
    shard = shard_of(model, spec.parallelism, weight_bytes, kv_bytes)
    stages = tuple(stages_of(model, spec.parallelism.pp))
    memory = _memory(accelerator, shard, stages, spec, engine, max_num_seqs, max_tokens)
    said = path_of(deployment_of(name))
    drafting = drafting_of(said, spec.engine.speculation, facts, shard, memory.block_tokens)
    if drafting is not None:
        memory = drafting.beside(memory, shard, max_num_seqs)
        drafting = drafting.of_prompts() if prompts else drafting
    images, vision = images_of(scenario, deployment_of(name)), None
    if images is not None and spec.prefill is None and spec.encoder is None:
        row = facts.efficiency(accelerator.family, "bf16")
        eyes = chip_of(accelerator, "bf16", row, row, engine, curve, gpus)
        vision = vision_of(where, spec, model, images, eyes)
        memory = beside(memory, vision)
    if memory.blocks < 1:
        field = "parallelism.tp" if spec.partition is None else "partition"
        raise InputError(Problem(f"{where}.{field}", _too_big(memory, model, accelerator, spec)))
    here = free.get(system.name, [])
    represented, replicas, like = _stand(where, spec, here, accelerator, system.scaleup_gpus)
    return Fleet(
        name=name,
        where=where,
        spec=spec,
        model=model,
        accelerator=accelerator,
        system=system,
        engine=engine,
        efficiency=efficiency,
        power_curve=curve,
        precision=precision,
        batching=batching,
        max_num_seqs=max_num_seqs,
        max_step_tokens=max_tokens,
        chip=chip_of(
            accelerator, arithmetic, efficiency, attention, engine, curve, gpus, system.scaleup_gpus
        ),
        shard=shard,
        stages=stages,
        host=Host(
            engine.per_step.value,
            engine.per_sequence.value,
            engine.per_request.value,
            engine.eager_per_layer.value,
            engine.launches_ahead,
        ),
        power=power_of(accelerator, curve),
        memory=memory,
        replicas=replicas,
        represented=represented,
        like=like,
        drafting=drafting,
        vision=vision,
    )


def _memory(
    accelerator: Accelerator,
    shard: Shard,
    stages: Sequence[Stage],
    spec: Deployment,
    engine: Engine,
    max_num_seqs: int,
    max_step_tokens: int,
) -> KvMemory:
    """Return the memory of a GPU in that stage of the pipeline which holds the fewest tokens."""
    memories = [
        kv_memory(
            stage_shard(shard, stage),
            accelerator.need("hbm"),
            spec.engine.gpu_memory_utilization or engine.defaults.gpu_memory_utilization,
            engine.graph_and_runtime.value,
            max_num_seqs,
            max_step_tokens,
            engine.defaults.block_tokens,
            len(stages),
        )
        for stage in stages
    ]
    return min(memories, key=lambda each: each.kv_bytes / each.bytes_per_token)


def _stand(
    where: str, spec: Deployment, free: list[Gpu], accelerator: Accelerator, domain: int
) -> tuple[int, tuple[tuple[Gpu, ...], ...], dict[str, str]]:
    """Place the replicas, in domains of so many GPUs.

    Return how many there are, those that are simulated, and which rack stands for which.
    """
    cut = spec.partition
    parts = 1 if cut is None else accelerator.partitions[cut].value.instances
    placed = place(spec, where, free, spec.parallelism.gpus, domain, parts)
    if spec.autoscaling is not None:
        check_scaling(f"{where}.autoscaling", spec.autoscaling, len(placed))
    replicas, like = simulated(spec, where, placed)
    if spec.router.pods > len(placed):
        raise InputError(
            Problem(
                f"{where}.router.pods",
                f"{spec.router.pods} pods have only {len(placed)} replicas among them; ask for "
                "fewer pods",
            )
        )
    return len(placed), replicas, like


def _limits(where: str, spec: Deployment, engine: Engine, decodes: bool) -> tuple[str, int, int]:
    """Return the batching policy, the most sequences and the most tokens of a step.

    decodes: whether sequences decode there, and their drafts take part in a step.
    """
    batching = spec.engine.batching or engine.defaults.batching
    max_num_seqs = spec.engine.max_num_seqs or engine.defaults.max_num_seqs
    if batching == "static":
        return batching, max_num_seqs, STATIC_STEP_TOKENS
    speculation = spec.engine.speculation
    each = 1 + speculation.num_speculative_tokens if speculation and decodes else 1
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


def power_of(accelerator: Accelerator, curve: PowerCurve) -> PowerModel:
    """Return the power model of a board at work; InputError if a figure is missing."""
    return PowerModel(
        idle_w=accelerator.need("idle"),
        tdp_w=accelerator.need("tdp"),
        active_weight=curve.active_weight.value,
        compute_weight=curve.compute_weight.value,
        memory_weight=curve.memory_weight.value,
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
    domain: int = maxsize,
) -> Chip:
    """Return the numbers of an accelerator, at this arithmetic, that step times need.

    attention: the row of the family for the precision of the KV cache. gpus: of a replica; domain:
    how many share a scale-up domain. Raises InputError where one of them is not published.
    """
    far = gpus > domain
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
        scan_per_layer_s=engine.scan_per_mamba_layer.value,
        operand_bytes=work.BYTES_PER_WEIGHT[arithmetic],
        domain=domain if far else maxsize,
        scaleout=accelerator.need("scaleout_bandwidth") if far else inf,
        hop_s=HOP_S if far else 0.0,
        narrow_draw=curve.narrow_factor.value,
        expert_draw=curve.expert_factor.value,
        cache_draw=curve.cache_factor.value,
    )


def _too_big(memory: KvMemory, model: Model, accelerator: Accelerator, spec: Deployment) -> str:
    part = spec.partition
    short_gb = (memory.bytes_per_token * memory.block_tokens - memory.kv_bytes) / 1e9
    kept = memory.window_bytes + memory.state_bytes
    return (
        f"{model.name} does not fit: weights need {memory.weight_bytes / 1e9:.1f} GB a GPU, "
        f"activations and runtime {(memory.activation_bytes + memory.runtime_bytes) / 1e9:.1f} GB, "
        + (f"windows and states of max_num_seqs sequences {kept / 1e9:.1f} GB, " if kept else "")
        + f"and a {f'{part} of ' if part else ''}{accelerator.name} has "
        f"{memory.usable_bytes / 1e9:.1f} GB to use; {short_gb:.1f} GB are missing. Use "
        + ("a larger part" if part else f"more GPUs than tp: {spec.parallelism.gpus}")
        + ", a smaller precision, "
        + ("a lower engine.max_num_seqs, " if kept else "")
        + "or another accelerator"
    )
