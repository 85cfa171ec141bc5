"""What a planner should know before trusting a run: too short, not settled, few for many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import pandas as pd

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.metrics.sampled import relative_widths
from factory_sim.metrics.steadiness import TAIL, drift, longer
from factory_sim.scenario.arrivals import (
    ClosedArrivals,
    ConstantArrivals,
    GammaArrivals,
    PoissonArrivals,
)
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.signal import Constant


def doubts(
    scenario: Scenario,
    fleets: Sequence[Fleet],
    summary: dict[str, Any],
    timeseries: pd.DataFrame,
    requests: int,
) -> Iterator[str]:
    """Yield what there is to warn of, each with the field to change. requests: measured.

    Of a run whose load or site changes over time nobody can say that it should have settled.
    """
    if steady(scenario):
        yield from _unsettled(scenario, timeseries)
        yield from _too_short(scenario, summary, requests)
    for fleet in fleets:
        if fleet.scale > 1.0 and fleet.spec.router.pods > 1 and len(fleet.pods) == 1:
            each = ceil(fleet.represented / fleet.spec.router.pods)
            yield (
                f"{fleet.where}.replicas.simulate: {len(fleet.replicas)} are "
                f"{'fewer than' if len(fleet.replicas) < each else 'no more than'} one pod; "
                f"simulate two pods or more, {2 * each} or so, which can be compared"
            )


def steady(scenario: Scenario) -> bool:
    """Tell whether load and site are the same all the time."""
    sites = list((scenario.sites or {"": scenario.site}).values())
    return (
        scenario.failures is None
        and not any(spec.scalings for spec in scenario.deployments.values())
        and all(isinstance(site.grid_limit, Constant) for site in sites)
        and all(_even(spec.arrivals) for spec in scenario.workload.values())
    )


def _even(arrivals: object) -> bool:
    if isinstance(arrivals, ClosedArrivals):
        return arrivals.requests is None
    if not isinstance(arrivals, PoissonArrivals | GammaArrivals | ConstantArrivals):
        return False
    return arrivals.shape is None and arrivals.requests is None


def _unsettled(scenario: Scenario, timeseries: pd.DataFrame) -> Iterator[str]:
    told = timeseries[timeseries["time_s"] <= scenario.duration]
    if "running_requests" not in told:
        return
    inside = (told["running_requests"] + told["queue_requests"]).to_numpy()
    found = drift(told["time_s"].to_numpy(), inside, scenario.warmup)
    if found is None:
        return
    if found.from_s is None:
        yield (
            "duration: the requests in the factory do not settle (MSER-5): in the mean of what is "
            f"measured they are {abs(found.off):.0%} "
            f"{'fewer' if found.off < 0 else 'more'} than in its second half; say duration: "
            f"{2 * scenario.duration:g} s, or send less if they grow without end"
        )
    else:
        yield (
            f"warmup: the requests in the factory settle after {found.from_s:g} s (MSER-5), and "
            f"{scenario.warmup:g} s are left out, so that their mean is {abs(found.off):.0%} off; "
            f"say warmup: {found.from_s:g} s"
        )


def _too_short(scenario: Scenario, summary: dict[str, Any], requests: int) -> Iterator[str]:
    window_s = scenario.duration - scenario.warmup
    spread = [
        key
        for key in ("ttft_ms", "tpot_ms", "e2e_ms")
        if key in summary and summary[key]["p99"] > 1.05 * summary[key]["p50"]
    ]
    if not spread:
        return
    widths = relative_widths(summary)
    worst = max(spread, key=lambda key: widths.get(f"{key}.p99", 0.0))
    width = widths.get(f"{worst}.p99")
    wanted_s = longer(window_s, width, requests)
    if wanted_s is None:
        return
    said = f"say duration: {ceil(scenario.warmup + wanted_s)} s"
    if requests * 0.01 < TAIL:
        yield (
            f"duration: 99th percentiles of {requests:,} requests rest on the slowest "
            f"{max(1, round(requests * 0.01))}; {said}"
        )
    else:
        assert width is not None
        yield f"duration: {worst}.p99 is known within {width:.0%} only; for 10 % {said}"
