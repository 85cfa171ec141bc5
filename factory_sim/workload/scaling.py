"""Making a recorded trace larger, smaller, faster or endless without inventing requests."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from factory_sim.scenario.workload import (
    ClosedArrivals,
    MmppArrivals,
    OfflineArrivals,
    StagedArrivals,
    TraceArrivals,
    WorkloadSpec,
)
from factory_sim.workload.prefixes import apart, count_of
from factory_sim.workload.traces import Trace

Floats = NDArray[np.float64]


def thinned(spec: WorkloadSpec, share: float) -> WorkloadSpec:
    """Return a workload that sends that share of its requests, otherwise the same.

    Rates, counts and clients are multiplied; of a trace that share of the sessions is kept.
    """
    if share == 1.0:
        return spec
    arrivals = spec.arrivals
    changed: dict[str, Any] = {}
    if isinstance(arrivals, TraceArrivals):
        changed["thin"] = arrivals.thin * share
    elif isinstance(arrivals, ClosedArrivals):
        changed["concurrency"] = max(1, round(arrivals.concurrency * share))
    elif isinstance(arrivals, MmppArrivals):
        changed["states"] = [s.model_copy(update={"rate": s.rate * share}) for s in arrivals.states]
    elif isinstance(arrivals, StagedArrivals):
        changed["stages"] = [s.model_copy(update={"rate": s.rate * share}) for s in arrivals.stages]
    elif not isinstance(arrivals, OfflineArrivals):
        changed["rate"] = arrivals.rate * share
    if arrivals.requests is not None:
        changed["requests"] = max(1, round(arrivals.requests * share))
    return spec.model_copy(update={"arrivals": arrivals.model_copy(update=changed)})


def period(arrival_s: Floats) -> float:
    """Return the length of time a trace stands for: its span and one mean gap, in seconds.

    Without the gap the last request and the first of the next round would fall together.
    """
    n = len(arrival_s)
    return float(arrival_s[-1]) * n / (n - 1) if n > 1 else 0.0


def replay(
    trace: Trace, scale: TraceArrivals, duration_s: float, random: Generator, block: int
) -> Iterator[Trace]:
    """Yield the requests of `trace`, scaled, that arrive in [0, duration_s), in order.

    Superposed first, then thinned, then sped up, then looped. Copies and rounds have sessions
    and hashes of their own: they are others who talk alike, not the same again. To loop, the trace
    must last longer than an instant. Where nothing is scaled, what is yielded are parts of the
    trace's own arrays.
    """
    whole = _pick(superpose(trace, scale.superpose, random), scale.thin, random)
    if scale.speedup != 1.0:
        whole = whole._replace(arrival_s=whole.arrival_s / scale.speedup)
    round_s = period(trace.arrival_s) / scale.speedup
    sessions = int(whole.session.max(initial=-1)) + 1
    keys = 0 if whole.hashes is None or not scale.loop else count_of(whole.hashes)
    left = scale.requests
    held: list[Trace] = []
    room = block
    for turn in count() if scale.loop else range(1):
        late_s = turn * round_s
        n = bisect_left(whole.arrival_s, duration_s, key=lambda time_s: time_s + late_s)
        n = n if left is None else min(n, left)
        left = None if left is None else left - n
        first = 0
        while first < n:
            part = _cut(whole, first, min(first + room, n))
            held.append(
                _copy(part, turn, part.arrival_s + late_s, sessions, keys) if turn else part
            )
            first += len(part.prompt)
            room -= len(part.prompt)
            if not room:
                yield _join(held)
                held, room = [], block
        if n < len(whole.prompt) or not n:
            break
    if held:
        yield _join(held)


def superpose(trace: Trace, copies: int, random: Generator) -> Trace:
    """Return `copies` of the trace together, each but the first rotated by a random offset."""
    if copies == 1:
        return trace
    round_s = period(trace.arrival_s)
    offsets = random.random(copies - 1) * round_s
    sessions = int(trace.session.max(initial=-1)) + 1
    keys = 0 if trace.hashes is None else count_of(trace.hashes)
    parts = [trace]
    for copy, offset in enumerate(offsets, start=1):
        later = trace.arrival_s + offset
        # One comparison, not a modulo, which would blur the times of the trace.
        arrival_s = np.where(later < round_s, later, later - round_s)
        parts.append(_copy(trace, copy, arrival_s, sessions, keys))
    order = np.argsort(np.concatenate([part.arrival_s for part in parts]), kind="stable")
    return _join(parts, order)


def _copy(trace: Trace, copy: int, arrival_s: Floats, sessions: int, keys: int) -> Trace:
    """Return others who talk alike at other times: with sessions and hashes of their own.

    sessions, keys: how many of them each copy has.
    """
    return trace._replace(
        arrival_s=arrival_s,
        session=np.where(trace.session < 0, -1, trace.session + copy * sessions),
        hashes=None if trace.hashes is None else apart(trace.hashes, copy, keys),
    )


def _pick(trace: Trace, share: float, random: Generator) -> Trace:
    """Return a share of the sessions (of the requests without one), the same for a seed.

    A smaller share picks from what a larger one would have picked.
    """
    if share >= 1.0:
        return trace
    sessions = int(trace.session.max(initial=-1)) + 1
    by_session = random.random(sessions + 1)
    by_request = random.random(len(trace.session))
    lot = np.where(trace.session < 0, by_request, by_session[trace.session])
    return _take(trace, np.flatnonzero(lot < share))


def _take(trace: Trace, rows: NDArray[np.intp]) -> Trace:
    return Trace(*(None if column is None else column[rows] for column in trace))  # type: ignore[arg-type]


def _cut(trace: Trace, first: int, end: int) -> Trace:
    return Trace(*(None if column is None else column[first:end] for column in trace))  # type: ignore[arg-type]


def _join(parts: list[Trace], order: NDArray[np.intp] | slice = slice(None)) -> Trace:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*parts, strict=True)
    return Trace(*(None if c[0] is None else np.concatenate(c)[order] for c in columns))  # type: ignore[arg-type]
