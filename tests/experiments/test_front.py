"""Pareto fronts: the best of several designs at each place or beyond."""

from __future__ import annotations

import math

import pytest

from factory_sim.experiments.front import Front, crossing


def runs(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"pace": x, "rate": y} for x, y in points]


FRONT = Front(
    {"a": runs((10, 100), (20, 50), (30, 10)), "b": [*runs((25, 60)), {"rate": 1.0}]}, "pace"
)


@pytest.mark.parametrize(
    ("place", "value"),
    [(5, 100.0), (10, 100.0), (15, 75.0), (19.5, 60.0), (25, 60.0), (27.5, 20.0), (30, 10.0)],
)
def test_the_best_design_at_a_place_or_beyond(place: float, value: float) -> None:
    # At 19.5 the line of `a` gives 52.5, and `b`, faster, gives more.
    assert FRONT.value("rate", place) == pytest.approx(value)


def test_nothing_is_extrapolated() -> None:
    assert math.isnan(FRONT.value("rate", 31))
    assert FRONT.places() == (10, 30)
    assert FRONT.highest("rate") == 100.0


def test_a_figure_that_no_run_has_is_named() -> None:
    with pytest.raises(ValueError, match="no figure 'watts'"):
        FRONT.value("watts", 20)
    with pytest.raises(ValueError, match="no run of 'c' has a figure 'pace'"):
        Front({"c": [{"rate": 1.0}]}, "pace").highest("rate")


def test_where_a_value_is_reached() -> None:
    assert crossing(lambda x: 100 / x, 5.0, 1.0, 100.0) == pytest.approx(20.0, rel=1e-3)
    assert math.isnan(crossing(lambda x: 100 / x, 200.0, 1.0, 100.0))
