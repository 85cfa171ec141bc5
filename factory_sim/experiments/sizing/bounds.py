"""Bounds: what a perfect system would need, whose batches are always full and never wait.

Beside it, what a queueing formula says of replicas that are asked at random times.
"""

from __future__ import annotations

from typing import NamedTuple

from factory_sim.experiments.sizing.queueing import Slots, slots_of
from factory_sim.factory.check import asked_by_all, asked_of
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.review.deployment import best
from factory_sim.scenario.deployment import Slo
from factory_sim.scenario.scenario import Scenario

MOST = 1_000_000
"""Replicas or racks that nobody looks beyond."""


class Perfect(NamedTuple):
    """What is asked of a pool, and the best that it could do for ever, in requests/s.

    asked_per_s: None where clients wait for answers. replica_per_s: of one replica, by the roofline
    of its steps with the largest batch that its KV cache holds. replicas: how many there are.
    slots: of a replica, for the queueing formula; None where it has nothing to say. simulated: how
    many of the replicas are simulated, where few stand for many; None where all are. output: tokens
    of an answer, in the mean.
    """

    pool: str
    asked_per_s: float | None
    replica_per_s: float
    replicas: int
    slots: Slots | None = None
    simulated: int | None = None
    output: float = 0.0

    @property
    def needed(self) -> float | None:
        """Return how many replicas a perfect system would need."""
        return None if self.asked_per_s is None else self.asked_per_s / self.replica_per_s

    @property
    def load(self) -> float | None:
        """Return what is asked, as a share of the best."""
        needed = self.needed
        return None if needed is None else needed / self.replicas

    @property
    def queued(self) -> int | None:
        """Return how many replicas the queueing formula asks for."""
        if self.asked_per_s is None or self.slots is None:
            return None
        return self.slots.replicas(self.asked_per_s, MOST)

    @property
    def queued_load(self) -> float | None:
        """Return what the queueing formula says is carried, as a share of the best."""
        if self.slots is None:
            return None
        return self.slots.carried(self.replicas) / (self.replica_per_s * self.replicas)


class Bounds(NamedTuple):
    """pools: those that serve tokens. power: the least grid limit of the run, as a share of what
    the sites draw with every GPU at its power limit in the hottest weather; 1 at most."""

    pools: list[Perfect]
    power: float

    @property
    def load(self) -> float | None:
        """Return what is asked as a share of the best, of the pool where it is most."""
        return max((pool.load for pool in self.pools if pool.load is not None), default=None)

    @property
    def queued_load(self) -> float | None:
        """Return what the queueing formula says is carried, as a share of the best there."""
        pools = [pool for pool in self.pools if pool.load is not None]
        return max(pools, key=lambda pool: pool.load or 0.0).queued_load if pools else None


def bounds(scenario: Scenario) -> Bounds:
    """Return the bounds of a scenario; InputError for one that cannot be built."""
    layouts = lay_out_sites(scenario)
    asked = asked_by_all(scenario)
    pools = []
    for fleet in fleets_of(layouts):
        mean = None if fleet.encodes else asked_of(scenario, fleet, asked)
        if mean is not None:
            rate = best(fleet, mean).requests_per_s * fleet.batches
            slots = slots_of(fleet, mean, _promise(scenario, fleet))
            few = len(fleet.replicas) if fleet.scale > 1.0 else None
            pools.append(
                Perfect(fleet.name, mean.per_s, rate, fleet.represented, slots, few, mean.output)
            )
    end_s = scenario.duration
    shares = (
        each.scenario.site.grid_limit.min_over(0.0, end_s) / each.peak.load_w for each in layouts
    )
    return Bounds(pools, min(1.0, *shares))


def _promise(scenario: Scenario, fleet: Fleet) -> Slo | None:
    """Return what is promised to all whom a fleet serves, if it is the same to all."""
    if any(spec.slo is not None for spec in (scenario.classes or {}).values()):
        return None
    return fleet.spec.slo
