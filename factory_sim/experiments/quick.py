"""An answer within seconds: what a perfect system could do, and a sample of the run.

The sample is the run itself where that is short. Otherwise a rack of many stands for all, and where
that still takes long only the first part of the time is played.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from factory_sim.errors import InputError
from factory_sim.experiments.sampling import sampled
from factory_sim.experiments.sizing.bounds import Bounds, Perfect
from factory_sim.factory.fleets.fleet import deployment_of
from factory_sim.factory.run import Progress, Run, simulate
from factory_sim.scenario.deployment import Represented
from factory_sim.scenario.load import plain, scenario_from
from factory_sim.scenario.scenario import Scenario

MOST = 12_000
"""Requests of a sample: half a second of one core."""

PATIENCE_S = 10.0
"""For which a sample may take; beyond it bounds are what there is to say."""

WARM = 0.25
"""Of a sample's time, which its warm-up may take."""


class Quick(NamedTuple):
    """run: of the sample, None where it took too long. share: of the replicas that are simulated.
    seconds: of simulated time. without: what the sample leaves out."""

    run: Run | None
    share: float
    seconds: float
    without: tuple[str, ...]


class Sample(NamedTuple):
    """A scenario that is soon run, and what it leaves out; the rest as of `Quick`."""

    scenario: Scenario
    share: float
    without: tuple[str, ...]


class _TooSlow(Exception):
    """A sample that takes longer than anybody waits."""


def quick(scenario: Scenario, found: Bounds, patience_s: float = PATIENCE_S) -> Quick:
    """Return the run of a sample of a scenario. found: its bounds, which are known sooner.

    Raises InputError as `simulate` does.
    """
    end = time.perf_counter() + patience_s
    sample = sample_of(scenario, found)
    run = _until(end, sample.scenario)
    return Quick(run, sample.share, sample.scenario.duration, sample.without)


def sample_of(scenario: Scenario, found: Bounds, most: float = MOST) -> Sample:
    """Return a scenario of about `most` requests that stands for another."""
    given = plain(scenario) | {"kernel": "simpy"}  # the other may have to be compiled first
    simulated = _simulated(found)
    wanted = most / max(1.0, _requests_per_s(found) * simulated * scenario.duration)
    without: tuple[str, ...] = ()
    if wanted >= 1.0:
        return Sample(scenario_from(given), simulated, without)
    if given.pop("failures", None) is not None:
        without = ("failures",)
    few, share = scenario_from(given), simulated
    try:
        few = sampled(few, wanted * simulated)
        share = min(_share(few, pool) for pool in found.pools)
    except InputError:
        pass  # a rack is all there is, or few stand for many already
    left = min(1.0, wanted * simulated / share)
    duration = left * scenario.duration
    times = {"duration": f"{duration!r} s", "warmup": f"{min(few.warmup, WARM * duration)!r} s"}
    return Sample(scenario_from(plain(few) | times), share, without)


def _until(end: float, scenario: Scenario) -> Run | None:
    """Return the run of a scenario, or None if it is not over at `end` of the process's clock."""

    def watch(_: Progress) -> None:
        if time.perf_counter() > end:
            raise _TooSlow

    try:
        return simulate(scenario, watch, workers=1)
    except _TooSlow:
        return None


def _requests_per_s(found: Bounds) -> float:
    """Return the requests that come, or, where clients wait for answers, could be answered."""
    rates = (
        pool.replica_per_s * pool.replicas if pool.asked_per_s is None else pool.asked_per_s
        for pool in found.pools
    )
    return max(rates, default=0.0)


def _simulated(found: Bounds) -> float:
    """Return the share of a scenario's replicas that is simulated."""
    shares = (1.0 if p.simulated is None else p.simulated / p.replicas for p in found.pools)
    return min(shares, default=1.0)


def _share(few: Scenario, pool: Perfect) -> float:
    """Return the share of a pool's replicas that a sampled scenario simulates."""
    told = few.deployments[deployment_of(pool.pool)].replicas
    return told.simulate / pool.replicas if isinstance(told, Represented) else 1.0
