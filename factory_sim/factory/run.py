"""One run, from a scenario to its tables: build, warm up, measure, drain, sum up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from factory_sim.errors import InputError, Problem
from factory_sim.factory.build import Factory, step_time_of
from factory_sim.factory.hands import Elsewhere, Hands
from factory_sim.factory.layout import lay_out_sites
from factory_sim.factory.pools import StepTimes
from factory_sim.factory.results.books import Premise
from factory_sim.factory.results.doubts import doubts
from factory_sim.factory.results.money import with_money
from factory_sim.factory.results.numbers import numbered
from factory_sim.factory.results.oee import with_oee
from factory_sim.factory.results.reading import Reading, drawn, read
from factory_sim.factory.results.record import assumptions, record_of
from factory_sim.factory.results.recorder import Recorder
from factory_sim.factory.results.shares import (
    promise_of,
    services_of,
    share_of,
    tariffs_of,
    tiers_of,
    training_share,
    trips_of,
)
from factory_sim.factory.results.stations import with_stations
from factory_sim.factory.results.stays import Stays, stays_of
from factory_sim.factory.results.window import window_of
from factory_sim.metrics.answers import Answers
from factory_sim.metrics.requests import Terms, Tier, request_table
from factory_sim.metrics.rows import Rows
from factory_sim.metrics.sessions import sessions_summary, with_sessions
from factory_sim.metrics.share import Share
from factory_sim.metrics.site import Floats
from factory_sim.metrics.sites import joined_table, joined_window, site_summary
from factory_sim.metrics.statistics import BATCHES
from factory_sim.metrics.summary import Summary, summarise
from factory_sim.metrics.tally import AT_ONCE
from factory_sim.metrics.training import TrainingShare
from factory_sim.metrics.trips import Trips
from factory_sim.metrics.trips_summary import trips_summary
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.service import tenants_of


@dataclass(frozen=True)
class Run:
    """What a run gives. timeseries is a pandas frame, as is rows, with one row per request that is
    recorded, or None where none is; record is `run.json`, assumed `assumptions.json`."""

    scenario: Scenario
    summary: Summary
    rows: pd.DataFrame | None
    timeseries: pd.DataFrame
    record: dict[str, Any]
    assumed: list[dict[str, Any]]

    @property
    def requests(self) -> pd.DataFrame:
        """Return one row per request that is recorded; InputError where none is."""
        if self.rows is None:
            raise InputError(
                Problem(
                    "recording",
                    "'aggregate' keeps no rows of requests; say 'sample' or 'full' to have some",
                )
            )
        return self.rows


class Progress(NamedTuple):
    """How far a run has come: simulated seconds, and requests in and out.

    end_s is when arrivals stop; draining may take a run past it.
    """

    now_s: float
    end_s: float
    requests_done: int
    requests_arrived: int


def simulate(
    scenario: Scenario,
    progress: Callable[[Progress], None] | None = None,
    *,
    step_time: StepTimes = step_time_of,
    debug: bool = False,
    workers: int | None = None,
    elsewhere: Elsewhere | None = None,
) -> Run:
    """Run the factory that `scenario` describes and return what it recorded.

    progress: called a few hundred times in a run. step_time: makes the step-time model of a
    fleet at a clock, in place of the one that its deployment names. debug: recount
    requests, tokens and KV blocks at every boundary. workers: threads that serve the pods of a
    deployment (`router.pods`) where the compiled kernel does, one for each core without; they
    change no result. elsewhere: has others serve them, far from here, with that same result.
    Raises InputError, before anything runs, for a scenario that cannot be built.
    """
    started = time.perf_counter()
    layouts, kernel = lay_out_sites(scenario), scenario.kernel
    hands = Hands(workers or os.cpu_count() or 1, elsewhere)
    factory = Factory(*layouts, step_time=step_time, debug=debug, kernel=kernel, hands=hands)
    tiers = tiers_of(scenario)
    terms = _terms(factory, list(tiers.values()))
    recorder = None if scenario.recording.keep == "full" else Recorder(factory, terms)
    before, after, looks = _play(factory, scenario, progress, recorder)
    trips = trips_of(factory)
    table, answers, stays = _recorded(factory, terms, trips, recorder)
    sessions = factory.sessions.rows() if factory.sessions else None
    if sessions is not None:
        assert table is not None
        table = with_sessions(table, sessions)
    shares = [share_of(factory, fleet, before, after, stays, looks) for fleet in factory.fleets]
    sums = zip(factory.jobs, before.jobs, after.jobs, strict=True)
    jobs = [training_share(scenario, *each) for each in sums]
    tables, sites = _sites(factory, before, after, shares, jobs)
    timeseries, tariffs = pd.DataFrame(joined_table(tables)), tariffs_of(scenario)
    whole = joined_window({name: site.window for name, site in sites.items()})
    summary = summarise(answers, timeseries, whole, shares, tiers, jobs, tariffs)
    if scenario.sites is not None:
        summary["sites"] = {
            name: site_summary(site.table, site.window, site.shares, site.jobs)
            for name, site in sites.items()
        }
    if trips is not None:
        assert table is not None
        summary |= trips_summary(table, services_of(factory), shares, scenario.regions or ())
    if sessions is not None:
        summary |= sessions_summary(sessions, scenario.warmup)
    summary = with_money(summary, scenario, list(sites.values()), answers, tariffs)
    summary = with_oee(
        summary, scenario, factory.fleets, shares, answers, (before, after), step_time
    )
    if table is not None and recorder is None and trips is None:
        summary = with_stations(summary, scenario, table, shares)
    told = list(
        doubts(scenario, factory.fleets, summary, timeseries, answers.sums("measured").requests)
    )
    record = record_of(factory, time.perf_counter() - started)
    if told:
        record["warnings"] = told
    return Run(scenario, summary, table, timeseries, record, assumptions(layouts))


def _terms(factory: Factory, tiers: Sequence[Tier]) -> Terms:
    """Return what a run says of its requests."""
    scenario = factory.scenario
    deployments, workload = scenario.deployments, scenario.workload
    return Terms(
        list(workload),
        [spec.round_trip / 2 for spec in workload.values()],
        scenario.warmup,
        {fleet.name: promise_of(fleet.spec.slo) for fleet in factory.fleets},
        {name for name, spec in deployments.items() if spec.prefill is not None},
        {name for name, spec in deployments.items() if spec.encoder is not None},
        tiers,
        tenants_of(workload) if any(w.tenants for w in workload.values()) else [],
        any(spec.reasons for spec in workload.values()),
        any(spec.pictures for spec in workload.values()),
        [stream.timeout_s for stream in factory.streams],
        scenario.duration,
        {fleet.deployment: fleet.pods for fleet in factory.fleets if len(fleet.pods) > 1},
    )


def _recorded(
    factory: Factory, terms: Terms, trips: Trips | None, recorder: Recorder | None
) -> tuple[pd.DataFrame | None, Answers, Mapping[str, Stays]]:
    """Return the table of requests, if rows were kept; what the summary asks; and how long they
    stayed in each deployment."""
    if recorder is not None:
        keeps = factory.scenario.recording.sampled
        drawn = {name: [rows] for name, rows in recorder.drawn().items()}
        table = request_table(drawn, terms) if keeps else None
        return table, recorder.tally(), recorder.stays()
    raw = {name: gateway.pieces() for name, gateway in factory.fronts.items()}
    lags = np.array([stream.lag_s for stream in factory.streams])
    pods = max(len(fleet.pods) for fleet in factory.fleets)
    numbers = None
    if max(len(raw), pods) > 1 and not all(factory.beyond.values()):
        numbers = numbered(raw, lags)
    table = request_table(raw, terms, trips, numbers)
    now_s = factory.env.now
    stays = {
        name: reduce(Stays.plus, (stays_of(rows, lags, now_s) for rows in pieces))
        for name, pieces in raw.items()
    }
    return table, Rows(table, terms), stays


def _sites(
    factory: Factory,
    before: Reading,
    after: Reading,
    shares: Sequence[Share],
    jobs: Sequence[TrainingShare],
) -> tuple[dict[str, dict[str, Floats]], dict[str, Premise]]:
    """Return the time series of each site, by name, and what it did and what ran there."""
    tables, sites = {}, {}
    for premises, end, start in zip(factory.premises, after.books, before.books, strict=True):
        layout, name = premises.layout, premises.name
        tables[name] = premises.meter.table()
        table = pd.DataFrame(tables[name])
        pools = {fleet.name for fleet in layout.fleets}
        held = {holding.name for holding in layout.holdings}
        sites[name] = Premise(
            layout,
            window_of(premises, before, after, end.since(start), table),
            table,
            [share for share in shares if share.name in pools],
            [job for job in jobs if job.name in held],
        )
    return tables, sites


def _play(
    factory: Factory,
    scenario: Scenario,
    progress: Callable[[Progress], None] | None,
    recorder: Recorder | None,
) -> tuple[Reading, Reading, list[dict[str, Floats]]]:
    """Run the clock; return the counters at the end of the warm-up and of the arrivals.

    And where few replicas stand for many, what pods had drawn at the ends of batches of time.
    """
    env = factory.env

    def tell() -> None:
        if recorder is not None:
            recorder.hand_over(AT_ONCE)
        if progress is not None:
            done = factory.ended
            sent = sum(stream.sent for stream in factory.streams)
            progress(Progress(env.now, scenario.duration, done, sent))

    def advance(until_s: float) -> None:
        for stop_s in _stops(env.now, until_s, scenario.duration / 200):
            env.run(until=stop_s)
            tell()

    if scenario.warmup:
        advance(scenario.warmup)
    before = read(factory)
    for gaps in factory.gaps.values():
        gaps.clear()
    looks = []
    if any(fleet.scale > 1.0 for fleet in factory.fleets):
        looks = [drawn(factory)]
        for end_s in np.linspace(scenario.warmup, scenario.duration, BATCHES + 1)[1:-1].tolist():
            advance(end_s)
            looks.append(drawn(factory))
    advance(scenario.duration)
    after = read(factory)
    if looks:
        looks.append(drawn(factory))
    _drain(factory, tell)
    if recorder is not None:
        recorder.hand_over()
    return before, after, looks


def _drain(factory: Factory, tell: Callable[[], None]) -> None:
    """Run on until nobody waits any more, or the drain has lasted as long as it may; then close."""
    env, scenario = factory.env, factory.scenario
    limit_s = scenario.duration + scenario.drain
    # A request may still be on its way in; its lag is part of a period at most.
    period = factory.period_s
    in_flight_s = scenario.duration + max(stream.lag_s for stream in factory.streams)
    while (factory.waiting_or_running or env.now <= in_flight_s) and env.now < limit_s:
        env.run(until=min(env.now + period, limit_s))
        tell()
    for premises in factory.premises:
        premises.meter.close()
    for gateway in factory.gateways.values():
        gateway.close()
    for door in factory.doors.values():
        door.close()


def _stops(start_s: float, end_s: float, slice_s: float) -> Iterator[float]:
    """Yield times after start_s, about slice_s apart, the last of them end_s."""
    count = max(1, round((end_s - start_s) / slice_s))
    for index in range(1, count):
        yield start_s + (end_s - start_s) * index / count
    yield end_s
