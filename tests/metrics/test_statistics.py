"""Intervals: by hand where few numbers do, by how often they hold the truth elsewhere."""

from __future__ import annotations

from math import isnan, sqrt

import numpy as np
import pytest
from scipy.stats import t as student

from factory_sim.metrics.requests import Terms
from factory_sim.metrics.statistics import (
    BATCHES,
    Cells,
    Floats,
    busy,
    describe,
    half_width,
    half_width_of_total,
    half_widths,
)

ONES = np.ones((1, 4))


def test_batches_of_one_pod_are_compared_with_each_other() -> None:
    cells = Cells(np.array([[1.0, 2.0, 3.0, 6.0]]), ONES)
    spread = np.std([1.0, 2.0, 3.0, 6.0], ddof=1) / sqrt(4)
    assert half_width([cells]) == pytest.approx(student.ppf(0.975, 3) * spread)


def test_pods_are_compared_within_batches_so_that_a_load_that_changes_is_no_error() -> None:
    tide = np.array([1.0, 5.0, 2.0, 9.0])
    off = np.array([[0.5, -0.2, 0.1, 0.3], [-0.5, 0.2, -0.1, -0.3]])
    calm, moved = (half_width([Cells(tides + off, np.ones((2, 4)))]) for tides in (3.0, tide))
    assert moved == pytest.approx(calm)
    by_hand = sqrt(float((off**2).sum()) * 2 / 1) / 8  # of a mean of eight
    assert calm == pytest.approx(student.ppf(0.975, 4) * by_hand)
    assert half_width([Cells(tide[None, :], ONES)]) > 5 * calm


def test_batches_of_any_size_give_one_mean() -> None:
    # A batch twice as large, and twice as much in it, says the same.
    assert half_width([Cells(np.array([[2.0, 4.0, 2.0]]), np.array([[1.0, 2.0, 1.0]]))]) == 0.0


def test_deployments_add_up_as_what_is_independent_does() -> None:
    one, other = np.array([[1.0, 2.0, 4.0]]), np.array([[0.0, 7.0, 1.0]])
    both = half_width_of_total([one, other])
    assert both == pytest.approx(
        sqrt(half_width_of_total([one]) ** 2 + half_width_of_total([other]) ** 2)
    )


def test_batches_in_which_nobody_came_yet_or_any_more_are_left_out() -> None:
    counts = np.array([[0, 0, 3, 1, 0, 2, 5, 4, 0, 0]], float)
    assert busy([counts]) == slice(2, 8)
    assert busy([counts[:, :6]]) is None  # three with anybody in them


def widths_of(values: Floats, batches: np.ndarray) -> dict[str, float]:
    def cells(each: Floats) -> dict[str, Floats]:
        return {"d": np.bincount(batches, each, BATCHES)[None, :]}

    counts = cells(np.ones(len(values)))["d"]
    return half_widths(
        {"d": Cells(cells(values)["d"], counts)},
        lambda limits: [cells((values <= limit).astype(float)) for limit in limits],
        describe(values),
        lambda shares: np.quantile(values, shares),
    )


def test_an_interval_holds_the_truth_in_95_of_100_runs() -> None:
    truth = {"mean": 1.0, "p50": np.log(2.0), "p99": np.log(100.0)}
    rng, held, many = np.random.default_rng(2), dict.fromkeys(truth, 0), 200
    for _ in range(many):
        values = rng.exponential(1.0, 6_000)
        found, widths = describe(values), widths_of(values, rng.integers(0, BATCHES, 6_000))
        for name in truth:
            held[name] += abs(found[name] - truth[name]) <= widths[name]
    for name, times in held.items():
        assert times / many == pytest.approx(0.95, abs=0.047), name  # three standard errors


def test_too_few_say_nothing_of_a_percentile_and_none_of_anything() -> None:
    rng = np.random.default_rng(2)
    values = rng.exponential(1.0, 1_000)  # 10 beyond the 99th percentile
    found = widths_of(values, rng.integers(0, BATCHES, 1_000))
    assert set(found) == {"mean", "p50", "p90", "p95"}
    assert widths_of(values, np.zeros(1_000, np.int64)) == {}


def test_a_percentile_that_could_be_beyond_the_longest_has_no_interval() -> None:
    rng = np.random.default_rng(2)
    batches = rng.integers(0, BATCHES, 20_000)
    values = rng.exponential(1.0, 20_000) + 100.0 * (batches == 3)  # one bad stretch of time
    assert "p95" not in widths_of(values, batches)
    assert not isnan(widths_of(values, batches)["mean"])


def test_requests_fall_into_batches_of_equal_time() -> None:
    terms = Terms(["a"], [0.0], 10.0, {}, end_s=30.0)
    sent_s = np.array([0.0, 9.999, 10.0, 11.999, 12.0, 29.999, 30.0])
    assert terms.batch_of(sent_s).tolist() == [-1, -1, 0, 0, 1, 9, 9]
