"""When a run has settled, and how long it should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from factory_sim.metrics.steadiness import drift, longer, settled

TIME_S = np.arange(1.0, 301.0)


def noise(many: int = 300, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, 1.0, many)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-100.0, 100.0), min_size=30, max_size=90))
def test_what_is_left_out_is_what_the_definition_says(given: list[float]) -> None:
    means = [np.mean(given[at : at + 5]) for at in range(0, len(given) // 5 * 5, 5)]
    half = len(means) // 2
    errors = [np.var(means[first:]) / len(means[first:]) for first in range(half + 1)]
    found = settled(np.array(given))
    least = min(errors)
    if found is None:
        assert errors[half] == pytest.approx(least, rel=1e-6, abs=1e-9)
    else:
        assert errors[found // 5] == pytest.approx(least, rel=1e-6, abs=1e-9)


def test_a_start_that_fills_up_is_left_out_and_no_more() -> None:
    filling = 50.0 * (1.0 - np.exp(-TIME_S / 15.0)) + noise()
    assert 30 <= (settled(filling) or 0) <= 90
    assert settled(50.0 + noise()) in (0, 5, 10)


def test_what_grows_without_end_never_settles() -> None:
    assert settled(TIME_S + noise()) is None
    found = drift(TIME_S, TIME_S + noise(), 30.0)
    assert found is not None and found.from_s is None
    assert found.off == pytest.approx(165.5 / 233.0 - 1.0, abs=0.01)


def test_a_warm_up_that_is_too_short_is_told_with_what_it_should_be() -> None:
    filling = 50.0 * (1.0 - np.exp(-TIME_S / 25.0)) + noise()
    found = drift(TIME_S, filling, 0.0)
    assert found is not None and found.from_s is not None
    assert 50.0 <= found.from_s <= 150.0 and found.off == pytest.approx(-0.08, abs=0.02)
    assert drift(TIME_S, filling, found.from_s) is None


def test_what_chance_may_have_done_is_no_drift() -> None:
    alarms = [drift(TIME_S, np.abs(3.0 + noise(seed=seed)), 0.0) for seed in range(300)]
    assert sum(alarm is not None for alarm in alarms) <= 3


def test_an_empty_factory_and_a_short_run_are_not_judged() -> None:
    assert drift(TIME_S, np.zeros(300), 0.0) is None
    assert drift(TIME_S[:12], TIME_S[:12], 0.0) is None


def test_a_window_is_as_long_as_its_percentiles_need() -> None:
    assert longer(60.0, None, 100) == 600.0  # for a thousand requests, ten of them beyond
    assert longer(60.0, 0.3, 50_000) == 540.0  # the width falls with the root
    assert longer(60.0, 0.2, 50_000) is None and longer(60.0, None, 1_000) is None
