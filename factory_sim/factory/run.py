"""One run, from a scenario to its tables: build, warm up, measure, drain, sum up."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import simpy
from pydantic import BaseModel

from factory_sim import __version__
from factory_sim.catalog import Fact
from factory_sim.factory.build import Factory, step_time_of
from factory_sim.factory.facility.building import PARTS
from factory_sim.factory.facility.facility import Books
from factory_sim.factory.fleet import Fleet
from factory_sim.factory.layout import Layout, lay_out
from factory_sim.factory.pools import StepTimes
from factory_sim.factory.replica import Replica
from factory_sim.factory.training import Job
from factory_sim.metrics import SCHEMA_VERSION
from factory_sim.metrics.requests import OUTCOMES, Promise, Tier, request_table
from factory_sim.metrics.scaling import ScalingCounts
from factory_sim.metrics.sessions import sessions_summary, with_sessions
from factory_sim.metrics.share import Share
from factory_sim.metrics.site import (
    LevelUse,
    LinkUse,
    OverPreference,
    StageUse,
    Window,
    seconds_within,
)
from factory_sim.metrics.summary import Summary, summarise
from factory_sim.metrics.totals import Totals
from factory_sim.metrics.training import TrainingShare, TrainingTotals
from factory_sim.scenario.deployment import Slo
from factory_sim.scenario.facility import PowerChainSpec
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
    layout = lay_out(scenario)
    factory = Factory(layout, step_time, debug)
    before, after = _play(factory, scenario, progress)
    raw = {name: gateway.table() for name, gateway in factory.fronts.items()}
    streams, tiers = list(scenario.workload), _tiers(scenario)
    requests = request_table(
        raw,
        streams,
        [spec.round_trip / 2 for spec in scenario.workload.values()],
        scenario.warmup,
        {fleet.name: _promise(fleet.spec.slo) for fleet in layout.fleets},
        {name for name, spec in scenario.deployments.items() if spec.prefill is not None},
        list(tiers.values()),
        tenants_of(scenario.workload) if any(w.tenants for w in scenario.workload.values()) else [],
    )
    sessions = factory.sessions.rows() if factory.sessions else None
    if sessions is not None:
        requests = with_sessions(requests, sessions)
    timeseries = pd.DataFrame(factory.meter.table())
    lags = np.array([stream.lag_s for stream in factory.streams])
    shares = [_share(factory, fleet, before, after, raw, lags) for fleet in layout.fleets]
    window = _window(factory, before, after, timeseries)
    sums = zip(factory.jobs, before.jobs, after.jobs, strict=True)
    jobs = [_training(scenario, *each) for each in sums]
    summary = summarise(requests, timeseries, window, shares, tiers, jobs)
    if sessions is not None:
        summary |= sessions_summary(sessions, scenario.warmup)
    record = _record(scenario, layout, time.perf_counter() - started, factory.env.now)
    return Run(scenario, summary, requests, timeseries, record)


class _Reading(NamedTuple):
    """Counters of every replica at one time, and the books of the facility."""

    totals: dict[str, list[Totals]]
    input_tokens: dict[str, int]
    recomputed_tokens: dict[str, int]
    lost_tokens: dict[str, int]
    moved_blocks: dict[str, int]
    loaded_blocks: dict[str, int]
    carried_bytes: dict[str, float]
    scaling: dict[str, ScalingCounts]
    jobs: list[TrainingTotals]
    books: Books


def _play(
    factory: Factory, scenario: Scenario, progress: Callable[[Progress], None] | None
) -> tuple[_Reading, _Reading]:
    """Run the clock; return the counters at the end of the warm-up and of the arrivals."""
    env = factory.env
    limit_s = scenario.duration + scenario.drain

    def tell() -> None:
        if progress is not None:
            done = sum(len(g.rows) // g.row_bytes for g in factory.gateways.values())
            sent = sum(stream.sent for stream in factory.streams)
            progress(Progress(env.now, scenario.duration, done, sent))

    def advance(until_s: float) -> None:
        for stop_s in _stops(env.now, until_s, scenario.duration / 200):
            env.run(until=stop_s)
            tell()

    if scenario.warmup:
        advance(scenario.warmup)
    before = _read(factory)
    for gaps in factory.gaps.values():
        gaps.clear()
    advance(scenario.duration)
    after = _read(factory)
    # A request may still be on its way in; its lag is part of a period at most.
    period = factory.layout.period_s
    in_flight_s = scenario.duration + max(stream.lag_s for stream in factory.streams)
    while (factory.waiting_or_running or env.now <= in_flight_s) and env.now < limit_s:
        env.run(until=min(env.now + period, limit_s))
        tell()
    factory.meter.close()
    for gateway in factory.gateways.values():
        gateway.close()
    return before, after


def _stops(start_s: float, end_s: float, slice_s: float) -> Iterator[float]:
    """Yield times after start_s, about slice_s apart, the last of them end_s."""
    count = max(1, round((end_s - start_s) / slice_s))
    for index in range(1, count):
        yield start_s + (end_s - start_s) * index / count
    yield end_s


def _read(factory: Factory) -> _Reading:
    def of(name: str) -> list[Replica]:
        return factory.gateways[name].replicas

    names = list(factory.gateways)
    factory.meter.account()
    return _Reading(
        {name: [replica.totals() for replica in of(name)] for name in names},
        {name: sum(replica.batch.input_tokens for replica in of(name)) for name in names},
        {name: sum(replica.batch.recomputed_tokens for replica in of(name)) for name in names},
        {name: sum(replica.batch.lost_tokens for replica in of(name)) for name in names},
        {name: sum(replica.batch.moved_blocks for replica in of(name)) for name in names},
        {name: sum(replica.batch.loaded_blocks for replica in of(name)) for name in names},
        {name: link.carried_bytes() for name, link in factory.links.items()},
        {name: scaler.counts() for name, scaler in factory.scalers.items()},
        [job.totals() for job in factory.jobs],
        factory.facility.books(),
    )


def _tiers(scenario: Scenario) -> dict[str, Tier]:
    """Return the tier of each workload; none where there are no classes."""
    found = {}
    for name, spec in scenario.workload.items() if scenario.classes else ():
        promise = scenario.promise_to(name)
        tier = (scenario.classes or {}).get(spec.class_ or "")
        price = tier.price if tier else None
        found[name] = Tier(
            scenario.class_of(name),
            _promise(promise),
            promise.percentile if promise else 99.0,
            price.input if price else 0.0,
            price.output if price else 0.0,
        )
    return found


def _promise(slo: Slo | None) -> Promise:
    if slo is None:
        return Promise(np.inf, np.inf, np.inf)
    limits = (np.inf if limit is None else limit for limit in (slo.ttft, slo.tpot, slo.e2e))
    return Promise(*limits)


def _share(
    factory: Factory,
    fleet: Fleet,
    before: _Reading,
    after: _Reading,
    raw: dict[str, np.ndarray],
    lags: np.ndarray,
) -> Share:
    scenario = factory.layout.scenario
    name, seconds = fleet.name, scenario.duration - scenario.warmup
    totals = Totals()
    for new, old in zip(after.totals[name], before.totals[name], strict=True):
        totals = totals.plus(new.minus(old))
    scale = fleet.scale
    totals = Totals().plus(totals, scale) if scale != 1.0 else totals
    replicas = fleet.represented
    idle_s = replicas * seconds - totals.busy_s - totals.dark_s
    gpu_j = fleet.gpus_per_replica * (totals.energy_j + fleet.power.idle_w * idle_s)
    front = factory.gateways[name]
    serves = factory.fronts[fleet.deployment] is front  # clients see it, with what is behind it
    rows = raw[fleet.deployment][: None if serves else 0]
    ends = np.where(np.isnan(rows["end_s"]), factory.env.now, rows["end_s"])
    inside_s = ends - rows["arrival_s"] - lags[rows["stream"]]
    # Who is refused on arrival was never inside; who was lost with a replica first, was.
    accepted = inside_s[(rows["outcome"] != OUTCOMES.index("rejected")) | (inside_s > 1e-6)]
    scaling = None
    lost = after.lost_tokens[name] - before.lost_tokens[name]
    if name in after.scaling:
        scaling = after.scaling[name].minus(before.scaling[name])
        lost -= scaling.lost_tokens
    return Share(
        deployment=fleet.deployment,
        name=name,
        role=_role(fleet),
        replicas=replicas,
        gpus_per_replica=fleet.gpus_per_replica,
        totals=totals,
        scale=scale,
        input_tokens=scale * (after.input_tokens[name] - before.input_tokens[name]),
        recomputed_tokens=scale * (after.recomputed_tokens[name] - before.recomputed_tokens[name]),
        gpu_j=gpu_j,
        gaps=factory.gaps[name],
        promise=_promise(fleet.spec.slo),
        percentile=fleet.spec.slo.percentile if fleet.spec.slo else 99.0,
        request_seconds=front.request_seconds(),
        system_seconds=float(accepted.sum()),
        accepted=len(accepted),
        prefix_caching=name in factory.caching,
        lost_tokens=scale * lost,
        scaling=scaling,
        swapped_bytes=scale
        * (after.moved_blocks[name] - before.moved_blocks[name])
        * fleet.memory.bytes_per_token
        * fleet.memory.block_tokens
        * fleet.gpus_per_replica,
        loaded_tokens=scale
        * (after.loaded_blocks[name] - before.loaded_blocks[name])
        * fleet.memory.block_tokens,
        kv_bytes_per_token=fleet.memory.bytes_per_token * fleet.gpus_per_replica,
        draft_tokens=fleet.drafting.tokens if fleet.drafting else 0,
    )


def _training(
    scenario: Scenario, job: Job, before: TrainingTotals, after: TrainingTotals
) -> TrainingShare:
    holding = job.holding
    both_w = (holding.computing_w, holding.communicating_w)
    return TrainingShare(
        name=holding.name,
        gpus=len(holding.gpus),
        totals=after.minus(before),
        seconds=scenario.duration - scenario.warmup,
        tokens=holding.spec.tokens,
        tokens_per_step=holding.spec.global_batch,
        flops_per_step=holding.flops_per_step,
        peak_flops=holding.peak_flops,
        phases_w=tuple(holding.watts_at(watts, holding.clock) for watts in both_w)
        if holding.rhythm.communicating_s
        else (),
        step_s=holding.rhythm.step_at(holding.clock),
    )


def _role(fleet: Fleet) -> str:
    return fleet.phases[0] if len(fleet.phases) == 1 else ""


def _window(
    factory: Factory, before: _Reading, after: _Reading, timeseries: pd.DataFrame
) -> Window:
    layout, run_s = factory.layout, factory.env.now
    scenario = layout.scenario
    books = after.books.since(before.books)
    return Window(
        start_s=scenario.warmup,
        end_s=scenario.duration,
        run_s=run_s,
        parts_j=dict(zip(PARTS, books.joules, strict=True)),
        it_j=books.it_j,
        meter_j=books.meter_j,
        generation_j=books.generation_j,
        water_kg=(books.air_water_kg, books.liquid_water_kg) if scenario.site.cooling else None,
        parts_g=dict(zip(PARTS, books.carbon_g, strict=True)) if scenario.site.carbon else None,
        cost_usd=books.cost_usd if scenario.site.price else None,
        stages=_stages(factory, books, scenario.duration - scenario.warmup),
        levels=_levels(factory),
        outages=_outages(factory),
        links=_links(factory, before, after, timeseries),
        hottest_c=_hottest(timeseries),
        over_preference=_over_preference(scenario, timeseries),
        provisioned_it_w=layout.provisioned_it_w,
        provisioned_grid_w=layout.provisioned_grid_w,
        gpus=len(layout.site.gpus),
    )


def _links(
    factory: Factory, before: _Reading, after: _Reading, timeseries: pd.DataFrame
) -> dict[str, LinkUse]:
    """Return how full each link was."""
    scenario = factory.layout.scenario
    seconds = scenario.duration - scenario.warmup
    found = {}
    for name, link in factory.links.items():
        carried = after.carried_bytes[name] - before.carried_bytes[name]
        found[name] = LinkUse(
            mean=carried / seconds / link.bytes_per_s,
            highest=float(timeseries[f"link/{name}.use"].max()),
            carried_bytes=carried,
        )
    return found


def _stages(factory: Factory, books: Books, seconds: float) -> dict[str, StageUse]:
    """Return what each stage of the power chain carried, from the feed to the racks."""
    facility = factory.facility
    found = {}
    for index, stage in reversed(list(enumerate(facility.building.stages))):
        found[stage.name] = StageUse(
            blocks=len(stage.blocks),
            redundancy=stage.redundancy,
            rating_w=sum(block.rating_w for block in stage.blocks),
            installed_w=sum(block.installed_w for block in stage.blocks),
            mean_w=books.stage_j[index] / seconds,
            fullest=facility.fullest[index],
        )
    return found


def _levels(factory: Factory) -> dict[str, LevelUse]:
    """Return how each limited level fared, the meter first."""
    end_s = factory.layout.scenario.duration
    return {
        level.limit.name: LevelUse(
            limit_w=level.limit.watts.min_over(0.0, end_s),
            highest_w=level.highest_w,
            over_s=level.over_s,
            over_w=level.over_w,
            over_j=level.over_j,
            held_s=level.held_s,
        )
        for level in factory.meter.levels
    }


def _outages(factory: Factory) -> dict[str, dict[str, int]]:
    """Return what failed, by kind of domain."""
    return {
        kind: {
            "failures": tally.failures,
            "carried_by_redundancy": tally.carried,
            "replicas_stopped": tally.stops,
            "requests_lost": tally.requests_lost,
        }
        for kind, tally in factory.outages.tallies.items()
    }


def _hottest(timeseries: pd.DataFrame) -> dict[str, float]:
    names = ("gpu_hottest_c", "coolant_hottest_c")
    return {name: float(timeseries[name].max()) for name in names if name in timeseries}


def _over_preference(scenario: Scenario, timeseries: pd.DataFrame) -> OverPreference | None:
    """Return the window's energy above the preferred limit and its cost, if one is preferred."""
    preference = scenario.power.preference
    if preference is None:
        return None
    seconds = seconds_within(timeseries, scenario.warmup, scenario.duration)
    start_s = timeseries["time_s"].shift(fill_value=0.0).to_numpy()
    over_w = 1e6 * timeseries["grid_power_mw"].to_numpy() - preference.limit.at(start_s)
    over_j = np.maximum(over_w, 0.0) * seconds
    return OverPreference(float(over_j.sum()), float((over_j * preference.price.at(start_s)).sum()))


def _record(scenario: Scenario, layout: Layout, wall_s: float, now_s: float) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "seed": scenario.seed,
        "engine": "simpy",
        "simulated_s": now_s,
        "wall_s": wall_s,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "simpy": simpy.__version__,
        },
        "period_s": layout.period_s,
        "racks": len(layout.site.racks),
        "gpus": len(layout.site.gpus),
        "kinds": _kinds(layout),
    }


def _kinds(layout: Layout) -> dict[str, int]:
    """Return how many of the catalogue figures behind the run are of each kind."""
    systems = {rack.system.name: rack for rack in layout.site.racks}
    found: Counter[str] = Counter()
    for rack in systems.values():
        found.update(_kinds_in(rack.system))
        found.update(_kinds_in(rack.enclosure))
    site, facts = layout.scenario.site, layout.scenario.facts
    if site.cooling is not None:
        found.update(_kinds_in(facts.cooling_plant(site.cooling.plant)))
        found.update(_kinds_in(facts.power_chain((site.power_chain or PowerChainSpec()).kind)))
    for fleet in layout.fleets:
        for part in (fleet.accelerator, fleet.model, fleet.engine, fleet.efficiency):
            found.update(_kinds_in(part))
        found.update(_kinds_in(fleet.power_curve))
    for holding in layout.holdings:
        for entry in (holding.accelerator, holding.efficiency, holding.power_curve):
            found.update(_kinds_in(entry))
    return dict(sorted(found.items()))


def _kinds_in(thing: object) -> Iterator[str]:
    """Yield the kind of every Fact inside an entry of the catalogue."""
    if isinstance(thing, Fact):
        yield thing.kind
    elif isinstance(thing, BaseModel):
        for _, value in thing:
            yield from _kinds_in(value)
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _kinds_in(value)
