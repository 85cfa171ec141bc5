"""A stretch of steps in arrays: what `engine.stretch`, the roofline and the ledger do."""

from __future__ import annotations

from math import ceil, exp, floor, sqrt
from typing import Any

import numpy as np

from factory_sim.factory.kernel import arrays as at
from factory_sim.factory.kernel.compiled import bits_of, compiled
from factory_sim.factory.kernel.lists import PROMPTS, next_prompt
from factory_sim.metrics.gaps import MOST_S, SMALLEST_S

INSTANT = 1e-9
"""As in `engine.stretch`."""

GUIDE_SHIFT = 44
"""Bits of a gap that do not matter for where among the bins it is looked for: all but the exponent
and eight of the fraction. Gaps alike in these differ by less than a bin is wide, so that they are
in one bin or the next."""

GUIDE_FIRST = int(np.float64(SMALLEST_S).view(np.int64)) >> GUIDE_SHIFT


@compiled
def mixed_step(s: Any, r: int, n: int, context: float, tokens: int) -> None:
    """Make it one step with the chunks of the first prompts: `Roofline.mixed`, `Stretch.one`."""
    rep = at.replica(s, r)
    c = at.clock(s, rep.prompt_clock)
    taking = n + rep.chunks
    host_s = c.mixed_host_s + c.per_sequence_s * taking
    duration_s = host_s + context * c.far_s
    compute_s, memory_s = context * c.far_compute_s, context * c.far_memory_s
    computing, moving = context * c.far_busy_compute_s, context * c.far_busy_memory_s
    if c.state_s > 0.0:
        held_s = taking * c.state_s
        duration_s += held_s * c.stall
        memory_s += held_s
        moving += held_s
    if c.scan_s > 0.0:
        duration_s += c.scan_s / c.clock
        compute_s += c.scan_s
        computing += c.scan_s
    size = n + rep.chunk_tokens
    body, head = at.body(s, rep.prompt_clock, size), at.head(s, rep.prompt_clock, tokens)
    q = at.ends(s, r, PROMPTS).first
    for _ in range(rep.chunks):
        request = at.request(s, q)
        start, length = request.stored, request.chunk
        q = next_prompt(s, q)
        if c.per_pair_s > 0.0 or c.per_token_s > 0.0:
            seen = length * start + length * (length + 1) / 2
            computing_s, moving_s = c.per_pair_s * seen, c.per_token_s * (start + length)
            computing += computing_s
            moving += moving_s
            if computing_s < moving_s:
                memory_s += moving_s
            else:
                compute_s += computing_s
            scaled_s = computing_s / c.clock
            moving_s *= c.stall
            duration_s += scaled_s if scaled_s > moving_s else moving_s
    if c.ahead_mixed_s > 0.0:
        busy_s = duration_s - host_s + body.duration_s + head.duration_s
        if busy_s < c.ahead_mixed_s:
            duration_s += c.ahead_mixed_s - busy_s
            host_s += c.ahead_mixed_s - busy_s
    rep.duration_s = duration_s + body.duration_s + head.duration_s
    rep.compute_s = compute_s + body.compute_s + head.compute_s
    rep.memory_s = memory_s + body.memory_s + head.memory_s
    rep.network_s = body.network_s
    rep.host_s = body.host_s + host_s
    rep.busy_compute_s = computing + body.busy_compute_s + head.busy_compute_s
    rep.busy_memory_s = moving + body.busy_memory_s + head.busy_memory_s
    rep.mixed, rep.steps = 1, 1
    own_s = rep.duration_s - context * c.far_s
    rep.prompts = own_s * (size - n) / (rep.duration_s * size)
    rep.first_s, rep.growth_s = rep.duration_s, 0.0
    rep.end_s = rep.start_s + rep.duration_s
    rep.sequences, rep.tokens = taking, tokens


@compiled
def decode_steps(s: Any, r: int, steps: int, n: int, context: int) -> None:
    """Make it so many decode steps: `Stretch.decode`."""
    rep = at.replica(s, r)
    rep.mixed = 0
    cost = at.decode(s, rep.clock, n)
    far_s = at.clock(s, rep.clock).far_s
    rep.duration_s = cost.duration_s
    rep.busy_compute_s, rep.busy_memory_s = cost.busy_compute_s, cost.busy_memory_s
    rep.sequences, rep.tokens = n, n
    rep.attended = context
    rep.steps = steps
    rep.first_s, rep.growth_s = cost.duration_s + far_s * context, far_s * n
    rep.end_s = rep.start_s + steps * (rep.first_s + rep.growth_s * (steps - 1) / 2)


@compiled
def steps_in(rep: Any, elapsed: float) -> float:
    """Return the steps that `elapsed` seconds hold, not rounded: `Stretch._steps_in`."""
    first, growth = rep.first_s, rep.growth_s
    if elapsed <= 0.0:
        return 0.0
    if growth <= 1e-12 * first:
        return float(elapsed / first)
    half = first - growth / 2
    return float((sqrt(half * half + 2.0 * growth * elapsed) - half) / growth)


@compiled
def steps_by(rep: Any, now: float) -> float:
    """Return the steps done by `now`: `Stretch.steps_by`."""
    if now >= rep.end_s:
        return float(rep.steps)
    return steps_in(rep, now - rep.start_s)


@compiled
def cut(rep: Any, time: float, more: int) -> bool:
    """End at the first boundary at `time` or later, and `more` steps on: `Stretch.cut`."""
    first, half, last = rep.first_s, rep.growth_s / 2, rep.steps - 1 - more
    target = time - rep.start_s - INSTANT
    if last < 1 or last * (first + half * (last - 1)) < target:
        return False
    steps = max(1, ceil(steps_in(rep, target)))
    while steps > 1 and (steps - 1) * (first + half * (steps - 2)) >= target:
        steps -= 1
    while steps * (first + half * (steps - 1)) < target:
        steps += 1
    steps += more
    rep.steps = steps
    rep.end_s = rep.start_s + steps * (first + half * (steps - 1))
    return True


@compiled
def _joules(c: Any, duration_s: float, busy_compute_s: float, busy_memory_s: float) -> float:
    if duration_s <= 0.0:
        return 0.0
    busy_s = c.compute_weight * busy_compute_s + c.memory_weight * busy_memory_s
    activity = 1.0 - exp(-c.active_weight - busy_s / duration_s)
    return float(duration_s * (c.idle_w + c.span_w * activity))


@compiled
def _step_j(c: Any, rep: Any, number: float) -> float:
    context = rep.attended + rep.tokens * number
    return _joules(
        c,
        rep.first_s + rep.growth_s * number,
        rep.busy_compute_s + context * c.far_busy_compute_s,
        rep.busy_memory_s + context * c.far_busy_memory_s,
    )


@compiled
def energy_j(s: Any, r: int, steps: float) -> float:
    """Return the joules of the first `steps` steps, on each GPU: `Stretch.energy_j`."""
    rep = at.replica(s, r)
    if rep.mixed:
        c = at.clock(s, rep.prompt_clock)
        return steps * _joules(c, rep.duration_s, rep.busy_compute_s, rep.busy_memory_s)
    c = at.clock(s, rep.clock)
    half = (steps - 1) / 2
    if rep.tokens * half <= 0.05 * rep.attended:
        return steps * _step_j(c, rep, half)
    joules, start = 0.0, 0.0
    while start < steps:
        doubling = float(floor(rep.attended / rep.tokens + start))
        piece = min(steps - start, 1.0 + doubling)
        last = piece - 1.0
        middle = _step_j(c, rep, start + last / 2.0)
        joules += piece * middle
        if last > 1e-3:
            both = _step_j(c, rep, start) + _step_j(c, rep, start + last)
            joules += (both - 2.0 * middle) * piece * (piece + 1.0) / (6.0 * last)
        start += piece
    return joules


@compiled
def busy_s(rep: Any, steps: float) -> float:
    """Return the seconds of the first `steps` steps."""
    return float(steps * (rep.first_s + rep.growth_s * ((steps - 1) / 2)))


@compiled
def by_cause(s: Any, r: int, steps: float) -> tuple[float, float, float, float]:
    """Return compute, memory, network and host seconds of the first `steps` steps."""
    rep = at.replica(s, r)
    if rep.mixed:
        compute_s, memory_s = steps * rep.compute_s, steps * rep.memory_s
        return compute_s, memory_s, steps * rep.network_s, steps * rep.host_s
    c, cost = at.clock(s, rep.clock), at.decode(s, rep.clock, rep.sequences)
    read = steps * (rep.attended + rep.tokens * ((steps - 1) / 2))
    compute_s = steps * cost.compute_s + read * c.far_compute_s
    memory_s = steps * cost.memory_s + read * c.far_memory_s
    return compute_s, memory_s, steps * cost.network_s, steps * cost.host_s


@compiled
def throttled_s(rep: Any) -> float:
    """Return the seconds that the clocks below the reference have cost: `Ledger.totals`."""
    caused_s = rep.done_compute_s + rep.done_memory_s + rep.done_network_s + rep.done_host_s
    return float(rep.spent_s - rep.kv_full_s - caused_s)


@compiled
def book(s: Any, r: int, steps: float) -> None:
    """Book the first `steps` steps: `Stretch.book`."""
    rep = at.replica(s, r)
    spent_s, joules = busy_s(rep, steps), energy_j(s, r, steps)
    rep.spent_s += spent_s
    rep.energy_j += joules
    rep.made += rep.tokens * steps
    rep.sequence_s += rep.sequences * spent_s
    if rep.mixed:
        rep.prefill_j += joules
        rep.prompt_j += joules * rep.prompts
    if rep.kv_blocked and not rep.mixed:
        rep.kv_full_s += spent_s
    else:
        compute_s, memory_s, network_s, host_s = by_cause(s, r, steps)
        rep.done_compute_s += compute_s
        rep.done_memory_s += memory_s
        rep.done_network_s += network_s
        rep.done_host_s += host_s


# -- gaps between tokens: `metrics.gaps` -----------------------------------------------------


def guide(edges: np.ndarray) -> np.ndarray:
    """Return int32[n]: the bin of the least gap that begins with the same bits.

    edges: float64[bins], where each bin ends, s; the last, never.
    """
    last = int(np.float64(MOST_S).view(np.int64)) >> GUIDE_SHIFT
    least_s = (np.arange(GUIDE_FIRST, last + 1) << GUIDE_SHIFT).view(np.float64)
    return np.searchsorted(edges, least_s, side="right").astype(np.int32)


@compiled
def _bin(s: Any, gap_s: float) -> int:
    """Return the bin of a gap: that of the guide, or the next."""
    gap_s = min(max(gap_s, SMALLEST_S), MOST_S)
    place = at.guide(s)[(bits_of(gap_s) >> GUIDE_SHIFT) - GUIDE_FIRST]
    return int(place + (gap_s >= at.edges(s)[place]))


@compiled
def gaps(s: Any, sequences: int, steps: int, first: float, growth: float) -> None:
    """Count the gaps of `sequences` sequences over `steps` steps: `GapHistogram.steps`."""
    last = steps - 1
    s.gaps += sequences * steps
    s.gap_sum_s += sequences * steps * (first + growth * last / 2)
    squares = first * (first + growth * last) + growth * growth * last * (2 * steps - 1) / 6
    s.gap_squares += sequences * steps * squares
    bins, edges = at.bins(s), at.edges(s)
    longest = first + growth * last
    place, done = _bin(s, first), 0
    while longest >= edges[place]:
        below = min(steps, max(done, floor((edges[place] - first) / growth) + 1))
        bins[place] += (below - done) * sequences
        done = below
        place += 1
    bins[place] += (steps - done) * sequences


@compiled
def hold_all(s: Any, r: int, sequences: int, since_s: float) -> None:
    """Hold back all of so many sequences: `Stalls.hold_all`."""
    rep = at.replica(s, r)
    held, kept = 0, 0
    for place in range(rep.stalls):
        group = at.stall(s, r, place)
        many, last_token_s = group.many, group.last_token_s
        if many > 0.0:
            own = at.stall(s, r, kept)
            own.many, own.last_token_s = many, last_token_s
            held += int(many)
            kept += 1
    if sequences > held:
        own = at.stall(s, r, kept)
        own.many, own.last_token_s = sequences - held, since_s
        kept += 1
    rep.stalls = kept


@compiled
def release(s: Any, r: int, sequences: int) -> None:
    """Tell the gaps of a stretch of sequences held back or not: `Stalls.release`."""
    rep = at.replica(s, r)
    held = 0
    for place in range(rep.stalls):
        group = at.stall(s, r, place)
        many = int(group.many)
        if many > 0:
            gaps(s, many, 1, rep.start_s + rep.first_s - group.last_token_s, 0.0)
        held += many
    rep.stalls = 0
    if sequences > held:
        gaps(s, sequences - held, 1, rep.first_s, 0.0)
    if rep.steps > 1:
        gaps(s, sequences, rep.steps - 1, rep.first_s + rep.growth_s, rep.growth_s)


@compiled
def unstall(s: Any, r: int, last_token_s: float) -> None:
    """Take a sequence that leaves out of its group: `Stalls.leave`."""
    for place in range(at.replica(s, r).stalls):
        group = at.stall(s, r, place)
        if group.last_token_s == last_token_s:
            group.many -= 1
