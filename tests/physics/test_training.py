"""Training in numbers: published runs, memory, checkpoints and steps in closed form."""

from __future__ import annotations

from math import exp, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.physics.training import (
    CHECKPOINT_BYTES,
    Rhythm,
    bubble_share,
    compute_optimal,
    daly_interval_s,
    exchange_s,
    expected_s,
    state_bytes,
    training_flops,
    young_interval_s,
)


@pytest.mark.parametrize(
    ("parameters", "tokens", "published", "off"),
    [
        (405e9, 15.6e12, 3.8e25, 0.01),  # Llama 3.1 405B (Meta 2024, section 3.2)
        (175e9, 300e9, 3.14e23, 0.01),  # GPT-3 (Brown et al. 2020, table D.1)
        (70e9, 1.4e12, 5.76e23, 0.03),  # Chinchilla's budget, which was Gopher's (2022)
        (70e9, 15e12, 2e25, 0.69),  # what the market says of Llama-3-70B is three times 6 N D
    ],
)
def test_flops_of_published_runs(
    parameters: float, tokens: float, published: float, off: float
) -> None:
    assert abs(training_flops(parameters, tokens) / published - 1.0) < off


def test_a_budget_spent_best() -> None:
    parameters, tokens = compute_optimal(5.76e23)  # Hoffmann et al. 2022: 67 billion, 1.5e12
    assert parameters == pytest.approx(67e9, rel=0.05)
    assert tokens == pytest.approx(1.5e12, rel=0.1)
    assert training_flops(parameters, tokens) == pytest.approx(5.76e23, rel=1e-12)
    assert tokens == pytest.approx(20 * parameters, rel=1e-12)


def test_a_pipelines_bubble() -> None:
    assert bubble_share(1, 8) == 0.0
    assert bubble_share(4, 12) == 3 / 15
    assert [exchange_s(1e9, 4, 1e9, zero) for zero in range(4)] == [1.5, 1.5, 1.5, 2.25]


def test_states_are_dealt_out_by_zero() -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5 billion on 64 ranks, in GB.
    found = [state_bytes(7.5e9, 1, 64, stage) / 1e9 for stage in (0, 1, 2, 3)]
    assert found == pytest.approx([120.0, 31.4, 16.6, 1.88], abs=0.05)
    assert pytest.approx(2.3, rel=0.03) == CHECKPOINT_BYTES * 176e9 / 2**40  # BLOOM's, in TiB


@given(
    write_s=st.floats(1.0, 100.0),
    restart_s=st.floats(0.0, 600.0),
    mtbf_s=st.floats(1e3, 1e6),
)
def test_dalys_interval_is_the_best_one(write_s: float, restart_s: float, mtbf_s: float) -> None:
    best_s = daly_interval_s(write_s, mtbf_s)
    least = expected_s(1.0, best_s, write_s, restart_s, mtbf_s)
    for factor in (0.8, 0.9, 1.1, 1.25):
        other = expected_s(1.0, factor * best_s, write_s, restart_s, mtbf_s)
        assert other > least * (1 - 1e-6)
    # To first order it is Young's.
    young_s = young_interval_s(write_s, mtbf_s)
    assert young_s == sqrt(2 * write_s * mtbf_s)
    assert abs(best_s - young_s) <= write_s


@pytest.mark.parametrize(("mtbf_min", "best_min"), [(24 * 60, 117.0), (6 * 60, 57.0), (15, 9.1)])
def test_dalys_own_examples(mtbf_min: float, best_min: float) -> None:
    # Five minutes to write (Daly 2006, figures 3 to 5).
    assert daly_interval_s(5 * 60, mtbf_min * 60) / 60 == pytest.approx(best_min, rel=0.01)


def test_failures_too_frequent_to_save_in_time() -> None:
    assert daly_interval_s(100.0, 50.0) == 50.0
    whole = expected_s(10.0, 5.0, 1.0, 2.0, 20.0)
    assert whole == pytest.approx(20 * exp(0.1) * (exp(0.3) - 1) * 2, rel=1e-12)


@given(
    st.floats(0.01, 20.0),
    st.floats(0.0, 5.0),
    st.floats(0.0, 1.0),
    st.floats(0.4, 1.0),
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=5),
)
def test_time_may_be_cut_anywhere(
    computing_s: float, communicating_s: float, at: float, clock: float, parts: list[float]
) -> None:
    rhythm = Rhythm(computing_s, communicating_s)
    position_s = at * rhythm.step_s * (1 - 1e-6)
    whole = rhythm.after(position_s, sum(parts), clock)
    steps, computed_s, talked_s, here_s = 0, 0.0, 0.0, position_s
    for seconds in parts:
        done = rhythm.after(here_s, seconds, clock)
        steps, here_s = steps + done.steps, done.position_s
        computed_s, talked_s = computed_s + done.computing_s, talked_s + done.communicating_s
    far = steps + here_s / rhythm.step_s
    assert far == pytest.approx(whole.steps + whole.position_s / rhythm.step_s, rel=1e-9, abs=1e-7)
    assert computed_s == pytest.approx(whole.computing_s, rel=1e-9, abs=1e-7)
    assert computed_s + talked_s == pytest.approx(sum(parts), rel=1e-9, abs=1e-9)
