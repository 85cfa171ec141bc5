"""What each hour of a year brings: demand, speed, weather, limit, prices, and what is broken.

Demand is the scenario's rate times its shape, times what it has grown since the start. Software
that is `speed` times as fast does the same work in so much less time, at the same watts: replicas
that get `load` requests a second then do what slower ones do with load / speed, only that all of
it, tokens and waits, goes by `speed` times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory_sim.factory.facility.climate import Climate
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.signal import DAY_S, Constant, Signal

Floats = NDArray[np.float64]

YEAR_S = 365.0 * DAY_S
"""Of what growth is told of."""


@dataclass(frozen=True)
class Hours:
    """One entry for each step of `step_s`, the first of which begins at time 0.

    load: demand as a multiple of the scenario's rate. speed: of the software, one at the start.
    up: the share of replicas that are up. ambient: the air in the middle of the step. limit_w: the
    lowest of the step. generation_w: own, the mean. usd_per_j, g_per_j: means, where there is any.
    """

    step_s: float
    load: Floats
    speed: Floats
    up: Floats
    ambient: list[Ambient]
    limit_w: Floats
    generation_w: Floats
    usd_per_j: Floats | None
    g_per_j: Floats | None

    def __len__(self) -> int:
        return len(self.load)

    @property
    def end_s(self) -> float:
        """Return when the last step ends."""
        return self.step_s * len(self)

    @property
    def time_s(self) -> Floats:
        """Return when each step begins."""
        return self.step_s * np.arange(float(len(self)))


def hours_of(
    scenario: Scenario,
    climate: Climate,
    count: int,
    step_s: float,
    growth: float,
    faster: float,
    up: Floats,
) -> Hours:
    """Return `count` steps of a scenario. growth, faster: of demand and of speed, shares a year."""
    site = scenario.site
    edges = step_s * np.arange(count + 1.0)
    middles = edges[:-1] + step_s / 2.0
    shape = next(iter(scenario.workload.values())).arrivals.shape or Constant(1.0)  # type: ignore[union-attr]
    load = _means(shape, edges) * (1.0 + growth) ** (middles / YEAR_S)
    speed = (1.0 + faster) ** (middles / YEAR_S)
    limit_w = [_limit_w(scenario, start, start + step_s) for start in edges[:-1].tolist()]
    return Hours(
        step_s,
        load,
        speed,
        up,
        [climate.at(middle) for middle in middles.tolist()],
        np.array(limit_w),
        np.zeros(count) if site.generation is None else _means(site.generation, edges),
        None if site.price is None else _means(site.price, edges),
        None if site.carbon is None else _means(site.carbon, edges),
    )


def _means(signal: Signal, edges: Floats) -> Floats:
    """Return the exact mean of each step."""
    return np.asarray(np.diff(signal.integral(edges)) / np.diff(edges))


def _limit_w(scenario: Scenario, start_s: float, end_s: float) -> float:
    """Return the lowest limit of a step; a preference counts where it is worth keeping."""
    # What begins with the next step is not of this one.
    end_s = np.nextafter(end_s, start_s)
    limit_w = float(scenario.site.grid_limit.min_over(start_s, end_s))
    preference = scenario.power.preference
    if preference is not None and preference.price.mean_over(start_s, end_s) > preference.worth:
        limit_w = min(limit_w, float(preference.limit.min_over(start_s, end_s)))
    return limit_w
