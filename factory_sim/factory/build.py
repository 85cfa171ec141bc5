"""The one place that turns a description into processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np

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
from factory_sim.factory.dispatch.doors import open_doors
from factory_sim.factory.dispatch.front_door import FrontDoor
from factory_sim.factory.engine.prefix_cache import WHOLE_SESSION
from factory_sim.factory.failures.chance import check_failures
from factory_sim.factory.fleets.fleet import Fleet, entrances, stage_shard
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.hands import HERE, Hands
from factory_sim.factory.layout import Layout, fleets_of
from factory_sim.factory.pools import StepTimes, open_pools
from factory_sim.factory.prefixes import caching_pools
from factory_sim.factory.premises import Premises
from factory_sim.factory.scaling.scaler import Scaler
from factory_sim.factory.sessions import SessionBook, Sessions, open_sessions, session_client
from factory_sim.factory.timetable import Timetable
from factory_sim.physics import aiconfigurator
from factory_sim.physics import arithmetic as work
from factory_sim.physics.context_parallel import ContextRoofline
from factory_sim.physics.kernel_times import KernelTimes
from factory_sim.physics.pipeline import Rotation, Stage, StageRoofline, Stages
from factory_sim.physics.rank_time import Lockstep, RankRoofline, rank_time
from factory_sim.physics.step_time import Roofline, StepTime
from factory_sim.physics.vision import Encoding, Seeing
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.service import tenants_of
from factory_sim.scenario.workload import ClosedArrivals
from factory_sim.workload.scaling import thinned
from factory_sim.workload.stream import TENANTS, draws, hash_tokens, open_blocks, scripts


def roofline(fleet: Fleet, clock: float) -> StepTime:
    """Return the roofline of a fleet with its drafts, or of one of its ranks, at a clock."""
    if fleet.drafting is not None:
        return fleet.drafting.step_time(
            fleet.chip, fleet.shard, fleet.host, clock, fleet.max_num_seqs, fleet.max_step_tokens
        )
    if fleet.encodes:
        assert fleet.vision is not None
        return Encoding(fleet.vision, fleet.host, clock)
    if fleet.vision is not None:
        sizes = (clock, fleet.max_num_seqs, fleet.max_step_tokens)
        return Seeing(fleet.chip, fleet.shard, fleet.host, *sizes, vision=fleet.vision)
    if len(fleet.stages) > 1:
        return pipeline_time(fleet, clock)
    kind = ContextRoofline if fleet.shard.cp > 1 else Roofline
    return (kind if fleet.ranks == 1 else RankRoofline)(
        fleet.chip, fleet.shard, fleet.host, clock, fleet.max_num_seqs, fleet.max_step_tokens
    )


def pipeline_time(fleet: Fleet, clock: float) -> Stages:
    """Return the step time of a micro-batch of a fleet's pipeline: equal stages are made once."""
    each, domain = fleet.spec.parallelism.gpus // len(fleet.stages), fleet.chip.domain
    kinds: dict[tuple[Stage, bool], int] = {}
    for number, stage in enumerate(fleet.stages):
        across = (number + 1) * each % domain == 0 and not stage.last
        kind = (stage._replace(first=False), across)  # embedding costs no time
        kinds[kind] = kinds.get(kind, 0) + 1
    made = [
        StageRoofline(
            fleet.chip,
            stage_shard(fleet.shard, stage),
            fleet.host,
            clock,
            fleet.max_num_seqs,
            fleet.max_step_tokens,
            stage.last,
            across,
        )
        for stage, across in kinds
    ]
    return Stages(made, list(kinds.values()))


def kernel_times(fleet: Fleet, clock: float) -> StepTime:
    """Return the step time of a fleet at a clock by AIConfigurator's kernel database.

    Raises InputError where its package is absent, or where it lacks what the fleet runs.
    """
    return KernelTimes(
        aiconfigurator.kernels(
            fleet.where,
            fleet.accelerator.name,
            fleet.engine,
            fleet.shard,
            fleet.precision,
            fleet.spec.kv_precision,
        ),
        fleet.host,
        work.blocks(fleet.model),
        clock,
        fleet.max_num_seqs,
        fleet.memory.tokens,
        fleet.longest,
    )


SUBSYSTEMS = 5
"""With random streams of their own: see `_seeds`."""

STEP_TIMES: dict[str, StepTimes] = {"roofline": roofline, "aiconfigurator": kernel_times}


def step_time_of(fleet: Fleet, clock: float) -> StepTime:
    """Return the step-time model that a fleet's deployment names, at a clock."""
    return STEP_TIMES[fleet.spec.step_time](fleet, clock)


def even_step_time(fleet: Fleet, clock: float, make: StepTimes = step_time_of) -> StepTime:
    """Return the step time of a replica, or of one rank among ranks that all carry the same."""
    step_time = make(fleet, clock)
    if isinstance(step_time, Stages):
        return Rotation(step_time, fleet.max_num_seqs)
    return step_time if fleet.ranks == 1 else Lockstep(rank_time(step_time), fleet.ranks)


def workload_seeds(scenario: Scenario) -> dict[str, np.random.SeedSequence]:
    """Return the seed of every workload's random streams, by its name."""
    seeds = _seeds(scenario)[0].spawn(len(scenario.workload))
    return dict(zip(scenario.workload, seeds, strict=True))


def sample_seed(scenario: Scenario, place: int) -> int:
    """Return 64 random bits that decide which rows of a deployment a sample holds."""
    own = np.random.SeedSequence(scenario.seed, spawn_key=(SUBSYSTEMS, place))
    return int(own.generate_state(1, np.uint64)[0])


def _seeds(scenario: Scenario) -> list[np.random.SeedSequence]:
    """Return a seed for the workloads, for routers, for what fails, for drafts and for training.

    Every subsystem has its own stream, so that changing one does not reshuffle the others.
    """
    return np.random.SeedSequence(scenario.seed).spawn(SUBSYSTEMS)


def pool_seeds(scenario: Scenario, pools: int) -> list[np.random.SeedSequence]:
    """Return the seed of the router, or of the pods, of each of so many pools."""
    return _seeds(scenario)[1].spawn(pools)


class Factory:
    """A factory ready to run: the SimPy timetable and everything that lives in it.

    layouts: of its sites, mostly one. step_time: makes the step-time model of a fleet at a clock,
    in place of the one that its deployment names. debug: recount requests, tokens and KV blocks at
    every boundary. kernel: as in a scenario. hands: who serves pods by the compiled kernel.

    beyond: of each pool, what of it the compiled kernel cannot do; empty where it serves it.
    """

    def __init__(
        self,
        *layouts: Layout,
        step_time: StepTimes = step_time_of,
        debug: bool = False,
        kernel: str = "simpy",
        hands: Hands = HERE,
    ) -> None:
        self.scenario = scenario = layouts[0].part.whole
        check_failures(layouts)
        self.env = env = Timetable()
        self.fleets = fleets = fleets_of(layouts)
        self.caching = caching_pools(scenario, fleets)
        _, routers, chance, drafts, training = _seeds(scenario)
        reasoning = {
            deployment
            for name, spec in scenario.workload.items()
            if spec.reasons
            for deployment in scenario.reach(name)
        }
        self.beyond = self._beyond(layouts, kernel, step_time, debug)
        compiled = {name for name, why in self.beyond.items() if not why}
        if hands.elsewhere is not None:
            _check_apart(fleets, self.beyond)
        pools = open_pools(
            env,
            layouts,
            fleets,
            self.caching,
            reasoning,
            step_time,
            [routers, drafts],
            debug,
            compiled,
            hands,
        )
        self.gateways, self.fronts, self.links, self.fabrics, self.gaps = pools
        # All meters are read at the same times, so that their tables have the same rows.
        self.period_s = min(layout.period_s for layout in layouts)
        self.premises = [
            Premises(env, layout, pools, self.period_s, chance, training) for layout in layouts
        ]
        self.jobs = [job for premises in self.premises for job in premises.jobs]
        self.scalers: dict[str, Scaler] = {}
        for premises in self.premises:
            self.scalers |= premises.scalers
        drawn = any(spec.sessions for spec in scenario.workload.values())
        self.sessions = SessionBook() if drawn else None
        own = workload_seeds(scenario)
        self.doors = open_doors(env, scenario, fleets, self.fronts, self.links, own)
        self.streams = open_streams(
            env, scenario, fleets, self.fronts, self.doors, self.caching, self.sessions
        )

    @property
    def ended(self) -> int:
        """Return the requests that have ended."""
        if self.doors:
            return sum(door.ended for door in self.doors.values())
        return sum(gateway.noted for gateway in self.gateways.values())

    def _beyond(
        self, layouts: Sequence[Layout], kernel: str, step_time: StepTimes, debug: bool
    ) -> dict[str, str]:
        if kernel == "simpy":
            return {fleet.name: "as asked" for fleet in self.fleets}
        # Here, since numba takes a second to import.
        from factory_sim.factory.kernel.choice import beyond

        return beyond(layouts, kernel, self.caching, step_time, debug)

    @property
    def waiting_or_running(self) -> int:
        """Return the requests inside the factory, or on their way to it from a front door."""
        inside = sum(gateway.inside for gateway in self.gateways.values())
        return inside + sum(door.under_way for door in self.doors.values())


def _check_apart(fleets: Sequence[Fleet], beyond: Mapping[str, str]) -> None:
    """Raise InputError unless some pods are apart, so that others may serve them."""
    podded = [fleet.name for fleet in fleets if len(fleet.pods) > 1]
    if any(not beyond[name] for name in podded):
        return
    if podded:
        whys = "; ".join(f"{name}: {beyond[name]}" for name in podded)
        said = f"pods are sent to a cluster only where the compiled kernel serves them ({whys}); "
        said += "say kernel: auto, or leave it out"
    else:
        said = "nothing in this run is independent of the rest; give a deployment pods, groups of "
        said += "replicas that have a router each (router: {pods: 8}), or leave it out"
    raise InputError(Problem("--dask", said))


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
    # Who keeps all rows numbers requests as they come; else each deployment numbers its own, for
    # the compiled kernel could not know in time how many have come to others. Of pods it knows
    # only the hand of each, so that there every stream numbers its own, in steps of so many.
    together = scenario.recording.keep == "full"
    numbers: dict[str, count[int]] = defaultdict(count)
    streams = []
    seeds = workload_seeds(scenario)
    for index, (name, whole) in enumerate(scenario.workload.items()):
        reach = scenario.reach(name)
        spec = thinned(whole, 1.0 / scales[reach[0]])
        door = doors.get(name)
        # A front door brings requests to deployments and answers to clients itself.
        back_s = spec.round_trip / 2 if door is None else 0.0
        lag_s = back_s + fronts[spec.deployment].host.per_request_s if door is None else 0.0
        timeout_s = float("inf") if spec.timeout is None else spec.timeout
        entry = gateways[spec.deployment] if door is None else door
        where = f"workload.{name}"
        each = 0
        entered = [fronts[deployment] for deployment in reach]
        if any(fleet.name in caching for fleet in entered):
            each = hash_tokens(spec, Path(), where) // _block_tokens(where, entered)
            if spec.sessions is not None:
                each = WHOLE_SESSION
        many = len(scenario.workload)
        kind = ServedStream if told_apart(scenario) else Stream
        numbered = numbers["" if together else spec.deployment]
        if not together and len(fronts[spec.deployment].pods) > 1:
            numbered = count(index, many)
        stream = kind(env, entry, index, lag_s, timeout_s, numbered, many, each)
        if isinstance(stream, ServedStream):
            _tell_apart(stream, scenario, name, back_s, seeds[name])
        streams.append(stream)
        arrivals = spec.arrivals
        sessions = None
        if spec.sessions is not None:
            assert book is not None
            drawn = scripts(spec, scenario.facts, seeds[name], Path(), where)
            longest = _longest(fleets, reach)
            keeps = spec.reasoning is not None and spec.reasoning.kept
            sessions = Sessions(
                stream, book, drawn, back_s, scenario.duration, *longest, keeps=keeps
            )
        if not isinstance(arrivals, ClosedArrivals):
            blocks = open_blocks(
                spec, scenario.facts, scenario.duration, seeds[name], Path(), where
            )
            if sessions is not None:
                starts = (start_s for block in blocks for start_s in block.arrival_s.tolist())
                env.process(open_sessions(sessions, starts))
            elif not (isinstance(entry, Gateway) and entry.feed(stream, blocks)):
                open_stream(stream, blocks)
            continue
        lengths_seed, think_seed = seeds[name].spawn(2)
        thinking = thinking_times(
            arrivals.think_time, arrivals.thinking == "exponential", think_seed
        )
        budget = sending(arrivals.requests)
        if sessions is not None:
            for _ in range(arrivals.concurrency):
                env.process(session_client(sessions, thinking, budget))
            continue
        lengths = draws(spec, scenario.facts, lengths_seed, Path(), where)
        for _ in range(arrivals.concurrency):
            env.process(closed_client(stream, lengths, thinking, back_s, scenario.duration, budget))
    return streams


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
