"""Shards of real models on real GPUs, for tests of the physics: before any calibration."""

from __future__ import annotations

from functools import cache

from factory_sim.catalog import Precision, load_catalog
from factory_sim.catalog.catalog import uncalibrated
from factory_sim.catalog.parameters import with_values
from factory_sim.factory.fleets.make import chip_of
from factory_sim.physics.arithmetic import BYTES_PER_WEIGHT
from factory_sim.physics.hardware import Host, Shard
from factory_sim.physics.step_time import Roofline

FACTS = uncalibrated()
NO_HOST = Host(0.0, 0.0, 0.0)


def shard(model: str, precision: Precision = "bf16", tp: int = 1, ep: int = 1) -> Shard:
    return Shard(load_catalog().model(model), tp, ep, BYTES_PER_WEIGHT[precision], 2.0)


@cache
def roofline(
    model: str,
    gpu: str = "h100-sxm",
    precision: Precision = "bf16",
    tp: int = 1,
    ep: int = 1,
    clock: float = 1.0,
    host: Host = NO_HOST,
    most: int = 256,
    draw: tuple[tuple[str, float], ...] = (),
) -> Roofline:
    """Return the step time of a shard. draw: figures of the GPU's power curve, otherwise."""
    facts = FACTS
    accelerator = facts.accelerator(gpu)
    arithmetic = accelerator.arithmetic(precision)
    efficiency = facts.efficiency(accelerator.family, arithmetic)
    family = accelerator.family
    facts = with_values(facts, {f"power.{family}.{name}": value for name, value in draw})
    engine, curve = facts.engine("ideal"), facts.power_curve(family)
    chip = chip_of(accelerator, arithmetic, efficiency, efficiency, engine, curve, tp)
    return Roofline(chip, shard(model, precision, tp, ep), host, clock, most, 512)
