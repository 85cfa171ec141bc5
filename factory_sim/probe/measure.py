"""The sweep: which work, in which order, how long each, and the points that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from factory_sim.catalog.facts import Precision
from factory_sim.errors import InputError, Problem
from factory_sim.physics import arithmetic
from factory_sim.probe.device import HEAD_DIM, HEADS, KV_HEADS, Device, Lap, Reading, Reduction

Kind = Literal["copy", "gemm", "decode", "prefill"]

LONG = 8
"""A point whose power is read takes so many times as long as one that is timed alone."""

STEADY_S = 2.0
"""And no less than this: a board's energy counter moves every tenth of a second or so."""

WARM_SHARE, WARM_MOST_S = 0.05, 10.0
"""The largest product runs first for a share of the time, as boards slow down when warm."""

DUTIES = (0.3, 0.6)
"""Shares of the time for which the board's two plainest loads run in bursts."""


class Step(NamedTuple):
    """One point of the plan: what work (shape as `Device` takes it), and how to run it."""

    kind: Kind
    precision: Precision
    shape: tuple[int, ...]
    powered: bool = False
    duty: float = 1.0


@dataclass(frozen=True)
class Point:
    """One point measured: flops and bytes of one call, counted as the step time counts them."""

    kind: Kind
    precision: Precision
    shape: tuple[int, ...]
    powered: bool
    duty: float
    flops: float
    moved: float
    reading: Reading


@dataclass(frozen=True)
class Sweep:
    """All that was measured on a device; idle_w is None where its power cannot be read."""

    points: tuple[Point, ...]
    reductions: tuple[Reduction, ...]
    idle_w: float | None


def plan(device: Device) -> list[Step]:
    """Return the points to measure on a device, those with power where it can be read."""
    return list(_steps(device))


def sweep(
    device: Device, seconds: float, progress: Callable[[int, int], None] | None = None
) -> Sweep:
    """Measure all points of the plan in about `seconds`; `progress` hears how many are done.

    Raises InputError for a device without bf16 products, which everything else is related to.
    """
    if "bf16" not in device.precisions:
        raise InputError(
            Problem("--device", f"multiplies no bf16 matrices: {device.left_out['bf16']}")
        )
    powered = device.power_limit_w is not None
    steps = plan(device)
    reduced = device.sizes.reduced if device.count > 1 else ()
    parts = sum(LONG if step.powered else 1 for step in steps) + len(reduced) + LONG * powered
    part_s = (1.0 - WARM_SHARE) * seconds / parts
    long_s = max(STEADY_S, LONG * part_s)
    total = len(steps) + 2 + bool(reduced)

    def done(number: int) -> None:
        if progress is not None:
            progress(number, total)

    done(0)
    idle_w = device.rest(long_s) if powered else None
    done(1)
    warm_up = _lap(device, max(steps, key=lambda step: work_of(step)[0]))
    device.repeat(warm_up, min(WARM_SHARE * seconds, WARM_MOST_S))
    del warm_up  # before more memory is asked for
    done(2)
    points = []
    for number, step in enumerate(steps, start=3):
        took_s = long_s if step.powered else part_s
        reading = device.repeat(_lap(device, step), took_s, step.duty)
        points.append(Point(*step, *work_of(step), reading))
        done(number)
    reductions = device.all_reduce(reduced, part_s) if reduced else []
    done(total)
    return Sweep(tuple(points), tuple(reductions), idle_w)


def work_of(step: Step) -> tuple[float, float]:
    """Return the flops and the bytes of one call, as `physics.arithmetic` counts them.

    A product reads its weights, and reads and writes 16-bit activations; a copy reads and
    writes; decode attention reads keys and values; within a prompt each token attends to
    itself and those before it, and keys and values are read once.
    """
    if step.kind == "copy":
        return 0.0, 2.0 * step.shape[0]
    if step.kind == "gemm":
        rows, inner, outer = step.shape
        gemm = arithmetic.Gemm(inner, outer)
        moved = gemm.weights * arithmetic.BYTES_PER_WEIGHT[step.precision]
        moved += rows * arithmetic.ACTIVATION_BYTES * (inner + outer)
        return 2.0 * rows * gemm.weights, moved
    kept = 2.0 * KV_HEADS * HEAD_DIM * arithmetic.BYTES_PER_WEIGHT["bf16"]
    if step.kind == "decode":
        tokens = float(step.shape[0] * step.shape[1])
        return 4.0 * HEADS * HEAD_DIM * tokens, kept * tokens
    (tokens,) = step.shape
    return 4.0 * HEADS * HEAD_DIM * arithmetic.pairs(0.0, tokens), kept * tokens


def _steps(device: Device) -> Iterator[Step]:
    sizes, powered = device.sizes, device.power_limit_w is not None
    for moved in sizes.copies:
        yield Step("copy", "bf16", (moved,), powered and moved == sizes.copies[-1])
    for precision in device.precisions:
        for shape in sizes.products:
            for rows in sizes.rows:
                # Power over the whole roofline in one precision; of the others, the summit.
                first = shape == sizes.products[0]
                read = first and (precision == "bf16" or rows == sizes.rows[-1])
                yield Step("gemm", precision, (rows, *shape), powered and read)
    for sequences in sizes.sequences:
        fitting = [c for c in sizes.contexts if sequences * c <= sizes.kv_tokens]
        for context in fitting:
            yield Step("decode", "bf16", (sequences, context), powered and context == fitting[-1])
    for tokens in sizes.prompts:
        yield Step("prefill", "bf16", (tokens,), powered and tokens == sizes.prompts[-1])
    if powered:
        for duty in DUTIES:
            yield Step("copy", "bf16", (sizes.copies[-1],), True, duty)
            yield Step("gemm", "bf16", (sizes.rows[-1], *sizes.products[0]), True, duty)


def _lap(device: Device, step: Step) -> Lap:
    if step.kind == "copy":
        return device.copy(*step.shape)
    if step.kind == "gemm":
        rows, inner, outer = step.shape
        return device.gemm(rows, inner, outer, step.precision)
    if step.kind == "decode":
        return device.decode(*step.shape)
    return device.prefill(*step.shape)
