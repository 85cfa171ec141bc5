"""Laying out the factory: racks under the cap, replicas on named GPUs, memory for the cache.

This is all that can be known before a run. It finds every problem of a scenario that its
text alone does not show: a model too big for its GPUs, racks that do not fit under the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from factory_sim.catalog import Accelerator, Engine, Model, Precision
from factory_sim.catalog.entries import Family, PowerCurve
from factory_sim.errors import InputError, Problem
from factory_sim.factory.site import Gpu, Rack, Server, Site
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Gpu as GpuPhysics
from factory_sim.physics.hardware import Host, Shard
from factory_sim.physics.memory import KvMemory, kv_memory
from factory_sim.physics.power import PowerModel
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.site import Racks

STATIC_STEP_TOKENS = 8192
"""Prompt tokens whose activations static batching sets memory aside for."""


@dataclass(frozen=True)
class Fleet:
    """One deployment, resolved: its engine settings, physics, and the GPUs of each replica."""

    name: str
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
    gpu: GpuPhysics
    shard: Shard
    host: Host
    power: PowerModel
    memory: KvMemory
    replicas: tuple[tuple[Gpu, ...], ...]

    @property
    def gpus_per_replica(self) -> int:
        """Return the GPUs that one copy of the model spans."""
        return self.spec.parallelism.tp


@dataclass(frozen=True)
class Layout:
    """The factory before it runs. provisioned_it_w: set aside for its racks, at their inlets."""

    scenario: Scenario
    site: Site
    fleets: tuple[Fleet, ...]

    @property
    def spare_gpus(self) -> int:
        """Return the GPUs that no replica uses; they draw idle power."""
        used = sum(len(gpus) for fleet in self.fleets for gpus in fleet.replicas)
        return len(self.site.gpus) - used

    @property
    def provisioned_grid_w(self) -> float:
        """Return the utility watts set aside: nameplates with PUE, at most the grid limit."""
        nameplate = self.site.nameplate_it_w() * self.site.pue
        return min(nameplate, _limit_w(self.scenario))


def lay_out(scenario: Scenario) -> Layout:
    """Return the factory that `scenario` describes; InputError with every problem found."""
    problems: list[Problem] = []
    racks = _racks(scenario, problems)
    site = Site(racks, _pue(scenario))
    free: dict[str, list[Gpu]] = {}
    for rack in racks:
        gpus = free.setdefault(rack.system.name, [])
        gpus += [gpu for server in rack.servers for gpu in server.gpus]
    fleets = []
    # Deployments that count their replicas choose first; 'fill' takes what is left.
    for name, spec in sorted(
        scenario.deployments.items(), key=lambda item: item[1].replicas == "fill"
    ):
        try:
            fleets.append(_fleet(scenario, name, spec, free))
        except InputError as error:
            problems += [
                Problem(p.path or f"deployments.{name}", p.message) for p in error.problems
            ]
    if problems:
        raise InputError(problems)
    order = list(scenario.deployments)
    return Layout(scenario, site, tuple(sorted(fleets, key=lambda f: order.index(f.name))))


# -- racks -----------------------------------------------------------------------------


def _pue(scenario: Scenario) -> float:
    if scenario.site.cooling is not None:
        return scenario.facts.cooling_plant(scenario.site.cooling).pue.value
    return float(scenario.site.pue or 1.0)


def _limit_w(scenario: Scenario) -> float:
    return float(scenario.site.grid_limit.at(0.0))


def _racks(scenario: Scenario, problems: list[Problem]) -> list[Rack]:
    """Return the racks, with 'fill' resolved, and check their sum against the limit."""
    limit_w = _limit_w(scenario)
    pue = _pue(scenario)
    basis = scenario.provisioning.basis
    allowed_w = limit_w * scenario.provisioning.oversubscribe
    used_w = 0.0
    rows: list[tuple[int, Racks, int]] = []
    for index, row in sorted(enumerate(scenario.racks), key=lambda item: item[1].count == "fill"):
        try:
            one = _rack(scenario, row, "", 0)
            need_w = pue * (one.nameplate_w if basis == "nameplate" else one.peak_w)
        except InputError as error:
            problems += [Problem(f"racks.{index}.system", p.message) for p in error.problems]
            continue
        if row.count != "fill":
            used_w += need_w * row.count
            rows.append((index, row, row.count))
            continue
        count = int((allowed_w - used_w) / need_w + 1e-9)
        if count < 1:
            problems.append(
                Problem(
                    f"racks.{index}.count",
                    f"no rack fits: one {row.system} rack needs {need_w / 1e3:.1f} kW at the "
                    f"meter ({basis}), and {max(0.0, allowed_w - used_w) / 1e3:.1f} kW are free; "
                    f"raise site.grid_limit by {(need_w + used_w - allowed_w) / 1e3:.1f} kW, or "
                    "take a smaller racks.servers_per_rack",
                )
            )
        else:
            used_w += need_w * count
            rows.append((index, row, count))
    if used_w > allowed_w * (1 + 1e-9):
        ratio = used_w / limit_w
        problems.append(
            Problem(
                "racks",
                f"need {used_w / 1e3:.1f} kW at the meter ({basis}), more than site.grid_limit "
                f"({limit_w / 1e3:.1f} kW) allows; have fewer racks, or ask for it with "
                f"'provisioning: {{oversubscribe: {ratio + 0.005:.2f}}}'",
            )
        )
    racks: list[Rack] = []
    for _, row, count in sorted(rows, key=lambda item: item[0]):
        for _ in range(count):
            gpus = sum(len(server.gpus) for rack in racks for server in rack.servers)
            racks.append(_rack(scenario, row, f"rack-{len(racks)}", gpus))
    lowest_w = scenario.site.grid_limit.min_over(0.0, scenario.duration + scenario.drain)
    idle_w = sum(rack.idle_w for rack in racks) * pue
    if idle_w > lowest_w:
        problems.append(
            Problem(
                "site.grid_limit",
                f"falls to {lowest_w / 1e3:.1f} kW, but the racks draw {idle_w / 1e3:.1f} kW "
                f"even when idle; raise it by {(idle_w - lowest_w) / 1e3:.1f} kW or have fewer "
                "racks",
            )
        )
    return racks


def _rack(scenario: Scenario, row: Racks, name: str, first_gpu: int) -> Rack:
    """Return one rack of the row; its GPUs are numbered from `first_gpu` on."""
    system = scenario.facts.system(row.system)
    accelerator = scenario.facts.accelerator(system.accelerator)
    accelerator.need("tdp"), accelerator.need("idle")
    servers = []
    for number in range(row.servers_per_rack or system.servers_per_rack):
        gpus = []
        for slot in range(system.gpus_per_server):
            place = number * system.gpus_per_server + slot
            gpus.append(
                Gpu(
                    first_gpu + place,
                    f"{name}/server-{number}/gpu-{slot}",
                    f"{name}/domain-{place // system.scaleup_gpus}",
                )
            )
        servers.append(Server(f"{name}/server-{number}", tuple(gpus)))
    return Rack(name, system, accelerator, tuple(servers))


# -- deployments -----------------------------------------------------------------------


def _fleet(scenario: Scenario, name: str, spec: Deployment, free: dict[str, list[Gpu]]) -> Fleet:
    facts = scenario.facts
    system = facts.system(spec.system or scenario.racks[0].system)
    accelerator = facts.accelerator(system.accelerator)
    model = facts.model(spec.model)
    engine = facts.engine(spec.engine.profile)
    precision: Precision = "bf16" if spec.precision == "fp16" else spec.precision
    arithmetic = accelerator.arithmetic(precision)
    efficiency = facts.efficiency(accelerator.family, arithmetic)
    tp, ep = spec.parallelism.tp, spec.parallelism.ep
    where = f"deployments.{name}"
    if tp > system.scaleup_gpus:
        raise InputError(
            Problem(
                f"{where}.parallelism.tp",
                f"{tp} GPUs do not share one scale-up domain; {system.name} has "
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
    batching = spec.engine.batching or engine.defaults.batching
    max_num_seqs = spec.engine.max_num_seqs or engine.defaults.max_num_seqs
    max_tokens = STATIC_STEP_TOKENS
    if batching != "static":
        max_tokens = spec.engine.max_num_batched_tokens or max(
            engine.defaults.max_num_batched_tokens, max_num_seqs
        )
        if max_tokens < max_num_seqs:
            raise InputError(
                Problem(
                    f"{where}.engine.max_num_batched_tokens",
                    f"must be at least max_num_seqs ({max_num_seqs}), not {max_tokens}",
                )
            )
    shard = Shard(
        model,
        tp,
        ep,
        work.BYTES_PER_WEIGHT[precision],
        work.BYTES_PER_WEIGHT[spec.kv_precision],
    )
    memory = kv_memory(
        shard,
        accelerator.need("hbm"),
        spec.engine.gpu_memory_utilization or engine.defaults.gpu_memory_utilization,
        engine.graph_and_runtime.value,
        max_num_seqs,
        max_tokens,
        engine.defaults.block_tokens,
    )
    if memory.blocks < 1:
        raise InputError(
            Problem(f"{where}.parallelism.tp", _too_big(memory, model, accelerator, tp))
        )
    curve = facts.power_curve(accelerator.family)
    return Fleet(
        name=name,
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
        gpu=physics_of(accelerator, arithmetic, efficiency, tp),
        shard=shard,
        host=Host(engine.per_step.value, engine.per_sequence.value, engine.per_request.value),
        power=PowerModel(
            idle_w=accelerator.need("idle"),
            tdp_w=accelerator.need("tdp"),
            compute_weight=curve.compute_weight.value,
            compute_exponent=curve.compute_exponent.value,
            memory_weight=curve.memory_weight.value,
            memory_exponent=curve.memory_exponent.value,
            clock_exponent=curve.clock_exponent.value,
            voltage_floor=curve.voltage_floor.value,
        ),
        memory=memory,
        replicas=_place(spec, where, free.get(system.name, []), tp),
    )


def physics_of(
    accelerator: Accelerator, arithmetic: Precision, efficiency: Family, tp: int
) -> GpuPhysics:
    """Return the numbers of an accelerator, at this arithmetic, that step times need.

    Raises InputError where one of them is not published.
    """
    return GpuPhysics(
        flops=accelerator.need(f"flops.{arithmetic}"),
        flops_bf16=accelerator.need("flops.bf16"),
        bandwidth=accelerator.need("hbm_bandwidth"),
        link=accelerator.need("scaleup_bandwidth") if tp > 1 else 1.0,
        gemm_compute=efficiency.gemm_compute.value,
        gemm_memory=efficiency.gemm_memory.value,
        attention_compute=efficiency.attention_compute.value,
        kv_memory=efficiency.kv_memory.value,
        elementwise_memory=efficiency.elementwise_memory.value,
        per_layer_s=efficiency.per_layer.value,
        allreduce_latency_s=efficiency.allreduce_latency.value,
        network=efficiency.network.value,
    )


def _too_big(memory: KvMemory, model: Model, accelerator: Accelerator, tp: int) -> str:
    short_gb = (memory.bytes_per_token * memory.block_tokens - memory.kv_bytes) / 1e9
    return (
        f"{model.name} does not fit: weights need {memory.weight_bytes / 1e9:.1f} GB a GPU, "
        f"activations and runtime {(memory.activation_bytes + memory.runtime_bytes) / 1e9:.1f} GB, "
        f"and a {accelerator.name} has {memory.usable_bytes / 1e9:.1f} GB to use; "
        f"{short_gb:.1f} GB are missing. Use more GPUs than tp: {tp}, a smaller precision, or "
        "another accelerator"
    )


def _place(spec: Deployment, where: str, free: list[Gpu], tp: int) -> tuple[tuple[Gpu, ...], ...]:
    """Take free GPUs for each replica, all of one replica inside one scale-up domain."""
    wanted = spec.replicas
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
