"""The one place that turns a description into processes."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import cast

import numpy as np

from factory_sim.factory.board import Board
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
from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.facility.governor import Governor
from factory_sim.factory.failures.chance import set_going
from factory_sim.factory.failures.outages import Outages
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.layout import Layout
from factory_sim.factory.meter import Line, Meter
from factory_sim.factory.network.pipe import Pipe
from factory_sim.factory.network.weights import FromStorage, OverLink, Road
from factory_sim.factory.pools import StepTimes, open_pools
from factory_sim.factory.power import POLICIES
from factory_sim.factory.power.allowance import Allowance
from factory_sim.factory.power.manager import Manager
from factory_sim.factory.prefixes import caches_prefixes
from factory_sim.factory.presence import Place, Presence
from factory_sim.factory.scaling import SCALING
from factory_sim.factory.scaling.gateway import ScaledGateway
from factory_sim.factory.scaling.scaler import Scaler
from factory_sim.factory.servers import Servers, Stand
from factory_sim.factory.sessions import SessionBook, Sessions, open_sessions, session_client
from factory_sim.factory.timetable import Timetable
from factory_sim.factory.training.job import Job
from factory_sim.physics import aiconfigurator
from factory_sim.physics import arithmetic as work
from factory_sim.physics.kernel_times import KernelTimes
from factory_sim.physics.rank_time import Lockstep, RankRoofline
from factory_sim.physics.step_time import Roofline, StepTime
from factory_sim.scenario.failures import Storage
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
    return (Roofline if fleet.ranks == 1 else RankRoofline)(
        fleet.chip, fleet.shard, fleet.host, clock, fleet.max_num_seqs, fleet.max_step_tokens
    )


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


STEP_TIMES: dict[str, StepTimes] = {"roofline": roofline, "aiconfigurator": kernel_times}


def step_time_of(fleet: Fleet, clock: float) -> StepTime:
    """Return the step-time model that a fleet's deployment names, at a clock."""
    return STEP_TIMES[fleet.spec.step_time](fleet, clock)


def even_step_time(fleet: Fleet, clock: float) -> StepTime:
    """Return the step time of a replica, or of one rank among ranks that all carry the same."""
    step_time = step_time_of(fleet, clock)
    if isinstance(step_time, RankRoofline):
        return Lockstep(step_time, fleet.ranks)
    return step_time


def workload_seeds(scenario: Scenario) -> dict[str, np.random.SeedSequence]:
    """Return the seed of every workload's random streams, by its name."""
    seeds = _seeds(scenario)[0].spawn(len(scenario.workload))
    return dict(zip(scenario.workload, seeds, strict=True))


def _seeds(scenario: Scenario) -> list[np.random.SeedSequence]:
    """Return a seed for the workloads, for routers, for what fails, for drafts and for training.

    Every subsystem has its own stream, so that changing one does not reshuffle the others.
    """
    return np.random.SeedSequence(scenario.seed).spawn(5)


class Factory:
    """A factory ready to run: the SimPy timetable and everything that lives in it.

    step_time: makes the step-time model of a fleet at a clock, in place of the one that its
    deployment names. debug: recount requests, tokens and KV blocks at every boundary.
    """

    def __init__(
        self, layout: Layout, step_time: StepTimes = step_time_of, debug: bool = False
    ) -> None:
        scenario = layout.scenario
        self.env = env = Timetable()
        self.layout = layout
        self.caching = {fleet.name for fleet in layout.fleets if caches_prefixes(scenario, fleet)}
        pools = open_pools(env, layout, self.caching, step_time, _seeds(scenario)[1::2], debug)
        self.gateways, self.fronts, self.links, self.gaps = pools
        bay_of, rack_of = layout.building.bay_of, layout.site.rack_of
        lines = []
        for fleet in layout.fleets:
            gateway = self.gateways[fleet.name]
            bays = [bay_of[rack_of[replica.gpus[0]]] for replica in gateway.replicas]
            lines.append(Line(fleet, gateway, bays))
        allowance = Allowance(scenario.site.grid_limit, scenario.power, layout.period_s)
        kept = 1.0 - scenario.power.margin
        self.facility = facility = Facility(
            layout.building, layout.climate, scenario.site, lambda now: kept * allowance.at(now)
        )

        def allowed_w(now: float) -> float:
            return allowance.at(now) + facility.reserve_w(allowance.lead_s)

        self.jobs = self._jobs()
        self.meter = Meter(env, facility, lines, allowed_w, list(self.links.values()), self.jobs)
        policy = POLICIES[scenario.power.policy](
            scenario.power, list(layout.fleets), layout.holdings
        )
        self.presence = self._presence(lines)
        self.outages = self._outages()
        guards = [self.outages.look]
        if scenario.site.cooling is not None:
            outages = self.outages
            governor = Governor(env, self.meter, lines, outages.overheat, outages.cooled, self.jobs)
            outages.cooling_changed = governor.mind
            guards.append(governor.look)
        self.manager = Manager(env, self.meter, policy, scenario.power, layout.period_s, guards)
        env.process(self.manager.watch())
        for line in lines:
            self._limit_boards(line)
        self.scalers = self._scale(lines)
        drawn = any(spec.sessions for spec in scenario.workload.values())
        self.sessions = SessionBook() if drawn else None
        self.doors = open_doors(env, scenario, layout.fleets, self.fronts, workload_seeds(scenario))
        self.streams = _streams(
            env, scenario, layout, self.fronts, self.doors, self.caching, self.sessions
        )

    def _jobs(self) -> list[Job]:
        """Start the training jobs."""
        layout = self.layout
        building, names = layout.building, [rack.name for rack in layout.site.racks]
        seeds = _seeds(layout.scenario)[4].spawn(len(layout.holdings))
        jobs = []
        for holding, seed in zip(layout.holdings, seeds, strict=True):
            bays = {
                building.bay_of[index]: holding.gpus_in[name]
                for index, name in enumerate(names)
                if name in holding.gpus_in
            }
            jobs.append(Job(self.env, holding, bays, seed))
        return jobs

    def _presence(self, lines: list[Line]) -> Presence:
        """Make what keeps replicas from serving, and lets them come back."""
        scenario, env, bays = self.layout.scenario, self.env, self.layout.building.bays
        store = scenario.failures.storage if scenario.failures else Storage()
        storage = FromStorage(Pipe(env, store.bandwidth or float("inf")), store.per_server)
        places, stands = [], []
        for line in lines:
            scaling, road = line.fleet.spec.autoscaling, cast(Road, storage)
            if scaling is not None and scaling.weights_link is not None:
                road = OverLink(self.links[scaling.weights_link], scaling.per_replica)
            boot_s = scaling.boot_s if scaling and scaling.stopped == "off" else None
            gateway = self.gateways[line.fleet.name]
            for replica, bay in zip(line.replicas, line.bays, strict=True):
                gpus = frozenset(replica.gpus)
                each = bays[bay].system.gpus_per_server
                places.append(
                    Place(line.fleet, gateway, replica, gpus, bay, -(-len(gpus) // each), road)
                )
                stands.append(Stand(frozenset((bay, gpu // each) for gpu in gpus), boot_s))
        servers = Servers(env, self.meter, stands)
        return Presence(env, self.facility, places, servers)

    def _outages(self) -> Outages:
        """Make what breaks and mends, and set its failures going."""
        spec = self.layout.scenario.failures
        outages = Outages(self.env, self.meter, self.presence, self.layout.period_s, self.jobs)
        if spec is not None:
            set_going(self.env, outages, self.layout, spec, _seeds(self.layout.scenario)[2])
        return outages

    def _scale(self, lines: list[Line]) -> dict[str, Scaler]:
        """Let the deployments that are scaled have as many replicas up as their policies want."""
        found = {}
        first = 0
        for line in lines:
            many, scaling = len(line.replicas), line.fleet.spec.autoscaling
            if scaling is not None:
                gateway = line.gateway
                assert isinstance(gateway, ScaledGateway)
                policy = SCALING[scaling.policy](scaling, many)
                places = range(first, first + many)
                scaler = Scaler(self.env, gateway, self.presence, places, policy, scaling)
                self.env.process(scaler.watch())
                found[line.fleet.name] = scaler
            first += many
        return found

    def _limit_boards(self, line: Line) -> None:
        """Let boards with a power limit or a clock below that of their kind keep it."""
        fleet = line.fleet
        floor = fleet.power_curve.clock_floor.value
        for replica in line.replicas:
            rack = self.layout.site.rack(replica.gpus[0])
            if rack.gpu_limit_w < fleet.power.tdp_w:
                replica.board = Board(self.env, rack.gpu_limit_w, fleet.power, floor)
            replica.hold_clock("locked", rack.gpu_clock)

    @property
    def ended(self) -> int:
        """Return the requests that have ended."""
        if self.doors:
            return sum(door.ended for door in self.doors.values())
        return sum(len(g.rows) // g.row_bytes for g in self.gateways.values())

    @property
    def waiting_or_running(self) -> int:
        """Return the requests inside the factory, or on their way to it from a front door."""
        inside = sum(gateway.inside for gateway in self.gateways.values())
        return inside + sum(door.under_way for door in self.doors.values())


def told_apart(scenario: Scenario) -> bool:
    """Tell whether requests are of classes or tenants, or a queue asks what they are."""
    orders = [deployment.engine.scheduling for deployment in scenario.deployments.values()]
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


def _streams(
    env: Timetable,
    scenario: Scenario,
    layout: Layout,
    gateways: dict[str, Gateway],
    doors: dict[str, FrontDoor],
    caching: set[str],
    book: SessionBook | None,
) -> list[Stream]:
    blocks_of = {fleet.name: fleet.memory.block_tokens for fleet in layout.fleets}
    # The last pool of a deployment is the one that requests come to.
    hosts = {fleet.deployment: fleet.host for fleet in layout.fleets}
    scales = {fleet.deployment: fleet.scale for fleet in layout.fleets}
    numbers = count()
    streams = []
    seeds = workload_seeds(scenario)
    for index, (name, whole) in enumerate(scenario.workload.items()):
        reach = scenario.reach(name)
        spec = thinned(whole, 1.0 / scales[reach[0]])
        door = doors.get(name)
        # A front door brings requests to deployments and answers to clients itself.
        back_s = spec.round_trip / 2 if door is None else 0.0
        lag_s = back_s + hosts[spec.deployment].per_request_s if door is None else 0.0
        timeout_s = float("inf") if spec.timeout is None else spec.timeout
        entry = gateways[spec.deployment] if door is None else door
        where = f"workload.{name}"
        each = 0
        if caching.intersection(reach):
            each = hash_tokens(spec, Path(), where) // blocks_of[reach[0]]
            if spec.sessions is not None:
                each = WHOLE_SESSION
        many = len(scenario.workload)
        kind = ServedStream if told_apart(scenario) else Stream
        stream = kind(env, entry, index, lag_s, timeout_s, numbers, many, each)
        if isinstance(stream, ServedStream):
            _tell_apart(stream, scenario, name, back_s, seeds[name])
        streams.append(stream)
        arrivals = spec.arrivals
        sessions = None
        if spec.sessions is not None:
            assert book is not None
            drawn = scripts(spec, scenario.facts, seeds[name], Path(), where)
            longest = _longest(layout, reach)
            sessions = Sessions(stream, book, drawn, back_s, scenario.duration, *longest)
        if not isinstance(arrivals, ClosedArrivals):
            blocks = open_blocks(
                spec, scenario.facts, scenario.duration, seeds[name], Path(), where
            )
            if sessions is not None:
                starts = (start_s for block in blocks for start_s in block.arrival_s.tolist())
                env.process(open_sessions(sessions, starts))
            else:
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


def _longest(layout: Layout, deployments: tuple[str, ...]) -> tuple[int, int]:
    """Return the most tokens of a request, and of a prompt, that all of some deployments take."""
    fleets = [fleet for fleet in layout.fleets if fleet.deployment in deployments]
    whole = min(fleet.longest for fleet in fleets if not fleet.computes_prompts)
    return whole, min(fleet.longest - 1 for fleet in fleets)
