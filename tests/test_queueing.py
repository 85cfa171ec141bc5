"""The formulas themselves: exact fractions where a hand can do them, plain queues where not."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from fractions import Fraction as F

import pytest

from tests.queueing import (
    Interval,
    batch_means,
    erlang_b,
    erlang_c,
    geometric_service_moments_s,
    md1_wait_s,
    mg1_wait_s,
    mm1_wait_s,
    mmc_wait_exceeds,
    mmc_wait_s,
    priority_waits_s,
)


def test_erlang_b_is_the_truncated_poisson_share() -> None:
    assert [erlang_b(c, F(1)) for c in range(5)] == [1, F(1, 2), F(1, 5), F(1, 16), F(1, 65)]
    load = F(7, 2)
    terms = [load**k / math.factorial(k) for k in range(6)]
    assert erlang_b(5, load) == terms[5] / sum(terms)


def test_erlang_c_by_hand() -> None:
    assert erlang_c(1, F(3, 4)) == F(3, 4)  # one server: waits when busy
    assert erlang_c(2, F(1)) == F(1, 3)  # 2 rho^2 / (1 + rho) at rho = 1/2
    assert erlang_c(3, F(2)) == F(4, 9)
    load = F(7, 2)
    waiting = load**5 / math.factorial(5) / (1 - load / 5)
    assert erlang_c(5, load) == waiting / (
        sum(load**k / math.factorial(k) for k in range(5)) + waiting
    )


def test_mean_waits_by_hand() -> None:
    assert mm1_wait_s(F(1, 2), F(1)) == 1
    assert md1_wait_s(F(1, 2), F(1)) == F(1, 2)
    assert mmc_wait_s(1, F(3, 8), F(2)) == mm1_wait_s(F(3, 8), F(2)) == 6
    assert mmc_wait_s(2, F(1), F(1)) == F(1, 3)
    assert mmc_wait_s(3, F(1), F(2)) == F(8, 9)


def test_waits_by_priority_by_hand() -> None:
    assert priority_waits_s([F(1, 2)], [F(1)], [F(2)]) == [mm1_wait_s(F(1, 2), F(1))]
    waits = priority_waits_s([F(1, 4), F(1, 2)], [F(1), F(1)], [F(2), F(2)])
    assert waits == [1, 4]  # residual 3/4 over 1 - 1/4, and that again over 1 - 3/4
    # Orders that interrupt nobody and know no lengths move waits about and make none.
    assert (waits[0] + 2 * waits[1]) / 3 == mm1_wait_s(F(3, 4), F(1))


def test_a_geometric_service_lies_between_deterministic_and_exponential() -> None:
    assert geometric_service_moments_s(F(2), F(1)) == (F(2), F(6))  # sum of k^2 / 2^k
    assert mg1_wait_s(F(1, 2), *geometric_service_moments_s(F(1), F(1))) == md1_wait_s(
        F(1, 2), F(1)
    )
    step_s = F(1, 1000)
    almost = mg1_wait_s(F(1, 2), *geometric_service_moments_s(1 / step_s, step_s))
    assert almost == mm1_wait_s(F(1, 2), F(1)) * (1 - step_s / 2)


def test_the_tail_of_the_wait_starts_at_erlang_c_and_has_the_mean_under_it() -> None:
    assert mmc_wait_exceeds(3, 1.0, 2.0, 0.0) == erlang_c(3, 2.0)
    assert mmc_wait_exceeds(3, 1.0, 2.0, 2.0) == pytest.approx(4 / 9 * math.exp(-1), rel=1e-12)
    width = 0.001
    area = sum(mmc_wait_exceeds(3, 1.0, 2.0, (i + 0.5) * width) * width for i in range(60_000))
    assert area == pytest.approx(mmc_wait_s(3, 1.0, 2.0), rel=1e-6)


@pytest.mark.parametrize("load", [0.0, 2.0, 2.5])
def test_a_queue_that_grows_for_ever_has_no_mean(load: float) -> None:
    with pytest.raises(ValueError, match="load must be between 0 and 2 erlangs"):
        erlang_c(2, load)
    with pytest.raises(ValueError, match="load must be between 0 and 1 erlangs"):
        mg1_wait_s(load + 1, 1.0, 1.0)


def test_batch_means_by_hand() -> None:
    # The t quantile of one degree of freedom at 75 % is tan(pi / 4) = 1.
    interval = batch_means([9, 9, 0, 1, 3, 5, 7], batches=2, warmup=2 / 7, confidence=0.5)
    assert interval.mean == 4.0  # of [1, 3] and [5, 7]; the odd 0 goes with the warm-up
    assert interval.half_width == pytest.approx(2.0, rel=1e-12)
    assert interval.relative == pytest.approx(0.5, rel=1e-12)


def test_an_interval_holds_its_ends_and_nothing_beyond() -> None:
    assert [value in Interval(4.0, 2.0) for value in (1.5, 2.0, 4.0, 6.0, 6.5)] == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(("count", "batches"), [(10, 20), (10, 1), (0, 2)])
def test_too_few_values_for_batches_is_an_error(count: int, batches: int) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        batch_means([1.0] * count, batches=batches)


def test_a_ninety_percent_interval_holds_the_truth_nine_times_in_ten() -> None:
    draw = random.Random(1)
    held = sum(
        1.0 in batch_means([draw.expovariate(1) for _ in range(400)], batches=10, confidence=0.9)
        for _ in range(500)
    )
    # Three binomial standard deviations about 450 of 500 are 20.
    assert 430 <= held <= 470


def waits(servers: int, arrivals: Iterator[float], services: Iterator[float]) -> list[float]:
    """First come first served at the first free server: a queue with no replica in it."""
    free_at = [0.0] * servers
    result = []
    for came, service in zip(arrivals, services, strict=False):
        start = max(came, heapq.heappop(free_at))
        heapq.heappush(free_at, start + service)
        result.append(start - came)
    return result


def poisson(draw: random.Random, rate: float, count: int) -> Iterator[float]:
    now = 0.0
    for _ in range(count):
        now += draw.expovariate(rate)
        yield now


@pytest.mark.parametrize("servers", [1, 3])
def test_erlang_c_describes_a_simulated_queue(servers: int) -> None:
    draw = random.Random(2)
    rate, count = 0.7 * servers, 100_000
    services = (draw.expovariate(1.0) for _ in range(count))
    waited = waits(servers, poisson(random.Random(3), rate, count), services)
    mean = batch_means(waited)
    late = batch_means([float(wait > 1.0) for wait in waited])
    assert mean.relative < 0.1
    assert mmc_wait_s(servers, rate, 1.0) in mean
    assert late.relative < 0.1
    assert mmc_wait_exceeds(servers, rate, 1.0, 1.0) in late


def test_pollaczek_khinchine_describes_a_simulated_queue() -> None:
    count = 100_000
    draw = random.Random(4)
    fixed = waits(1, poisson(random.Random(5), 0.7, count), iter([1.0] * count))
    tokens = (math.ceil(math.log(1 - draw.random()) / math.log(0.75)) for _ in range(count))
    geometric = waits(1, poisson(random.Random(5), 0.7, count), (0.25 * max(k, 1) for k in tokens))
    assert batch_means(fixed).relative < 0.1
    assert md1_wait_s(0.7, 1.0) in batch_means(fixed)
    assert batch_means(geometric).relative < 0.1
    assert mg1_wait_s(0.7, *geometric_service_moments_s(4.0, 0.25)) in batch_means(geometric)
    assert mm1_wait_s(0.7, 1.0) not in batch_means(geometric)
