"""What may be drawn: a limit seen ahead, approached at a ramp, and a preference with a price."""

from __future__ import annotations

import pytest

from factory_sim.factory.power.allowance import Allowance
from factory_sim.scenario.signal import Constant, Signal, Sinusoid, Steps
from factory_sim.scenario.site import Power, Preference

FALL: Signal = Steps((0.0, 600.0, 1200.0), (10e6, 7e6, 10e6))


def power(**changes: object) -> Power:
    quick = {"telemetry_delay": 0.0, "actuation_delay": 0.0}
    return Power().model_copy(update=quick | changes)


def test_without_notice_it_is_the_limit() -> None:
    allowance = Allowance(FALL, power(), 1.0)
    assert [allowance.at(t) for t in (0.0, 599.0, 600.0, 1200.0)] == [10e6, 10e6, 7e6, 10e6]


def test_with_notice_a_fall_is_obeyed_before_it_comes() -> None:
    allowance = Allowance(FALL, power(notice=60.0), 1.0)
    # Two periods before, so that the last reading of the old limit is not acted on too late.
    assert [allowance.at(t) for t in (597.0, 598.0, 600.0)] == [10e6, 7e6, 7e6]


def test_with_a_ramp_it_falls_and_rises_no_faster() -> None:
    allowance = Allowance(FALL, power(notice=400.0, ramp=10e3), 1.0)
    # 3 MW at 10 kW/s take 300 s, and the orders two periods.
    found = [allowance.at(t) for t in (0.0, 298.0, 398.0, 498.0, 598.0, 1200.0, 1300.0, 1500.0)]
    assert found == pytest.approx([10e6, 10e6, 9e6, 8e6, 7e6, 10e6, 10e6, 10e6])
    close = Allowance(FALL, power(ramp=10e3), 1.0)
    seen = [close.at(float(t)) for t in range(1199, 1503)]
    assert seen[1] == pytest.approx(7.01e6)
    assert seen[101] == pytest.approx(8.01e6)
    assert seen[-1] == 10e6


def test_a_limit_that_moves_all_the_time_is_looked_at_along_the_notice() -> None:
    wave = Sinusoid(10e6, 2e6, 400.0)
    allowance = Allowance(wave, power(notice=200.0), 1.0)
    # Rising, it is its own limit; falling, what it will be when orders act, two periods later.
    assert allowance.at(50.0) == pytest.approx(wave.at(50.0))
    assert allowance.at(150.0) == pytest.approx(wave.at(152.0))


def test_asked_twice_it_says_the_same() -> None:
    allowance = Allowance(FALL, power(ramp=10e3), 1.0)
    allowance.at(1199.0)
    assert [allowance.at(1200.0) for _ in range(3)] == pytest.approx([7.01e6] * 3)


def test_a_preference_waits_for_the_ramp() -> None:
    price = Steps((0.0, 100.0), (2e-8, 5e-8))
    preference = Preference.model_construct(limit=Constant(6e6), price=price, worth=3e-8)
    allowance = Allowance(Constant(10e6), power(preference=preference, ramp=100e3), 1.0)
    found = [allowance.at(t) for t in (0.0, 99.0, 100.0, 110.0, 140.0)]
    assert found == pytest.approx([10e6, 10e6, 9.9e6, 8.9e6, 6e6])


def test_a_preference_counts_while_it_is_dear() -> None:
    price = Steps((0.0, 100.0), (2e-8, 5e-8))
    preference = Preference.model_construct(limit=Constant(6e6), price=price, worth=3e-8)
    allowance = Allowance(Constant(10e6), power(preference=preference), 1.0)
    assert [allowance.at(t) for t in (0.0, 99.0, 100.0)] == [10e6, 10e6, 6e6]
