"""Making a recorded trace larger, smaller, faster or endless without inventing requests."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, count, pairwise
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from factory_sim.scenario.arrivals import (
    ClosedArrivals,
    MmppArrivals,
    OfflineArrivals,
    StagedArrivals,
    TraceArrivals,
)
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.prefixes import apart, count_of
from factory_sim.workload.traces import Trace

Floats = NDArray[np.float64]

AT_ONCE = 65_536
"""Requests of superposed copies that are put in order together."""


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
    left = math.inf if scale.requests is None else scale.requests
    held: list[Trace] = []
    room = block
    for part in _rounds(trace, scale, random):
        n = int(min(bisect_left(part.arrival_s, duration_s), left))
        left -= n
        first = 0
        while first < n:
            held.append(_cut(part, first, min(first + room, n)))
            first += len(held[-1].prompt)
            room -= len(held[-1].prompt)
            if not room:
                yield _join(held)
                held, room = [], block
        if n < len(part.prompt):
            break
    if held:
        yield _join(held)


def _rounds(trace: Trace, scale: TraceArrivals, random: Generator) -> Iterator[Trace]:
    """Yield what replays of a trace consist of, once or, to loop, again and again."""
    parts = _pick(trace, scale.superpose, scale.thin, random)
    if scale.speedup != 1.0:
        parts = (part._replace(arrival_s=part.arrival_s / scale.speedup) for part in parts)
    if not scale.loop:
        yield from parts
        return
    whole = [part for part in parts if len(part.prompt)]
    round_s = period(trace.arrival_s) / scale.speedup
    sessions = max((_sessions(part) for part in whole), default=0)
    keys = max((count_of(part.hashes) for part in whole if part.hashes is not None), default=0)
    yield from whole
    for turn in count(1) if whole else ():
        for part in whole:
            yield _copy(part, turn, part.arrival_s + turn * round_s, sessions, keys)


def _pick(trace: Trace, copies: int, share: float, random: Generator) -> Iterator[Trace]:
    """Yield a share of the sessions (of the requests without one) of superposed copies.

    The same for a seed: a smaller share picks from what a larger one would have picked.
    """
    parts = superpose(trace, copies, random)
    if share >= 1.0:
        yield from parts
        return
    first = next(parts)  # for it, offsets are drawn
    by_session = random.random(copies * _sessions(trace) + 1)
    for part in chain([first], parts):
        by_request = random.random(len(part.session))
        lot = np.where(part.session < 0, by_request, by_session[part.session])
        yield _take(part, np.flatnonzero(lot < share))


def superpose(trace: Trace, copies: int, random: Generator) -> Iterator[Trace]:
    """Yield `copies` of the trace together, each but the first rotated by a random offset.

    In parts of about `AT_ONCE` requests, so that they never are in memory all at once.
    """
    if copies == 1:
        yield trace
        return
    round_s = period(trace.arrival_s)
    offsets = np.concatenate([[0.0], random.random(copies - 1) * round_s])
    sessions = _sessions(trace)
    keys = 0 if trace.hashes is None else count_of(trace.hashes)
    edges = np.linspace(0.0, round_s, 1 + math.ceil(copies * len(trace.prompt) / AT_ONCE))
    edges[0], edges[-1] = -np.inf, np.inf
    for start_s, end_s in pairwise(edges):
        # Of each copy, those that have not been moved round the end, then those that have; and one
        # more at each side, as their times are known to the last digit only once they are computed.
        moved_s = np.stack([offsets, offsets - round_s], axis=1).ravel()
        low = np.maximum(np.searchsorted(trace.arrival_s, start_s - moved_s) - 1, 0)
        high = np.minimum(np.searchsorted(trace.arrival_s, end_s - moved_s) + 1, len(trace.prompt))
        many = high - low
        rows = np.arange(many.sum()) + np.repeat(low - (np.cumsum(many) - many), many)
        span = np.repeat(np.arange(2 * copies), many)
        copy, round_the_end = span // 2, span % 2 == 1
        later = trace.arrival_s[rows] + offsets[copy]
        beyond = later >= round_s
        # One comparison, not a modulo, which would blur the times of the trace.
        arrival_s = np.where(beyond, later - round_s, later)
        here = (arrival_s >= start_s) & (arrival_s < end_s) & (beyond == round_the_end)
        order = np.flatnonzero(here)
        order = order[np.argsort(arrival_s[order], kind="stable")]
        part = _take(trace, rows[order])
        yield _copy(part, copy[order], arrival_s[order], sessions, keys)


def _copy(
    trace: Trace, copy: int | NDArray[np.int64], arrival_s: Floats, sessions: int, keys: int
) -> Trace:
    """Return others who talk alike at other times: with sessions and hashes of their own.

    copy: whose, of all or of each request. sessions, keys: how many of them each copy has.
    """
    return trace._replace(
        arrival_s=arrival_s,
        session=np.where(trace.session < 0, -1, trace.session + copy * sessions),
        hashes=None if trace.hashes is None else apart(trace.hashes, copy, keys),
    )


def _sessions(trace: Trace) -> int:
    return int(trace.session.max(initial=-1)) + 1


def _take(trace: Trace, rows: NDArray[np.intp]) -> Trace:
    return Trace(*(None if column is None else column[rows] for column in trace))  # type: ignore[arg-type]


def _cut(trace: Trace, first: int, end: int) -> Trace:
    return Trace(*(None if column is None else column[first:end] for column in trace))  # type: ignore[arg-type]


def _join(parts: list[Trace]) -> Trace:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*parts, strict=True)
    return Trace(*(None if c[0] is None else np.concatenate(c) for c in columns))  # type: ignore[arg-type]
