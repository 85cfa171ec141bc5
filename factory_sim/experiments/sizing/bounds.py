"""Bounds: what a perfect system would need, whose batches are always full and never wait."""

from __future__ import annotations

from typing import NamedTuple

from factory_sim.factory.check import asked_by_all, asked_of
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.review.deployment import best
from factory_sim.scenario.scenario import Scenario


class Perfect(NamedTuple):
    """What is asked of a pool, and the best that it could do for ever, in requests/s.

    asked_per_s: None where clients wait for answers. replica_per_s: of one replica, by the roofline
    of its steps with the largest batch that its KV cache holds. replicas: how many there are.
    """

    pool: str
    asked_per_s: float | None
    replica_per_s: float
    replicas: int

    @property
    def needed(self) -> float | None:
        """Return how many replicas a perfect system would need."""
        return None if self.asked_per_s is None else self.asked_per_s / self.replica_per_s

    @property
    def load(self) -> float | None:
        """Return what is asked, as a share of the best."""
        needed = self.needed
        return None if needed is None else needed / self.replicas


class Bounds(NamedTuple):
    """pools: those that serve tokens. power: the least grid limit of the run, as a share of what
    the sites draw with every GPU at its power limit in the hottest weather; 1 at most."""

    pools: list[Perfect]
    power: float

    @property
    def load(self) -> float | None:
        """Return what is asked as a share of the best, of the pool where it is most."""
        return max((pool.load for pool in self.pools if pool.load is not None), default=None)


def bounds(scenario: Scenario) -> Bounds:
    """Return the bounds of a scenario; InputError for one that cannot be built."""
    layouts = lay_out_sites(scenario)
    asked = asked_by_all(scenario)
    pools = []
    for fleet in fleets_of(layouts):
        mean = None if fleet.encodes else asked_of(scenario, fleet, asked)
        if mean is not None:
            rate = best(fleet, mean).requests_per_s * fleet.batches
            pools.append(Perfect(fleet.name, mean.per_s, rate, fleet.represented))
    end_s = scenario.duration
    shares = (
        each.scenario.site.grid_limit.min_over(0.0, end_s) / each.peak.load_w for each in layouts
    )
    return Bounds(pools, min(1.0, *shares))
