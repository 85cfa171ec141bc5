"""Arrival processes against their exact times and their theory."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.workload.making import requests, workload


def times(duration_s: float = 100.0, seed: int = 1, block: int = 8192, **arrivals: Any) -> Any:
    return requests(workload(arrivals=arrivals), duration_s, seed, block).arrival_s


def test_constant_arrivals_are_evenly_spaced_from_zero() -> None:
    assert times(2.0, process="constant", rate="4 /s").tolist() == [k / 4 for k in range(8)]
    assert times(1.0, process="constant", rate="3 /s").tolist() == [0.0, 1 / 3, 2 / 3]


def test_a_step_in_the_shape_changes_the_pace_exactly() -> None:
    shape = {"steps": [["0 s", 1], ["2 s", 4], ["3 s", 0], ["5 s", 1]]}
    found = times(8.0, process="constant", rate="1 /s", shape=shape)
    assert found.tolist() == [0.0, 1.0, 2.0, 2.25, 2.5, 2.75, 5.0, 6.0, 7.0]


def test_even_stages_end_with_the_last() -> None:
    stages = [{"rate": "2 /s", "duration": "1 s"}, {"rate": "0 /s", "duration": "1 s"},
              {"rate": "4 /s", "duration": "500 ms"}]  # fmt: skip
    found = times(100.0, process="stages", stages=stages, evenly_spaced=True)
    assert found.tolist() == [0.0, 0.5, 2.0, 2.25]


def test_a_smooth_shape_puts_arrivals_where_its_integral_says() -> None:
    wave = {"sinusoid": {"mean": 1, "amplitude": 0.5, "period": "50 s"}}
    found = times(100.0, process="constant", rate="2 /s", shape=wave)
    swing = 0.5 * 50 / (2 * np.pi)
    expected = 2.0 * (found + swing * (1.0 - np.cos(2 * np.pi * found / 50)))
    assert np.allclose(expected, np.arange(len(found)), rtol=0, atol=1e-9)
    assert len(found) == 200


def test_offline_requests_are_all_there_at_the_start() -> None:
    assert times(process="offline", requests=3).tolist() == [0.0, 0.0, 0.0]


def test_requests_limits_the_stream() -> None:
    assert len(times(process="poisson", rate="100 /s", requests=250, block=100)) == 250
    assert len(times(process="poisson", rate="100 /s", requests=200, block=100)) == 200


def test_nothing_arrives_at_rate_zero() -> None:
    assert len(times(process="poisson", rate="5 /s", shape=0.0)) == 0


@pytest.mark.parametrize("shape", [None, {"daily": [["00:00", 0], ["00:10", 1.6]]}])
def test_poisson_counts_are_poisson(shape: Any) -> None:
    """Counts in cells of equal expectation against the Poisson distribution, by chi-square."""
    shaped = {"shape": shape} if shape else {}
    found = times(600.0, 7, process="poisson", rate="20 /s", **shaped)
    # The shape rises from 0 to 1.6 in 600 s: its integral is 1.6 t^2 / 1200.
    expected = 20.0 * (found if shape is None else 1.6 * found**2 / 1200.0)
    total = 20.0 * (600.0 if shape is None else 480.0)
    cells = int(total / 4)
    counts = np.bincount((expected / 4).astype(int), minlength=cells)[:cells]
    seen = np.bincount(np.minimum(counts, 9), minlength=10)
    law = stats.poisson.pmf(np.arange(9), 4.0)
    law = np.append(law, 1.0 - law.sum())
    assert stats.chisquare(seen, law * cells).pvalue > 0.01


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_vary_as_burstiness_says(burstiness: float) -> None:
    gaps = np.diff(times(1000.0, process="gamma", rate="100 /s", burstiness=burstiness))
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.02)
    assert gaps.mean() == pytest.approx(0.01, rel=0.02)


def test_bursts_have_the_mean_rate_of_their_states_and_are_bursty() -> None:
    states = [{"rate": "5 /s", "mean_duration": "8 s"}, {"rate": "100 /s", "mean_duration": "2 s"}]
    found = times(20_000.0, process="mmpp", states=states)
    assert len(found) / 20_000.0 == pytest.approx((5 * 8 + 100 * 2) / 10, rel=0.05)
    gaps = np.diff(found)
    assert gaps.std() / gaps.mean() > 1.5


def test_bursts_of_one_rate_are_poisson() -> None:
    states = [{"rate": "10 /s", "mean_duration": "1 s"}] * 3
    single = times(50.0, process="poisson", rate="10 /s")
    assert np.allclose(times(50.0, process="mmpp", states=states), single, rtol=1e-12)


PROCESSES: list[dict[str, Any]] = [
    {"process": "constant", "rate": "9 /s"},
    {"process": "poisson", "rate": "9 /s"},
    {"process": "gamma", "rate": "9 /s", "burstiness": 0.3},
    {"process": "mmpp", "states": [{"rate": "1 /s", "mean_duration": "3 s"},
                                   {"rate": "30 /s", "mean_duration": "1 s"}]},
    {"process": "stages", "stages": [{"rate": "3 /s", "duration": "9 s"},
                                     {"rate": "20 /s", "duration": "7 s"}]},
]  # fmt: skip
SHAPES = [
    1.0,
    {"steps": [["0 s", 1], ["5 s", 0], ["8 s", 3]]},
    {"sinusoid": {"mean": 1, "amplitude": 1, "period": "7 s"}},
    {"daily": [["00:00", 2], ["00:01", 0]]},
]


@settings(max_examples=30, deadline=None)
@given(
    process=st.sampled_from(PROCESSES),
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 2**32),
    block=st.integers(5, 300),
)
def test_any_process_runs_forward_and_knows_no_blocks(
    process: dict[str, Any], shape: Any, seed: int, block: int
) -> None:
    whole = times(20.0, seed, **process, shape=shape)
    cut = times(20.0, seed, block, **process, shape=shape)
    assert whole.tobytes() == cut.tobytes()
    assert (np.diff(whole) >= 0.0).all()
    assert ((whole >= 0.0) & (whole < 20.0)).all()
    assert whole.tobytes() == times(20.0, seed, **process, shape=shape).tobytes()


def test_a_longer_run_starts_with_the_shorter_one() -> None:
    wave = {"sinusoid": {"mean": 1, "amplitude": 0.5, "period": "50 s"}}
    short = times(50.0, process="poisson", rate="9 /s", shape=wave)
    long = times(100.0, process="poisson", rate="9 /s", shape=wave)
    assert np.allclose(long[: len(short)], short, rtol=1e-12)
