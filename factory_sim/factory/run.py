"""One run, from a scenario to its tables: build, warm up, measure, drain, sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from factory_sim.factory.build import Factory, step_time_of
from factory_sim.factory.layout import lay_out_sites
from factory_sim.factory.pools import StepTimes
from factory_sim.factory.results.reading import Reading, read
from factory_sim.factory.results.record import record_of
from factory_sim.factory.results.shares import (
    promise_of,
    services_of,
    share_of,
    tiers_of,
    training_share,
    trips_of,
)
from factory_sim.factory.results.window import window_of
from factory_sim.metrics.requests import request_table
from factory_sim.metrics.sessions import sessions_summary, with_sessions
from factory_sim.metrics.site import Floats, Window
from factory_sim.metrics.sites import joined_table, joined_window, site_summary
from factory_sim.metrics.summary import Summary, summarise
from factory_sim.metrics.trips_summary import trips_summary
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.service import tenants_of


@dataclass(frozen=True)
class Run:
    """What a run gives. requests and timeseries are pandas frames; record is `run.json`."""

    scenario: Scenario
    summary: Summary
    requests: pd.DataFrame
    timeseries: pd.DataFrame
    record: dict[str, Any]


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
) -> Run:
    """Run the factory that `scenario` describes and return what it recorded.

    progress: called a few hundred times in a run. step_time: makes the step-time model of a
    fleet at a clock, in place of the one that its deployment names. debug: recount
    requests, tokens and KV blocks at every boundary.
    Raises InputError, before anything runs, for a scenario that cannot be built.
    """
    started = time.perf_counter()
    factory = Factory(*lay_out_sites(scenario), step_time=step_time, debug=debug)
    before, after = _play(factory, scenario, progress)
    raw = {name: gateway.table() for name, gateway in factory.fronts.items()}
    streams, tiers = list(scenario.workload), tiers_of(scenario)
    trips = trips_of(factory)
    requests = request_table(
        raw,
        streams,
        [spec.round_trip / 2 for spec in scenario.workload.values()],
        scenario.warmup,
        {fleet.name: promise_of(fleet.spec.slo) for fleet in factory.fleets},
        {name for name, spec in scenario.deployments.items() if spec.prefill is not None},
        list(tiers.values()),
        tenants_of(scenario.workload) if any(w.tenants for w in scenario.workload.values()) else [],
        any(spec.reasons for spec in scenario.workload.values()),
        any(spec.images for spec in scenario.workload.values()),
        trips,
        [stream.timeout_s for stream in factory.streams],
    )
    sessions = factory.sessions.rows() if factory.sessions else None
    if sessions is not None:
        requests = with_sessions(requests, sessions)
    lags = np.array([stream.lag_s for stream in factory.streams])
    shares = [share_of(factory, fleet, before, after, raw, lags) for fleet in factory.fleets]
    sums = zip(factory.jobs, before.jobs, after.jobs, strict=True)
    jobs = [training_share(scenario, *each) for each in sums]
    tables, windows = _sites(factory, before, after)
    timeseries = pd.DataFrame(joined_table(tables))
    summary = summarise(requests, timeseries, joined_window(windows), shares, tiers, jobs)
    if scenario.sites is not None:
        summary["sites"] = {
            name: site_summary(
                pd.DataFrame(tables[name]),
                windows[name],
                [share for share in shares if scenario.deployments[share.deployment].site == name],
                [job for job in jobs if (scenario.training or {})[job.name].site == name],
            )
            for name in scenario.sites
        }
    summary |= trips_summary(requests, services_of(factory), shares, scenario.regions or ())
    if sessions is not None:
        summary |= sessions_summary(sessions, scenario.warmup)
    record = record_of(factory, time.perf_counter() - started)
    return Run(scenario, summary, requests, timeseries, record)


def _sites(
    factory: Factory, before: Reading, after: Reading
) -> tuple[dict[str, dict[str, Floats]], dict[str, Window]]:
    """Return the time series and the window of each site, by name."""
    tables, windows = {}, {}
    for premises, end, start in zip(factory.premises, after.books, before.books, strict=True):
        tables[premises.name] = table = premises.meter.table()
        windows[premises.name] = window_of(
            premises, before, after, end.since(start), pd.DataFrame(table)
        )
    return tables, windows


def _play(
    factory: Factory, scenario: Scenario, progress: Callable[[Progress], None] | None
) -> tuple[Reading, Reading]:
    """Run the clock; return the counters at the end of the warm-up and of the arrivals."""
    env = factory.env
    limit_s = scenario.duration + scenario.drain

    def tell() -> None:
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
    advance(scenario.duration)
    after = read(factory)
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
    return before, after


def _stops(start_s: float, end_s: float, slice_s: float) -> Iterator[float]:
    """Yield times after start_s, about slice_s apart, the last of them end_s."""
    count = max(1, round((end_s - start_s) / slice_s))
    for index in range(1, count):
        yield start_s + (end_s - start_s) * index / count
    yield end_s
