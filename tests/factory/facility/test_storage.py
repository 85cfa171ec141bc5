"""A battery: gives above the limit, fills below it, and conserves what it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.factory.facility.storage import Storage
from factory_sim.scenario.facility import Battery


def storage(start: float = 0.5, efficiency: float = 0.81) -> Storage:
    return Storage(
        Battery.model_construct(energy=1e6, power=2e3, efficiency=efficiency, start=start)
    )


def test_it_gives_what_is_above_the_limit() -> None:
    battery = storage()
    assert battery.take(6e3, 5e3, 10.0) == -1e3
    assert battery.held_j == pytest.approx(5e5 - 1e4 / 0.9)


def test_it_gives_no_more_than_its_power_or_what_it_holds() -> None:
    assert storage().take(9e3, 5e3, 10.0) == -2e3
    low = storage(start=0.001)
    assert low.take(6e3, 5e3, 10.0) == pytest.approx(-1e3 * 0.9 / 10.0)
    assert low.held_j == pytest.approx(0.0, abs=1e-9)


def test_it_fills_with_what_is_free() -> None:
    battery = storage()
    assert battery.take(4.5e3, 5e3, 10.0) == 500.0
    assert battery.held_j == pytest.approx(5e5 + 5e3 * 0.9)
    assert storage(start=1.0).take(1e3, 5e3, 10.0) == 0.0


def test_it_carries_a_load_alone_while_it_lasts() -> None:
    battery = storage(start=0.02)  # 20 kJ, of which 18 kJ come out
    assert battery.lasts(1.8e3, 10.0)
    assert not battery.lasts(1.81e3, 10.0)
    assert not battery.lasts(2.01e3, 1.0)
    assert battery.carry(1.8e3, 5.0) == -1.8e3
    assert battery.held_j == pytest.approx(1e4)
    assert battery.carry(-1e3, 2.0) == 1e3  # what generation makes beyond the load
    assert battery.held_j == pytest.approx(1e4 + 2e3 * 0.9)


@given(st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.1, 100.0)), max_size=20))
def test_what_it_lost_is_in_minus_out_minus_held(steps: list[tuple[float, float]]) -> None:
    battery = storage()
    into = out = 0.0
    for load_w, seconds in steps:
        watts = battery.take(load_w, 5e3, seconds)
        assert -2e3 <= watts <= 2e3
        into += max(watts, 0.0) * seconds
        out += max(-watts, 0.0) * seconds
        assert 0.0 <= battery.held_j <= 1e6
    assert battery.held_j == pytest.approx(5e5 + 0.9 * into - out / 0.9, rel=1e-9, abs=1e-3)
