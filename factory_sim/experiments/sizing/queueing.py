"""What a formula says: replicas as the servers of one queue, as many each as fit in a batch.

Every slot serves as slowly as in a full batch, and whoever finds one free does not wait. That is
between a perfect system, which never waits, and the simulated one, where free slots are at other
replicas, batches are seldom full, and requests come in bursts.
"""

from __future__ import annotations

from math import exp, inf
from typing import NamedTuple

from scipy.stats import poisson

from factory_sim.experiments.sizing.search import threshold
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.review.deployment import best
from factory_sim.factory.review.workload import Asked
from factory_sim.scenario.deployment import Slo

HALVINGS = 30
"""Of the load that is sought: to a share of 1e-9."""


class Slots(NamedTuple):
    """A replica as slots, all alike. stay_s: how long a mean request keeps one. spread: of stays,
    the variance over the square of the mean. wait_s: what at most a share `late` may exceed."""

    slots: int
    stay_s: float
    spread: float
    wait_s: float
    late: float

    def keep(self, replicas: int, per_s: float) -> bool:
        """Tell whether few enough wait too long, of so many Poisson arrivals a second."""
        servers, load = replicas * self.slots, per_s * self.stay_s
        return wait_exceeds(servers, load, self.stay_s, self.spread, self.wait_s) <= self.late

    def replicas(self, per_s: float, most: int) -> int | None:
        """Return the fewest replicas, up to `most`, that keep a rate."""
        start = int(per_s * self.stay_s / self.slots) + 1
        return threshold(lambda n: self.keep(n, per_s), start, 1, most)

    def carried(self, replicas: int) -> float:
        """Return the highest rate, requests/s, that so many replicas keep."""
        low, high = 0.0, replicas * self.slots / self.stay_s
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.keep(replicas, middle) else (low, middle)
        return low


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that an arrival to M/M/c has to wait; load in erlangs.

    Erlang (1917): B = P(Poisson(load) = c) / P(Poisson(load) <= c), C = c B / (c - load (1 - B)).
    """
    if load >= servers:
        return 1.0
    if not load:
        return 0.0
    blocked = exp(poisson.logpmf(servers, load) - poisson.logcdf(servers, load))
    return servers * blocked / (servers - load * (1.0 - blocked))


def wait_exceeds(servers: int, load: float, stay_s: float, spread: float, wait_s: float) -> float:
    """Return the probability that an arrival to M/G/c waits longer than `wait_s`.

    C exp(-2 (c - load) wait / (stay (1 + spread))): exact for M/M/c (spread 1), else its limit in
    heavy traffic (Kollerstrom 1974, of which the mean is that of Allen and Cunneen).
    """
    if load >= servers:
        return 1.0
    drain_per_s = 2.0 * (servers - load) / (stay_s * (1.0 + spread))
    return erlang_c(servers, load) * exp(-drain_per_s * wait_s)


def slots_of(fleet: Fleet, asked: Asked, promise: Slo | None) -> Slots | None:
    """Return a replica as slots, as many as keep the promised TPOT; None where none of them does,
    nothing is promised of waiting, or prompts are computed elsewhere.
    """
    waits = None if promise is None else promise.ttft if promise.ttft is not None else promise.e2e
    if promise is None or waits is None or fleet.spec.prefill is not None:
        return None
    tpot_s = promise.tpot if promise.tpot is not None else inf
    full = best(fleet, asked)

    def slow(batch: int) -> bool:
        return best(fleet, asked, batch).step_s > tpot_s * fleet.tokens_per_step

    first = threshold(slow, full.batch, 1, full.batch, max(1, full.batch // 8))
    most = full.batch if first is None else first - 1
    if most == 0:
        return None
    state = best(fleet, asked, most)
    slots = state.batch * fleet.batches
    stay_s = state.batch / state.requests_per_s  # Little's law
    return Slots(slots, stay_s, asked.spread, waits, 1.0 - promise.percentile / 100.0)
