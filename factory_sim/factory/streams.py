"""Opening the streams of a factory: the requests of every workload, sent to where they enter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from factory_sim.catalog import Catalog
from factory_sim.errors import InputError, Problem
from factory_sim.factory.clients import (
    ServedStream,
    Stream,
    closed_client,
    open_stream,
    senders,
    sending,
    thinking_times,
)
from factory_sim.factory.dispatch.front_door import FrontDoor
from factory_sim.factory.engine.prefix_cache import WHOLE_SESSION
from factory_sim.factory.fleets.fleet import Fleet, entrances
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.seeds import workload_seeds
from factory_sim.factory.sessions import SessionBook, Sessions, open_sessions, session_client
from factory_sim.factory.timetable import Timetable
from factory_sim.scenario.arrivals import ClosedArrivals
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.service import tenants_of
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.arrivals import BLOCK
from factory_sim.workload.scaling import thinned
from factory_sim.workload.sessions import Script
from factory_sim.workload.stream import (
    TENANTS,
    Block,
    draws,
    hash_tokens,
    open_blocks,
    scripts,
)


class Source(NamedTuple):
    """What the requests of one workload are drawn from. where: its path in the scenario."""

    spec: WorkloadSpec
    facts: Catalog
    duration_s: float
    seed: np.random.SeedSequence
    where: str

    def blocks(self, many: int) -> Iterator[Block]:
        """Return its requests, which come at times of their own, at most so many at a time."""
        spec, facts, end_s, seed, where = self
        return open_blocks(spec, facts, end_s, seed, Path(), where, many)

    def lengths(self, seed: np.random.SeedSequence) -> Iterator[tuple[int, int, int, int, int]]:
        """Return what one request after another of a closed loop asks."""
        return draws(self.spec, self.facts, seed, Path(), self.where)

    def scripts(self) -> Iterator[Script]:
        """Return what one session after another asks."""
        return scripts(self.spec, self.facts, self.seed, Path(), self.where)


def open_streams(
    env: Timetable,
    scenario: Scenario,
    fleets: Sequence[Fleet],
    gateways: dict[str, Gateway],
    doors: dict[str, FrontDoor],
    caching: set[str],
    book: SessionBook | None,
) -> list[Stream]:
    """Let the requests of every workload come to the gateways of deployments, or to doors.

    caching: pools with a prefix cache. book: keeps sessions, if there are any.
    """
    fronts = entrances(fleets)
    scales = {fleet.deployment: fleet.scale for fleet in fleets}
    seeds, numberings = workload_seeds(scenario), _numberings(scenario, fronts)
    kind = ServedStream if told_apart(scenario) else Stream
    streams: list[Stream] = []
    for (name, whole), numbers in zip(scenario.workload.items(), numberings, strict=True):
        reach, where, door = scenario.reach(name), f"workload.{name}", doors.get(name)
        spec = thinned(whole, 1.0 / scales[reach[0]])
        # A front door brings requests to deployments and answers to clients itself.
        back_s = spec.round_trip / 2 if door is None else 0.0
        lag_s = back_s + fronts[spec.deployment].host.per_request_s if door is None else 0.0
        timeout_s = float("inf") if spec.timeout is None else spec.timeout
        entry = gateways[spec.deployment] if door is None else door
        entered = [fronts[deployment] for deployment in reach]
        hash_blocks = _hash_blocks(spec, where, entered, caching)
        index, many = len(streams), len(numberings)
        stream = kind(env, entry, index, lag_s, timeout_s, numbers, many, hash_blocks)
        if isinstance(stream, ServedStream):
            _tell_apart(stream, scenario, name, back_s, seeds[name])
        streams.append(stream)
        source = Source(spec, scenario.facts, scenario.duration, seeds[name], where)
        sessions = None
        if spec.sessions is not None:
            assert book is not None
            longest = _longest(fleets, reach)
            keeps = spec.reasoning is not None and spec.reasoning.kept
            sessions = Sessions(
                stream, book, source.scripts(), back_s, scenario.duration, *longest, keeps=keeps
            )
        if isinstance(spec.arrivals, ClosedArrivals):
            _open_loop(stream, source, spec.arrivals, sessions, back_s)
        else:
            _open(stream, source, sessions)
    return streams


def _open(stream: Stream, source: Source, sessions: Sessions | None) -> None:
    """Let requests, or sessions, come at times of their own."""
    entry, at_a_time = stream.gateway, BLOCK
    if isinstance(entry, Gateway):
        at_a_time = max(BLOCK, entry.at_a_time // stream.many)
    blocks = source.blocks(at_a_time)
    if sessions is not None:
        starts = (start_s for block in blocks for start_s in block.arrival_s.tolist())
        stream.env.process(open_sessions(sessions, starts))
    elif not (isinstance(entry, Gateway) and entry.feed(stream, blocks)):
        open_stream(stream, blocks)


def _open_loop(
    stream: Stream,
    source: Source,
    arrivals: ClosedArrivals,
    sessions: Sessions | None,
    back_s: float,
) -> None:
    """Let the clients of a closed loop begin, each with requests or with sessions."""
    env, end_s = stream.env, source.duration_s
    lengths_seed, think_seed = source.seed.spawn(2)
    thinking = thinking_times(arrivals.think_time, arrivals.thinking == "exponential", think_seed)
    budget = sending(arrivals.requests)
    lengths = None if sessions is not None else source.lengths(lengths_seed)
    for _ in range(arrivals.concurrency):
        if sessions is not None:
            env.process(session_client(sessions, thinking, budget))
        elif lengths is not None:
            env.process(closed_client(stream, lengths, thinking, back_s, end_s, budget))


def _numberings(scenario: Scenario, fronts: Mapping[str, Fleet]) -> list[count[int]]:
    """Return what numbers the requests of each workload.

    Who keeps all rows numbers requests as they come; else each deployment numbers its own, for the
    compiled kernel could not know in time how many have come to others. Of pods it knows only the
    hand of each, so that there every stream numbers its own, in steps of so many.
    """
    specs = scenario.workload.values()
    if scenario.recording.keep == "full":
        return [count()] * len(specs)
    numbers: dict[str, count[int]] = defaultdict(count)
    return [
        count(index, len(specs))
        if len(fronts[spec.deployment].pods) > 1
        else numbers[spec.deployment]
        for index, spec in enumerate(specs)
    ]


def _hash_blocks(
    spec: WorkloadSpec, where: str, entered: Sequence[Fleet], caching: set[str]
) -> int:
    """Return the KV blocks that each hash of a prompt covers; 0 where no cache asks for hashes."""
    if not any(fleet.name in caching for fleet in entered):
        return 0
    blocks = hash_tokens(spec, Path(), where) // _block_tokens(where, entered)
    return blocks if spec.sessions is None else WHOLE_SESSION


def told_apart(scenario: Scenario) -> bool:
    """Tell whether requests are of classes or tenants, or a queue asks what they are."""
    orders = [spec.front_engine.scheduling for spec in scenario.deployments.values()]
    tenants = [spec.tenants for spec in scenario.workload.values()]
    return bool(scenario.classes or any(tenants) or any(o and o.policy != "fcfs" for o in orders))


def _tell_apart(
    stream: ServedStream,
    scenario: Scenario,
    name: str,
    back_s: float,
    seed: np.random.SeedSequence,
) -> None:
    """Give a stream's requests the priority, the promise and the tenants of their workload."""
    spec, promise = scenario.workload[name], scenario.promise_to(name)
    tier = (scenario.classes or {}).get(spec.class_ or "")
    ttft_s = float("inf") if promise is None or promise.ttft is None else promise.ttft
    known = tenants_of(scenario.workload)
    weights = spec.tenants.weights(name) if spec.tenants else {name: 1.0}
    stream.serve(
        (tier.priority or 0) if tier else 0,
        ttft_s - back_s,
        senders(
            [known.index(tenant) for tenant in weights],
            list(weights.values()),
            np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, TENANTS)),
        ),
    )


def _block_tokens(where: str, entered: Sequence[Fleet]) -> int:
    """Return the tokens of a KV block where a workload may come to; InputError if they differ."""
    found = {fleet.memory.block_tokens for fleet in entered}
    if len(found) > 1:
        sizes = ", ".join(f"{fleet.deployment} {fleet.memory.block_tokens}" for fleet in entered)
        raise InputError(
            Problem(
                f"{where}.deployment",
                f"its prompts carry hashes, and the KV blocks of those it may come to have unlike "
                f"sizes ({sizes} tokens); take engines with the same block_tokens",
            )
        )
    return found.pop()


def _longest(fleets: Sequence[Fleet], deployments: tuple[str, ...]) -> tuple[int, int]:
    """Return the most tokens of a request, and of a prompt, that all of some deployments take."""
    pools = [f for f in fleets if f.deployment in deployments and not f.encodes]
    whole = min(fleet.longest for fleet in pools if not fleet.computes_prompts)
    return whole, min(fleet.longest - 1 for fleet in pools)
