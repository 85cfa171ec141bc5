"""Quantities at the edge: what a person writes is read as meant, or not at all."""

from __future__ import annotations

import pytest

from factory_sim.units import in_unit, parse, span, split


@pytest.mark.parametrize(
    "text", ["1,200 MW", "1 200 MW", "1'200 MW", "20,5 MW", "1.200.000 W", "20 MW + 5 MW", "20 2MW"]
)
def test_two_numbers_are_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number with a unit"):
        parse(text, "W", "20 MW")
    with pytest.raises(ValueError, match="is not a number with a unit"):
        split(text)


def test_thousands_that_are_parted_are_told_how_to_be_written() -> None:
    with pytest.raises(ValueError) as error:
        parse("1,200 MW", "W", "20 MW")
    assert str(error.value) == (
        "'1,200 MW' is not a number with a unit; write for example '20 MW', and 1200.5 for 1,200.5"
    )


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1_200 MW", "W", 1.2e9),
        ("-.5e3 kW", "W", -5e5),
        ("20\u00a0MW", "W", 20e6),
        ("2 kg*m**2/s^3", "W", 2.0),
        ("20 1/s", "1/s", 20.0),
        ("20 /min", "1/s", 1 / 3),
        ("10 %/s", "1/s", 0.1),
        ("150 USD/(kW*year)", "USD/kW/year", 150.0),
    ],
)
def test_names_powers_and_quotients_are_units(text: str, unit: str, value: float) -> None:
    assert parse(text, unit, "20 MW") == pytest.approx(value)


def test_requests_a_second_are_no_revolutions() -> None:
    assert parse("260 rps", "1/s", "150 /s") == parse("260 qps", "1/s", "150 /s") == 260.0
    assert parse("120 rpm", "1/s", "150 /s") == in_unit("120 rpm", "/s") == pytest.approx(2.0)


@pytest.mark.parametrize(("unit", "seconds"), [("ms", 1e-3), ("500 ms", 0.5), ("15 min", 900.0)])
def test_a_unit_of_time_may_be_so_many_of_another(unit: str, seconds: float) -> None:
    assert span(unit) == pytest.approx(seconds)


@pytest.mark.parametrize("unit", ["0 s", "-5 s", "kW", "1 2 s", ""])
def test_what_is_no_time_is_no_unit_of_it(unit: str) -> None:
    with pytest.raises(ValueError):
        span(unit)
