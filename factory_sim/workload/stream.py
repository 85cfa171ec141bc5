"""A workload's requests, block by block: when each arrives and how many tokens it brings.

Arrivals, bursts, lengths, cached tokens, archetypes, reasoning and images each draw from a child
stream of their own, so that a change of one leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, SeedSequence

from factory_sim.catalog.catalog import Catalog
from factory_sim.errors import InputError, Problem
from factory_sim.scenario.arrivals import ClosedArrivals, OfflineArrivals, TraceArrivals
from factory_sim.scenario.lengths import Fixed
from factory_sim.scenario.trace_file import TraceFile
from factory_sim.scenario.workload import LengthsFromTrace, WorkloadSpec
from factory_sim.workload.arrivals import BLOCK, arrival_times
from factory_sim.workload.kinds import Floats, Tokens, kinds_of, shares_at
from factory_sim.workload.lengths import always, quantile, sampler
from factory_sim.workload.prefixes import Keys, no_hashes
from factory_sim.workload.rows import TraceReport
from factory_sim.workload.scaling import period, replay
from factory_sim.workload.sessions import Script, draw_scripts
from factory_sim.workload.sometimes import with_extras
from factory_sim.workload.traces import read_trace

(
    GAPS,
    STAYS,
    LENGTHS,
    CACHED,
    KINDS,
    REPLAY,
    TENANTS,
    SESSIONS,
    REASONING,
    IMAGES,
    REGIONS,
    DISPATCH_DRAWS,
    DELIVERY,
) = range(13)


class Block(NamedTuple):
    """Requests in order of arrival, as arrays of one length.

    arrival_s: float64, nondecreasing, when the client sends. prompt, output: int64, at least 1.
    cached: int64, below prompt. session: int64, -1 where there is none. archetype: int64, the
    position in the mix, 0 where there is none. hashes: object[n], tuples of keys, equal where
    prompts begin alike, empty where nobody knows. reasoning: int64, of the output, below it.
    images: int64, whose tokens are in the prompt. To be read only.
    """

    arrival_s: Floats
    prompt: Tokens
    output: Tokens
    cached: Tokens
    session: Tokens
    archetype: Tokens
    hashes: Keys
    reasoning: Tokens
    images: Tokens


def open_blocks(
    spec: WorkloadSpec,
    catalog: Catalog,
    duration_s: float,
    seed: SeedSequence,
    base: Path,
    where: str = "workload",
    block: int = BLOCK,
) -> Iterator[Block]:
    """Yield the requests that arrive in [0, duration_s), at most `block` at a time.

    For every process but a closed loop (which asks `draws` for lengths). base: the folder that
    files start from. where: the path of the workload's field, for errors. The same seed gives
    the same requests whatever `block`; `seed` itself is left as it was. Raises InputError for
    an unusable file or name before the first block.
    """
    arrivals = spec.arrivals
    if isinstance(arrivals, ClosedArrivals):
        raise ValueError("a closed loop has no arrival times of its own; use draws()")
    if isinstance(arrivals, TraceArrivals):
        return _recorded(spec, arrivals, duration_s, seed, base, where, block)
    if isinstance(arrivals, OfflineArrivals):
        times = _offline(arrivals.requests if duration_s > 0 else 0, block)
    else:
        times = arrival_times(
            arrivals, duration_s, _stream(seed, GAPS), _stream(seed, STAYS), block
        )
    maker = _Maker(spec, catalog, seed, base, where)
    return (maker.make(arrival_s) for arrival_s in times)


def draws(
    spec: WorkloadSpec,
    catalog: Catalog,
    seed: SeedSequence,
    base: Path,
    where: str = "workload",
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (prompt, output, cached, reasoning) tokens, and images, of request after request.

    For clients of a closed loop; they are the lengths that `open_blocks` gives at the same seed.
    """
    if isinstance(spec.arrivals, TraceArrivals):
        raise ValueError("a trace has its own lengths; use open_blocks()")
    maker = _Maker(spec, catalog, seed, base, where)

    def one_by_one() -> Iterator[tuple[int, int, int, int, int]]:
        while True:
            made = maker.make(np.zeros(BLOCK))
            columns = (made.prompt, made.output, made.cached, made.reasoning, made.images)
            yield from zip(*(column.tolist() for column in columns), strict=True)

    return one_by_one()


def scripts(
    spec: WorkloadSpec,
    catalog: Catalog,
    seed: SeedSequence,
    base: Path,
    where: str = "workload",
) -> Iterator[Script]:
    """Yield what one session of a workload after another will ask, for ever.

    Drawn in the order in which sessions start, so that how they are served changes nothing.
    """
    assert spec.sessions is not None and spec.lengths is not None
    lengths = sampler(spec.lengths, catalog, base, f"{where}.lengths")
    child = SeedSequence(
        seed.entropy, spawn_key=(*seed.spawn_key, SESSIONS), pool_size=seed.pool_size
    )
    return draw_scripts(spec.sessions, lengths, child, spec.reasoning)


def hash_tokens(spec: WorkloadSpec, base: Path, where: str = "workload") -> int:
    """Return the prompt tokens that each hash of a workload's prompts covers; 0 without hashes."""
    if not isinstance(spec.arrivals, TraceArrivals):
        return 0
    return read_trace(spec.arrivals, base, f"{where}.arrivals")[1].hash_tokens


def has_sessions(spec: WorkloadSpec, base: Path, where: str = "workload") -> bool:
    """Tell whether a workload says which requests belong to one session."""
    if spec.sessions is not None:
        return True
    if not isinstance(spec.arrivals, TraceArrivals):
        return False
    return bool((read_trace(spec.arrivals, base, f"{where}.arrivals")[0].session >= 0).any())


def trace_reports(spec: WorkloadSpec, base: Path, where: str = "workload") -> list[TraceReport]:
    """Return what reading each file of the workload found: replayed, or drawn from for lengths."""
    files: list[tuple[TraceFile, str, bool]] = []
    if isinstance(spec.arrivals, TraceArrivals):
        files.append((spec.arrivals, f"{where}.arrivals", True))
    named = {f"{where}.lengths": spec.lengths}
    named |= {
        f"{where}.mix.{name}.lengths": kind.lengths for name, kind in (spec.mix or {}).items()
    }
    for path, lengths in named.items():
        if isinstance(lengths, LengthsFromTrace):
            files.append((lengths.trace, f"{path}.trace", False))
    return [read_trace(file, base, path, times)[1] for file, path, times in files]


class _Maker:
    """Gives arrival times their lengths, in order, from streams that only move forward."""

    def __init__(
        self, spec: WorkloadSpec, catalog: Catalog, seed: SeedSequence, base: Path, where: str
    ) -> None:
        self.spec, self.where = spec, where
        self.kinds = kinds_of(spec, catalog, base, where)
        self.lengths = _stream(seed, LENGTHS)
        self.archetypes = _stream(seed, KINDS)
        caches = not all(isinstance(kind.cached, Fixed) for kind in self.kinds)
        reasons = any(kind.reasoning for kind in self.kinds)
        shows = any(kind.images for kind in self.kinds)
        self.cached = _stream(seed, CACHED) if caches else None
        self.reasoning = _stream(seed, REASONING) if reasons else None
        self.pictures = _stream(seed, IMAGES) if shows else None

    def make(self, arrival_s: Floats) -> Block:
        n = len(arrival_s)
        drawn = (
            self.lengths.standard_normal((n, 2)),
            _shares(self.cached, n),
            _shares(self.reasoning, n, 2),
            _shares(self.pictures, n, 2),
        )
        which = self._which(arrival_s)
        if len(self.kinds) == 1:
            prompt, output, cached, reasoning, images = self.kinds[0].draw(*drawn)
        else:
            mixed = np.empty((5, n), dtype=np.int64)
            for position, kind in enumerate(self.kinds):
                mine = which == position
                mixed[:, mine] = kind.draw(*(draws[mine] for draws in drawn))
            prompt, output, cached, reasoning, images = mixed
        session, hashes = always(-1, n), no_hashes(n)
        return Block(arrival_s, prompt, output, cached, session, which, hashes, reasoning, images)

    def _which(self, arrival_s: Floats) -> Tokens:
        if self.spec.mix is None:
            return always(0, len(arrival_s))
        upper = np.cumsum(shares_at(self.spec, arrival_s, self.where), axis=0)
        drawn = self.archetypes.random(len(arrival_s))
        passed = np.count_nonzero(drawn >= upper, axis=0)
        return np.asarray(np.minimum(passed, len(self.kinds) - 1), dtype=np.int64)


def _recorded(
    spec: WorkloadSpec,
    arrivals: TraceArrivals,
    duration_s: float,
    seed: SeedSequence,
    base: Path,
    where: str,
    block: int,
) -> Iterator[Block]:
    trace, _ = read_trace(arrivals, base, f"{where}.arrivals")
    if trace.cached is not None and spec.cached is not None:
        raise InputError(
            Problem(f"{where}.cached", f"the trace {arrivals.path} has cached tokens; drop cached")
        )
    if arrivals.loop and period(trace.arrival_s) <= 0.0:
        raise InputError(
            Problem(f"{where}.arrivals.loop", "the trace lasts no time at all; it cannot loop")
        )
    length, stream = spec.cached or Fixed(fixed=0), _stream(seed, CACHED)
    thoughts = _stream(seed, REASONING) if spec.reasoning is not None else None
    pictures = _stream(seed, IMAGES) if spec.images is not None else None

    def blocks() -> Iterator[Block]:
        for part in replay(trace, arrivals, duration_s, _stream(seed, REPLAY), block):
            n = len(part.prompt)
            hits = part.cached
            if hits is None:
                hits = np.minimum(quantile(length, stream.random(n)), part.prompt - 1)
            keys = no_hashes(n) if part.hashes is None else part.hashes
            prompt, output, reasoning, images = with_extras(
                part.prompt,
                part.output,
                spec.reasoning,
                spec.images,
                _shares(thoughts, n, 2),
                _shares(pictures, n, 2),
            )
            kind = always(0, n)
            yield Block(
                part.arrival_s, prompt, output, hits, part.session, kind, keys, reasoning, images
            )

    return blocks()


def _offline(requests: int, block: int) -> Iterator[Floats]:
    for first in range(0, requests, block):
        yield np.zeros(min(block, requests - first))


def _stream(seed: SeedSequence, purpose: int) -> Generator:
    """Return the generator of one purpose. `seed.spawn` would count, and differ at each call."""
    child = SeedSequence(
        seed.entropy, spawn_key=(*seed.spawn_key, purpose), pool_size=seed.pool_size
    )
    return np.random.default_rng(child)


def _shares(stream: Generator | None, *shape: int) -> Floats:
    """Return draws from [0, 1); zeros, to be read only, where nothing draws any."""
    return np.broadcast_to(0.0, shape) if stream is None else stream.random(shape)
