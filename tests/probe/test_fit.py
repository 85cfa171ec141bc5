"""The fits give back the figures that made-up measurements were computed from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from factory_sim.physics.power import PowerModel
from factory_sim.probe.fit import fit_line, fit_power, fit_roofline

ROWS = np.array([1, 8, 32, 128, 256, 512, 2048, 8192], dtype=float)
FLOPS, MOVED = 2 * ROWS * 8192**2, 2.0 * 8192**2 + 4 * ROWS * 8192


def roofline(compute: float, memory: float) -> np.ndarray:
    return np.maximum(FLOPS / compute, MOVED / memory)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e13, 3e15), st.floats(5e11, 8e12))
def test_a_roofline_is_found_from_points_on_it(compute: float, memory: float) -> None:
    compute_s, memory_s = FLOPS / compute, MOVED / memory
    assume(compute_s[-1] > 1.05 * memory_s[-1])  # else no point tells of compute
    found = fit_roofline(FLOPS, MOVED, roofline(compute, memory))
    assert found.compute is not None and found.memory is not None
    assert found.compute.value == pytest.approx(compute, rel=1e-4)
    assert found.memory.value == pytest.approx(memory, rel=1e-4)
    assert (found.residual < 1e-4, found.points) == (True, 8)


def test_a_rate_that_no_point_depends_on_is_not_made_up() -> None:
    found = fit_roofline(FLOPS, [0.0] * 8, FLOPS / 5e14)
    assert found.memory is None
    assert found.compute is not None and found.compute.value == pytest.approx(5e14)
    assert fit_roofline([0.0] * 8, MOVED, MOVED / 3e12).compute is None


def test_the_error_of_a_figure_is_that_of_noisy_measurements() -> None:
    rng = np.random.default_rng(1)
    off = []
    for _ in range(60):
        took_s = roofline(8e14, 4e12) * np.exp(rng.normal(0.0, 0.05, 8))
        found = fit_roofline(FLOPS, MOVED, took_s)
        assert found.compute is not None and found.compute.error is not None
        off.append(np.log(found.compute.value / 8e14) / found.compute.error)
    # Student's t of six degrees of freedom has a standard deviation of 1.22.
    assert np.std(off) == pytest.approx(1.22, rel=0.35)


def test_one_point_gives_a_figure_but_no_error() -> None:
    found = fit_roofline([1e12], [0.0], [2e-3])
    assert found.compute is not None
    assert (found.compute.value, found.compute.error) == (pytest.approx(5e14), None)


def test_a_line_is_found_over_four_decades() -> None:
    moved = np.geomspace(16e3, 256e6, 8)
    found = fit_line(moved, 9e-6 + moved / 360e9)
    assert found.latency_s.value == pytest.approx(9e-6, rel=1e-3)
    assert found.rate.value == pytest.approx(360e9, rel=1e-3)


def test_a_line_never_starts_below_nothing() -> None:
    moved = np.geomspace(1e6, 1e9, 6)
    found = fit_line(moved, (moved / 4e12) ** 1.02)
    assert 0.0 <= found.latency_s.value < 1e-6


def test_the_power_curve_is_found_where_the_loads_differ_enough() -> None:
    board = PowerModel(76.0, 700.0, 0.4, 3.0, 0.9, clock_exponent=2.4, voltage_floor=0.55)
    busy = [(c, m) for c in (0.02, 0.1, 0.3, 1.0) for m in (0.05, 0.3, 1.0)]
    watts = [board.at(1.0).energy_j(1.0, *shares) for shares in busy]
    found = fit_power(76.0, 700.0, busy, watts)
    assert [round(estimate.value, 3) for estimate in found[:3]] == [0.4, 3.0, 0.9]
    assert found.residual < 1e-4


def test_readings_above_the_limit_do_not_send_the_weights_away() -> None:
    found = fit_power(50.0, 300.0, [(1.0, 0.1), (0.5, 0.1), (0.1, 1.0)], [330.0, 310.0, 305.0])
    assert max(estimate.value for estimate in found[:3]) <= 20.0
    assert found.residual == pytest.approx(0.1, abs=0.1)
