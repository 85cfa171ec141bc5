"""What queueing theory says, and how far a simulation may honestly differ from it.

Notation: rate is arrivals per second (Poisson), service_s the mean service time, load =
rate * service_s the offered load in erlangs. Waits are times in the queue, service excluded.
Sources: Erlang (1917) for B and C; Pollaczek (1930) and Khinchine (1932) for M/G/1; the method
of batch means as in Law, Simulation Modeling and Analysis, chapter 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import fmean, stdev
from typing import TypeVar

from scipy.stats import t as student

# A Fraction keeps the formulas exact, so that their tests need no tolerance.
N = TypeVar("N", float, Fraction)


def erlang_b(servers: int, load: N) -> N:
    """Return the share of arrivals an M/M/c/c loss system turns away.

    By the recursion B(0) = 1, B(c) = load B(c-1) / (c + load B(c-1)).
    """
    blocked = load / load  # one, of the load's own kind
    for busy in range(1, servers + 1):
        blocked = load * blocked / (busy + load * blocked)
    return blocked


def erlang_c(servers: int, load: N) -> N:
    """Return the probability that an arrival to M/M/c has to wait: C = c B / (c - load (1 - B)).

    Raises ValueError unless load < servers; without it the queue grows for ever.
    """
    _require_stable(servers, load)
    blocked = erlang_b(servers, load)
    return servers * blocked / (servers - load * (1 - blocked))


def mmc_wait_s(servers: int, rate: N, service_s: N) -> N:
    """Return the mean wait of M/M/c in seconds: C / (c / service_s - rate)."""
    return erlang_c(servers, rate * service_s) / (servers / service_s - rate)


def mmc_wait_exceeds(servers: int, rate: float, service_s: float, wait_s: float) -> float:
    """Return P(wait > wait_s) of M/M/c: C exp(-(c / service_s - rate) wait_s)."""
    drain_per_s = servers / service_s - rate
    return erlang_c(servers, rate * service_s) * math.exp(-drain_per_s * wait_s)


def mm1_wait_s(rate: N, service_s: N) -> N:
    """Return the mean wait of M/M/1 in seconds: load service_s / (1 - load)."""
    return mg1_wait_s(rate, service_s, 2 * service_s * service_s)


def md1_wait_s(rate: N, service_s: N) -> N:
    """Return the mean wait of M/D/1 in seconds: half of M/M/1's."""
    return mg1_wait_s(rate, service_s, service_s * service_s)


def mg1_wait_s(rate: N, service_s: N, service_squared_s2: N) -> N:
    """Return the mean wait of M/G/1 in seconds: rate E[S^2] / (2 (1 - load)).

    service_squared_s2: the second moment E[S^2] of the service time in seconds squared.
    """
    _require_stable(1, rate * service_s)
    return rate * service_squared_s2 / (2 * (1 - rate * service_s))


def priority_waits_s(
    rates: Sequence[N], services_s: Sequence[N], services_squared_s2: Sequence[N]
) -> list[N]:
    """Return the mean wait of each class of M/G/1 with priorities that interrupt nobody, seconds.

    The first class goes first. W_k = W_0 / ((1 - s_{k-1}) (1 - s_k)), where s_k is the load of the
    classes up to k and W_0 = sum of rate E[S^2] / 2 over all classes (Cobham, 1954).
    """
    residual = sum(r * m2 for r, m2 in zip(rates, services_squared_s2, strict=True)) / 2
    loads = [r * s for r, s in zip(rates, services_s, strict=True)]
    _require_stable(1, sum(loads))
    up_to = [sum(loads[:k]) for k in range(len(loads) + 1)]
    return [residual / ((1 - a) * (1 - b)) for a, b in pairwise(up_to)]


def mg1_ps_sojourn_s(rate: N, service_s: N) -> N:
    """Return the mean time in M/G/1 with processor sharing, seconds: service_s / (1 - load).

    Whatever the distribution of service (Kleinrock, Queueing Systems II, section 4.4).
    """
    load = rate * service_s
    _require_stable(1, load)
    return service_s / (1 - load)


def geometric_service_moments_s(tokens: N, step_s: N) -> tuple[N, N]:
    """Return E[S] and E[S^2] for a geometric number of tokens (1, 2, ...), one step each.

    tokens: their mean. With success probability p = 1 / tokens, E[K^2] = (2 - p) / p^2. An
    exponential service time rounded up to whole steps is of this kind, hence a slot that
    serves tokens is M/M/1 only as `tokens` grows; this is what it is before.
    """
    return tokens * step_s, (2 * tokens * tokens - tokens) * step_s * step_s


def _require_stable(servers: int, load: float | Fraction) -> None:
    if not 0 < load < servers:
        raise ValueError(f"load must be between 0 and {servers} erlangs, not {load}")


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `4.2 in interval` asks whether it may be the truth."""

    mean: float
    half_width: float

    def __contains__(self, value: float) -> bool:
        return abs(value - self.mean) <= self.half_width

    @property
    def relative(self) -> float:
        """Return the half-width as a share of the mean: small enough to fail a wrong model?"""
        return self.half_width / abs(self.mean)


def batch_means(
    values: Sequence[float], *, batches: int = 20, warmup: float = 0.1, confidence: float = 0.99
) -> Interval:
    """Return the steady-state mean of a correlated series, in its order, by batch means.

    The first `warmup` share is dropped, and the remainder (from its end) cut into equal
    batches, each long enough to be nearly independent of the next. Raises ValueError if there
    is less than one value per batch, or fewer than two batches.
    """
    kept = values[math.ceil(len(values) * warmup) :]
    size = len(kept) // batches
    if batches < 2 or size < 1:
        raise ValueError(f"{len(kept)} values do not fill {batches} batches; two are needed")
    kept = kept[len(kept) - size * batches :]
    means = [fmean(kept[start : start + size]) for start in range(0, len(kept), size)]
    quantile = float(student.ppf((1 + confidence) / 2, batches - 1))
    return Interval(fmean(means), quantile * stdev(means) / math.sqrt(batches))
