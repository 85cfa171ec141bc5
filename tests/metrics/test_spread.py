"""A spread against NumPy, and against the library's sketch filled value by value."""

from __future__ import annotations

import numpy as np
import pytest
from ddsketch.store import DenseStore
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.metrics.spread import ERROR, Spread, keys_of, sketch_of
from factory_sim.metrics.statistics import describe

SAME = 1e-12

sizes = st.floats(1e-300, 1e300)
latencies = st.one_of(st.just(0.0), st.floats(1e-6, 1e9))
parts = st.lists(st.lists(latencies, max_size=30), min_size=1, max_size=5).filter(any)


def spread_of(values: list[float]) -> Spread:
    found = Spread()
    found.add(np.array(values, dtype=np.float64))
    return found


def bins(sketch: object) -> dict[int, float]:
    """Return what the library counts, by key."""
    store = sketch._store  # type: ignore[attr-defined]
    found = {place + store.offset: count for place, count in enumerate(store.bins) if count}
    return found | {-(10**9): sketch._zero_count}  # type: ignore[attr-defined]


@given(st.lists(sizes, min_size=1, max_size=50))
def test_bins_are_those_of_the_library(values: list[float]) -> None:
    mapping = sketch_of(DenseStore())._mapping
    assert keys_of(np.array(values)).tolist() == [mapping.key(value) for value in values]
    for value in values:
        assert mapping.value(mapping.key(value)) == pytest.approx(value, rel=ERROR * (1 + 1e-9))


@given(parts)
def test_it_is_the_sketch_of_the_values_one_by_one(given: list[list[float]]) -> None:
    ours, plain = Spread(), sketch_of(DenseStore())
    for values in given:
        ours.add(np.array(values, dtype=np.float64))
        for value in values:
            plain.add(value)
    assert bins(ours.sketch()) == bins(plain)
    assert ours.sketch().count == plain.count == ours.count
    for share in (0.0, 0.3, 0.5, 0.99, 1.0):
        assert ours.sketch().get_quantile_value(share) == plain.get_quantile_value(share)


@given(parts, st.randoms(use_true_random=False))
def test_moments_are_exact_and_percentiles_near(given: list[list[float]], chance: object) -> None:
    whole = Spread()
    spreads = [spread_of(values) for values in given]
    chance.shuffle(spreads)  # type: ignore[attr-defined]
    for spread in spreads:
        whole.merge(spread)
    values = np.array([value for part in given for value in part])
    found, exact = whole.describe(), describe(values)
    assert whole.count == len(values)
    largest = float(values.max())
    assert found["mean"] == pytest.approx(exact["mean"], rel=SAME)
    assert found["std"] == pytest.approx(exact["std"], rel=1e-9, abs=1e-9 * largest)
    for p in (50, 90, 95, 99):
        assert found[f"p{p}"] == pytest.approx(exact[f"p{p}"], rel=ERROR * (1 + 1e-9))


@given(parts)
def test_sketches_merge_to_the_same_in_any_order(given: list[list[float]]) -> None:
    forth, back = Spread(), Spread()
    for values in given:
        forth.merge(spread_of(values))
    for values in reversed(given):
        back.merge(spread_of(values))
    at_once = spread_of([value for part in given for value in part])
    assert bins(forth.sketch()) == bins(back.sketch()) == bins(at_once.sketch())


@given(st.lists(latencies, min_size=1, max_size=40))
def test_every_rank_is_near_its_value(values: list[float]) -> None:
    spread = spread_of(values)
    for rank, value in enumerate(sorted(values)):
        assert spread.at_rank(rank) == pytest.approx(value, rel=ERROR * (1 + 1e-9))


def test_a_small_deviation_of_large_values_is_not_lost() -> None:
    # Mean square less squared mean would leave nothing of it.
    values = 1e9 + np.random.default_rng(1).normal(0.0, 1.0, 100_000)
    whole = Spread()
    for part in np.split(values, 100):
        whole.add(part)
    assert whole.describe()["std"] == pytest.approx(values.std(), rel=1e-7)


def test_percentiles_of_an_exponential_are_those_of_theory() -> None:
    values = np.random.default_rng(2).exponential(250.0, 400_000)
    found = spread_of(values.tolist()).describe()
    for p in (50, 90, 99):
        # Sampling adds up to 1 % (three standard errors of the 99th percentile).
        assert found[f"p{p}"] == pytest.approx(-250.0 * np.log(1 - p / 100), rel=ERROR + 0.01)
