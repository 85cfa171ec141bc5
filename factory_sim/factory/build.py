"""The one place that turns a description into processes."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np

from factory_sim.factory.board import Board
from factory_sim.factory.clients import (
    Stream,
    closed_client,
    open_stream,
    sending,
    thinking_times,
)
from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.facility.governor import Governor
from factory_sim.factory.failures.chance import set_going
from factory_sim.factory.failures.outages import Outages, Place
from factory_sim.factory.fleet import Fleet
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.layout import Layout
from factory_sim.factory.meter import Line, Meter
from factory_sim.factory.pipe import Pipe
from factory_sim.factory.pools import StepTimes, open_pools
from factory_sim.factory.power import POLICIES
from factory_sim.factory.power.allowance import Allowance
from factory_sim.factory.power.manager import Manager
from factory_sim.factory.prefixes import caches_prefixes
from factory_sim.factory.timetable import Timetable
from factory_sim.physics import aiconfigurator
from factory_sim.physics import arithmetic as work
from factory_sim.physics.kernel_times import KernelTimes
from factory_sim.physics.rank_time import Lockstep, RankRoofline
from factory_sim.physics.step_time import Roofline, StepTime
from factory_sim.scenario.failures import Storage
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import ClosedArrivals
from factory_sim.workload.scaling import thinned
from factory_sim.workload.stream import draws, hash_tokens, open_blocks


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
    """Return a seed for the workloads, one for routers, one for what fails and one for drafts.

    Every subsystem has its own stream, so that changing one does not reshuffle the others.
    """
    return np.random.SeedSequence(scenario.seed).spawn(4)


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

        self.meter = Meter(env, facility, lines, allowed_w, list(self.links.values()))
        policy = POLICIES[scenario.power.policy](scenario.power, list(layout.fleets))
        self.outages = self._outages(lines)
        guards = [self.outages.look]
        if scenario.site.cooling is not None:
            outages = self.outages
            governor = Governor(env, self.meter, lines, outages.overheat, outages.cooled)
            outages.cooling_changed = governor.mind
            guards.append(governor.look)
        self.manager = Manager(env, self.meter, policy, scenario.power, layout.period_s, guards)
        env.process(self.manager.watch())
        for line in lines:
            self._limit_boards(line)
        self.streams = _streams(env, scenario, layout, self.fronts, self.caching)

    def _outages(self, lines: list[Line]) -> Outages:
        """Make what breaks and mends, and set its failures going."""
        scenario, env = self.layout.scenario, self.env
        spec = scenario.failures
        store = spec.storage if spec else Storage()
        places = [
            Place(
                line.fleet,
                self.gateways[line.fleet.name],
                replica,
                frozenset(replica.gpus),
                bay,
                -(-len(replica.gpus) // self.layout.building.bays[bay].system.gpus_per_server),
            )
            for line in lines
            for replica, bay in zip(line.replicas, line.bays, strict=True)
        ]
        pipe = Pipe(env, store.bandwidth or float("inf"))
        outages = Outages(env, self.meter, places, pipe, store.per_server, self.layout.period_s)
        if spec is not None:
            set_going(env, outages, self.layout, spec, _seeds(scenario)[2])
        return outages

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
    def waiting_or_running(self) -> int:
        """Return the requests inside the factory."""
        return sum(gateway.inside for gateway in self.gateways.values())


def _streams(
    env: Timetable,
    scenario: Scenario,
    layout: Layout,
    gateways: dict[str, Gateway],
    caching: set[str],
) -> list[Stream]:
    blocks_of = {fleet.name: fleet.memory.block_tokens for fleet in layout.fleets}
    # The last pool of a deployment is the one that requests come to.
    hosts = {fleet.deployment: fleet.host for fleet in layout.fleets}
    scales = {fleet.deployment: fleet.scale for fleet in layout.fleets}
    numbers = count()
    streams = []
    seeds = workload_seeds(scenario)
    for index, (name, whole) in enumerate(scenario.workload.items()):
        spec = thinned(whole, 1.0 / scales[whole.deployment])
        lag_s = spec.round_trip / 2 + hosts[spec.deployment].per_request_s
        timeout_s = float("inf") if spec.timeout is None else spec.timeout
        gateway = gateways[spec.deployment]
        where = f"workload.{name}"
        each = 0
        if spec.deployment in caching:
            each = hash_tokens(spec, Path(), where) // blocks_of[spec.deployment]
        many = len(scenario.workload)
        stream = Stream(env, gateway, index, lag_s, timeout_s, numbers, many, each)
        streams.append(stream)
        arrivals = spec.arrivals
        if not isinstance(arrivals, ClosedArrivals):
            blocks = open_blocks(
                spec, scenario.facts, scenario.duration, seeds[name], Path(), where
            )
            open_stream(stream, blocks)
            continue
        lengths_seed, think_seed = seeds[name].spawn(2)
        lengths = draws(spec, scenario.facts, lengths_seed, Path(), where)
        thinking = thinking_times(
            arrivals.think_time, arrivals.thinking == "exponential", think_seed
        )
        budget = sending(arrivals.requests)
        for _ in range(arrivals.concurrency):
            env.process(
                closed_client(
                    stream, lengths, thinking, spec.round_trip / 2, scenario.duration, budget
                )
            )
    return streams
