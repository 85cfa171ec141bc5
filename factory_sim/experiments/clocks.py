"""What each clock yields: pace, watts and joules a token, by phase, and the best of them.

Computed from the step-time and power models of a deployment, without a run: decode with the batch
of its best steady state, prefill with steps full of prompts. A GPU draws idle watts whatever its
clock, and so does the server around it; a slower step pays them for longer. So joules a token have
a least value below the reference clock, and another one seen from the meter than from the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from factory_sim.factory.board import STEP as BOARD_STEP
from factory_sim.factory.build import even_step_time
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import Layout
from factory_sim.factory.site import Rack
from factory_sim.physics.ideal import ideal
from factory_sim.physics.step_time import Chunk, Cost, StepTime

STEP = 0.05
"""Between one clock and the next, as a share of the reference."""


class Phase(NamedTuple):
    """One phase at one clock: tokens/s of a replica, watts of a GPU, and joules a token.

    gpu_j: of the GPUs alone; site_j: with servers, the power chain and cooling.
    """

    tokens_per_s: float
    gpu_w: float
    gpu_j: float
    site_j: float


class Point(NamedTuple):
    """What a clock, a share of the reference, yields in each phase."""

    clock: float
    prefill: Phase
    decode: Phase

    def of(self, phase: str) -> Phase:
        """Return one phase, `prefill` or `decode`."""
        return {"prefill": self.prefill, "decode": self.decode}[phase]


def clocks(
    layout: Layout,
    fleet: Fleet,
    prompt: float,
    output: float,
    cached: float = 0.0,
    images: float = 0.0,
) -> list[Point]:
    """Return a point for each clock from the highest that its racks allow to the lowest useful one.

    A phase that would draw more than the boards' power limit is that at the clock they lower it to.
    prompt, output, cached: mean tokens of a request, which set batch and context. images: of a
    request in the mean, which steps with its prompt encode where the replica does that itself.
    """
    most = max(1, min(fleet.max_num_seqs, int(fleet.memory.tokens / (prompt + output / 2))))
    seen = images if fleet.vision is not None else 0.0
    batch = most  # of one that only decodes
    if fleet.phases != ("decode",):
        step_time = even_step_time(fleet, 1.0)
        budget, each = fleet.max_step_tokens, fleet.tokens_per_step
        batch = ideal(step_time, prompt, output, cached, most, budget, each, seen).batch
    rack = layout.site.rack(fleet.replicas[0][0].index)
    lowest = fleet.power_curve.clock_floor.value
    steps = int((1.0 - lowest) / STEP + 1e-9)
    allowed = [1.0 - STEP * step for step in range(steps + 1)]
    return [
        _point(layout, rack, fleet, clock, batch, prompt + output / 2, seen / (prompt - cached))
        for clock in allowed
        if clock <= rack.gpu_clock + 1e-9
    ]


def best(points: list[Point], phase: str) -> Point:
    """Return the point with the fewest joules a token, at the meter. phase: prefill or decode."""
    return min(points, key=lambda point: point.of(phase).site_j)


def _point(
    layout: Layout,
    rack: Rack,
    fleet: Fleet,
    clock: float,
    batch: int,
    context: float,
    images_per_token: float,
) -> Point:
    def prefill(step_time: StepTime) -> Cost:
        cost = step_time.mixed(0, 0, 0, [Chunk(0, fleet.max_step_tokens)], 1)
        images = images_per_token * fleet.max_step_tokens
        if not images:
            return cost
        whole = max(1, round(images))
        encoding = step_time.encode(whole)  # type: ignore[attr-defined]
        return Cost._make(a + images / whole * b for a, b in zip(cost, encoding, strict=True))

    def decode(step_time: StepTime) -> Cost:
        return _decode(step_time, batch, round(batch * context))

    return Point(
        clock,
        _phase(layout, rack, fleet, clock, prefill, fleet.max_step_tokens),
        _phase(layout, rack, fleet, clock, decode, batch * fleet.tokens_per_step),
    )


def _decode(step_time: StepTime, batch: int, context: int) -> Cost:
    """Return the cost of a decode step with that much context."""
    windowed = min(context, batch * step_time.window)
    far, near = step_time.per_context, step_time.per_windowed
    fixed = step_time.decode(batch)
    return Cost._make(
        a + context * b + windowed * c for a, b, c in zip(fixed, far, near, strict=True)
    )


def _phase(
    layout: Layout,
    rack: Rack,
    fleet: Fleet,
    clock: float,
    cost_of: Callable[[StepTime], Cost],
    tokens: float,
) -> Phase:
    lowest = fleet.power_curve.clock_floor.value
    while True:
        cost = cost_of(even_step_time(fleet, clock))
        gpu_w = fleet.power.at(clock).power_w(cost)
        if gpu_w <= rack.gpu_limit_w or clock - BOARD_STEP < lowest:
            break
        clock -= BOARD_STEP
    rate = fleet.batches * tokens / cost.duration_s
    # Its share of the rack, with what the building adds to a busy site.
    rack_w = rack.load.draw(gpu_w * rack.gpus).inlet + rack.switches_w
    peak = layout.peak
    site_w = rack_w / rack.gpus * peak.load_w / peak.it_w
    each = fleet.gpus_per_replica / rate
    return Phase(rate, gpu_w, gpu_w * each, site_w * each)
