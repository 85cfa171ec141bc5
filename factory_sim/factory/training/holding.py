"""A holding: one training job resolved to its GPUs, its steps, its checkpoints and its watts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf

from factory_sim.catalog import Accelerator, Family, PowerCurve
from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.make import power_of
from factory_sim.factory.site import Gpu, Rack
from factory_sim.physics import training as physics
from factory_sim.physics.power import PowerModel
from factory_sim.physics.training import Rhythm
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.training import Training


@dataclass(frozen=True)
class Holding:
    """One training job on its GPUs.

    where: its path in the scenario. gpus_in: how many it holds in each rack, by name. parameters:
    all of them, and those that a token passes through. rhythm: of its steps at the reference
    clock. steps: of the whole run; between_checkpoints: of them, all without any. write_s: seconds
    to write a checkpoint. restart_s: from a failure until it trains again. mtbf_s: between those of
    the job. computing_w, communicating_w, writing_w: of a GPU at the reference clock. clock: the
    highest that the boards of all its racks keep.
    """

    name: str
    where: str
    spec: Training
    accelerator: Accelerator
    efficiency: Family
    power: PowerModel
    power_curve: PowerCurve
    gpus: tuple[Gpu, ...]
    gpus_in: Mapping[str, int]
    parameters: float
    active_parameters: float
    peak_flops: float
    rhythm: Rhythm
    steps: int
    between_checkpoints: int
    write_s: float
    restart_s: float
    mtbf_s: float
    computing_w: float
    communicating_w: float
    writing_w: float
    clock: float

    @property
    def flops_per_step(self) -> float:
        """Return the model flops of a step, of all GPUs."""
        return physics.training_flops(self.active_parameters, self.spec.global_batch)

    def watts_at(self, watts: float, clock: float) -> float:
        """Return what a GPU draws at a clock that draws `watts` at the reference."""
        idle_w = self.power.idle_w
        return idle_w + (watts - idle_w) * self.power.clock_factor(clock)

    @property
    def mfu(self) -> float:
        """Return the model flops over the peak of all its GPUs while it trains, clocks as held."""
        step_s = self.rhythm.step_at(self.clock)
        return self.flops_per_step / (step_s * self.peak_flops * len(self.gpus))


def hold(
    scenario: Scenario,
    name: str,
    spec: Training,
    free: dict[str, list[Gpu]],
    racks: Mapping[str, Rack],
) -> Holding:
    """Return a job on the last of the `free` GPUs of its system, which it takes away.

    racks: by name. Raises InputError for what does not fit.
    """
    facts, where = scenario.facts, f"training.{name}"
    system = facts.system(spec.system or scenario.racks[0].system)
    accelerator = facts.accelerator(system.accelerator)
    _check_domain(spec, where, system.name, system.scaleup_gpus)
    gpus = _take(spec, where, free.get(system.name, []), system.gpus_per_server)
    parameters, active = _parameters(spec, scenario)
    _check_memory(spec, where, accelerator, parameters)
    peak = accelerator.need(f"flops.{spec.precision}")
    efficiency = facts.efficiency_of(accelerator, spec.precision)
    rhythm = _rhythm(spec, where, parameters, active, peak)
    write_s = _write_s(spec, parameters)
    restart_s = write_s + (spec.failures.restart if spec.failures else 0.0)  # and read it back
    mtbf_s = _mtbf_s(spec, system.gpus_per_server)
    steps = ceil(spec.tokens / spec.global_batch)
    curve = facts.power_curve(accelerator.family)
    power = power_of(accelerator, curve)
    watts = _watts(spec, where, power, efficiency, rhythm, active, peak)
    held_in = Counter(gpu.rack for gpu in gpus)
    return Holding(
        name=name,
        where=where,
        spec=spec,
        accelerator=accelerator,
        efficiency=efficiency,
        power=power,
        power_curve=curve,
        gpus=gpus,
        gpus_in=held_in,
        parameters=parameters,
        active_parameters=active,
        peak_flops=peak,
        rhythm=rhythm,
        steps=steps,
        between_checkpoints=min(steps, _between(spec, rhythm, write_s, mtbf_s, steps)),
        write_s=write_s,
        restart_s=restart_s,
        mtbf_s=mtbf_s,
        computing_w=watts[0],
        communicating_w=watts[1],
        writing_w=watts[2],
        clock=min(_clock(where, racks[rack], power, curve, max(watts)) for rack in held_in),
    )


def _check_domain(spec: Training, where: str, system: str, domain: int) -> None:
    if spec.parallelism.tp > domain:
        raise InputError(
            Problem(
                f"{where}.parallelism.tp",
                f"{spec.parallelism.tp} GPUs do not share one scale-up domain; {system} has "
                f"{domain}",
            )
        )


def _parameters(spec: Training, scenario: Scenario) -> tuple[float, float]:
    """Return all parameters of the model, and those that a token passes through."""
    if spec.model is None:
        parameters = spec.parameters or 0.0
        return parameters, spec.active_parameters or parameters
    model = scenario.facts.model(spec.model)
    active = model.active_parameters or model.parameters
    return model.parameters.value, active.value


def _take(spec: Training, where: str, free: list[Gpu], each: int) -> tuple[Gpu, ...]:
    """Take the last free GPUs, in whole servers: what is switched off or fails is a server."""
    if spec.gpus % each:
        low = spec.gpus // each * each
        raise InputError(
            Problem(
                f"{where}.gpus",
                f"{spec.gpus} are not whole servers of {each}; take "
                + (f"{low} or {low + each}" if low else f"{each}"),
            )
        )
    if spec.gpus > len(free):
        raise InputError(
            Problem(
                f"{where}.gpus",
                f"{spec.gpus:,} are asked for, and {len(free):,} are free; ask for fewer, or have "
                "more racks",
            )
        )
    taken = tuple(free[-spec.gpus :])
    del free[-spec.gpus :]
    return taken


def _check_memory(spec: Training, where: str, chip: Accelerator, parameters: float) -> None:
    split = spec.parallelism.tp * spec.parallelism.pp
    need = physics.state_bytes(parameters, split, spec.data_ranks, spec.parallelism.zero)
    hbm = chip.need("hbm")
    if need > hbm:
        raise InputError(
            Problem(
                f"{where}.parallelism",
                f"weights, gradients and optimizer need {need / 1e9:,.1f} GB a GPU, and a "
                f"{chip.name} has {hbm / 1e9:,.1f} GB, activations not counted; raise tp, pp or "
                "zero, or take more GPUs",
            )
        )


def _rhythm(spec: Training, where: str, parameters: float, active: float, peak: float) -> Rhythm:
    """Return how a step is spent at the reference clock, by what is given of it."""
    spread, exchange = spec.parallelism, 0.0
    if spec.gradients is not None:
        size = physics.GRADIENT_BYTES * parameters / (spread.tp * spread.pp)
        whole_s = physics.exchange_s(size, spec.data_ranks, spec.gradients.bandwidth, spread.zero)
        exchange = (1.0 - spec.gradients.overlap) * whole_s
    ideal_s = physics.training_flops(active, spec.global_batch) / (peak * spec.gpus)
    if spec.kernel_mfu is not None:
        bubble = physics.bubble_share(spread.pp, spread.micro_batches or 1)
        return Rhythm(ideal_s / spec.kernel_mfu / (1.0 - bubble), exchange)
    step_s = ideal_s / (spec.mfu or 1.0)
    if exchange >= step_s:
        raise InputError(
            Problem(
                f"{where}.gradients",
                f"take {exchange:,.3g} s to exchange, and a step at mfu {spec.mfu:.0%} takes "
                f"{step_s:,.3g} s; give more bandwidth or overlap, or a larger global_batch",
            )
        )
    return Rhythm(step_s - exchange, exchange)


def _write_s(spec: Training, parameters: float) -> float:
    if spec.checkpoint is None:
        return 0.0
    each = spec.checkpoint.bytes_per_parameter or physics.CHECKPOINT_BYTES
    return each * parameters / spec.checkpoint.bandwidth


def _mtbf_s(spec: Training, gpus_per_server: int) -> float:
    """Return the mean time between failures of the job: any GPU's stops it."""
    failures = spec.failures
    if failures is None:
        return inf
    if failures.gpu_mtbf is not None:
        return failures.gpu_mtbf / spec.gpus
    return (failures.server_mtbf or inf) * gpus_per_server / spec.gpus


def _between(spec: Training, rhythm: Rhythm, write_s: float, mtbf_s: float, steps: int) -> int:
    """Return the steps between two checkpoints; all of them where there are none."""
    if spec.checkpoint is None:
        return steps
    interval = spec.checkpoint.interval
    if interval == "optimal":
        interval = physics.daly_interval_s(write_s, mtbf_s)
    return max(1, round(interval / rhythm.step_s))


def _watts(
    spec: Training,
    where: str,
    power: PowerModel,
    efficiency: Family,
    rhythm: Rhythm,
    active: float,
    peak: float,
) -> tuple[float, float, float]:
    """Return the watts of a GPU that computes, communicates and writes a checkpoint.

    By the power model: arithmetic as busy as the MFU asks for while computing, bytes on their way
    for the rest of it; while communicating and writing, neither: kernels that run at all. In
    production GPUs come near their limit in the one and near idle in the others (Choukse et al.
    2025, arXiv:2508.14318).
    """
    at = power.at(1.0)
    ideal_s = physics.training_flops(active, spec.global_batch) / (peak * spec.gpus)
    busy = min(1.0, ideal_s / rhythm.computing_s / efficiency.gemm_compute.value)
    models = {
        "computing": at.energy_j(1.0, busy, 1.0 - busy),
        "communicating": at.energy_j(1.0, 0.0, 0.0),
        "checkpointing": at.energy_j(1.0, 0.0, 0.0),
    }
    found = []
    for phase, model_w in models.items():
        share = getattr(spec.power, phase)
        watts = model_w if share is None else share * power.tdp_w
        if watts < power.idle_w:
            raise InputError(
                Problem(
                    f"{where}.power.{phase}",
                    f"{share:.0%} of {power.tdp_w:g} W are less than the {power.idle_w:g} W of a "
                    f"GPU at rest; give at least {power.idle_w / power.tdp_w:.0%}",
                )
            )
        found.append(watts)
    return found[0], found[1], found[2]


def _clock(where: str, rack: Rack, power: PowerModel, curve: PowerCurve, most_w: float) -> float:
    """Return the clock at which boards of a rack keep their limit, at most that they are locked at.

    most_w: of a GPU at the reference clock, in the phase that draws most.
    """
    lowest, room_w = curve.clock_floor.value, rack.gpu_limit_w - power.idle_w
    needed = power.clock_for(room_w / (most_w - power.idle_w)) if most_w > power.idle_w else 1.0
    if needed < lowest:
        raise InputError(
            Problem(
                where,
                f"GPUs of {rack.name} would draw {most_w:,.0f} W and are held to "
                f"{rack.gpu_limit_w:,.0f} W (racks.gpu_power_limit), which even the lowest clock "
                f"({lowest:.0%}) exceeds; raise it",
            )
        )
    return min(needed, rack.gpu_clock)
