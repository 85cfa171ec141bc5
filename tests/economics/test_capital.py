"""Capital written off, against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.economics.capital import YEAR_S, per_second


@given(st.integers(1, 40), st.floats(0.001, 1.0))
def test_the_payments_of_an_annuity_are_worth_the_price_today(years: int, rate: float) -> None:
    payment = per_second(years * YEAR_S, rate) * YEAR_S
    worth = sum(payment / (1.0 + rate) ** year for year in range(1, years + 1))
    assert worth == pytest.approx(1.0, rel=1e-9)


@given(st.floats(0.1, 40.0))
def test_free_capital_is_its_price_over_its_life(years: float) -> None:
    for method in ("annuity", "straight-line"):
        assert per_second(years * YEAR_S, 0.0, method) == pytest.approx(1.0 / (years * YEAR_S))


def test_a_tiny_rate_is_next_to_none() -> None:
    assert per_second(YEAR_S, 1e-12) == pytest.approx(1.0 / YEAR_S, rel=1e-9)


def test_straight_line_pays_interest_on_half() -> None:
    assert per_second(4 * YEAR_S, 0.1, "straight-line") * YEAR_S == pytest.approx(0.25 + 0.05)
