"""What autoscaling may ask for: between no replica and those that are placed."""

from __future__ import annotations

from math import ceil

from factory_sim.errors import InputError, Problem
from factory_sim.scenario.autoscaling import Reactive, Scheduled


def check_scaling(where: str, spec: Reactive | Scheduled, placed: int) -> None:
    """Raise InputError where autoscaling asks for more replicas than are placed, or for all."""
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
