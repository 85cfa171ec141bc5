"""Electrical losses, servers, cooling loops and thermal masses, against laws and by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.physics.cooling import LATENT_J_PER_KG, Chiller, Loop
from factory_sim.physics.electrical import Losses, supplied_w
from factory_sim.physics.psychrometrics import Ambient, humidity_of, wet_bulb_c
from factory_sim.physics.server import ServerModel
from factory_sim.physics.thermal import warmed_c

UPS = Losses(0.0045, 0.015, 0.0155)
CHILLER = Chiller(0.5, 3.0, 15.0, 10.0, 0.35)


def loop(**changes: object) -> Loop:
    given = {
        "design_w": 1e6,
        "movers": 0.05,
        "pumps": 0.01,
        "roof": 0.02,
        "floor": 0.3,
        "supply_c": 20.0,
        "range_k": 8.0,
        "approach_k": 7.0,
        "wet": False,
        "latent": 0.0,
        "cycles": 2.0,
        "economiser": True,
        "chiller": CHILLER,
    }
    return Loop(**(given | changes))  # type: ignore[arg-type]


class TestLosses:
    def test_are_the_three_parts(self) -> None:
        assert UPS.watts(500.0, 1000.0) == pytest.approx(4.5 + 7.5 + 0.0155 * 250.0)
        assert UPS.watts(0.0, 1000.0) == 4.5
        assert UPS.watts(100.0, 0.0) == 0.0

    def test_follow_the_curve_of_the_datasheet(self) -> None:
        shares = (0.25, 0.5, 0.75, 1.0)
        expected = (0.964, 0.969, 0.968, 0.966)
        assert [UPS.efficiency(x) for x in shares] == pytest.approx(expected, abs=6e-4)

    def test_of_equipment_twice_as_big_are_those_of_half_the_load_twice(self) -> None:
        assert UPS.watts(800.0, 2000.0) == pytest.approx(2.0 * UPS.watts(400.0, 1000.0))

    @given(st.floats(0.0, 1e6), st.floats(1.0, 1e6))
    def test_are_the_polynomial_of_the_output(self, load_w: float, rating_w: float) -> None:
        fixed, straight, bend = UPS.polynomial(rating_w)
        drawn_w = fixed + load_w * (straight + bend * load_w)
        assert drawn_w == pytest.approx(load_w + UPS.watts(load_w, rating_w), rel=1e-12)

    def test_supplies_lose_a_constant_and_a_share(self) -> None:
        assert supplied_w(960.0, 14.4, 0.9744) == pytest.approx(1000.0, rel=1e-12)


class TestServer:
    model = ServerModel(1191.6, 1351.6, 640.0, 5600.0, 0.06, 0.3, 140.0, 0.97)

    def test_by_hand_with_everything_at_its_limit(self) -> None:
        watts = self.model.draw(5600.0)
        assert watts.host == 1351.6
        assert watts.fans == pytest.approx(0.06 * 6951.6)
        assert watts.inlet == pytest.approx((6951.6 * 1.06 + 140.0) / 0.97)

    def test_fans_follow_the_cube_of_the_heat_down_to_their_floor(self) -> None:
        half_w = (0.5 * 6951.6) - 1250.0
        watts = self.model.draw(half_w)
        share = (watts.gpu + watts.host) / 6951.6
        assert watts.fans == pytest.approx(0.06 * 6951.6 * share**3)
        assert self.model.draw(640.0).fans == pytest.approx(0.06 * 6951.6 * 0.3**3)

    @given(st.floats(640.0, 5600.0), st.integers(1, 9))
    def test_parts_are_the_whole_and_many_are_one(self, gpu_w: float, count: int) -> None:
        one = self.model.draw(gpu_w)
        assert sum(one[:4]) == pytest.approx(one.inlet, rel=1e-12)
        many = self.model.times(count).draw(count * gpu_w)
        assert many.inlet == pytest.approx(count * one.inlet, rel=1e-12)


class TestAir:
    def test_wet_bulb_of_the_psychrometric_chart(self) -> None:
        assert wet_bulb_c(25.0, 0.5) == pytest.approx(17.9, abs=0.1)
        assert wet_bulb_c(35.0, 0.4) == pytest.approx(24.1, abs=0.2)
        assert wet_bulb_c(20.0, 1.0) == pytest.approx(20.0, abs=0.01)

    def test_humidity_from_the_dew_point(self) -> None:
        assert humidity_of(20.0, 20.0) == pytest.approx(1.0, abs=1e-3)
        assert humidity_of(25.0, 13.9) == pytest.approx(0.5, abs=0.01)


class TestChiller:
    def test_is_its_share_of_carnot(self) -> None:
        # 17 C in the evaporator, 50 C in the condenser.
        assert CHILLER.cop(20.0, 35.0) == pytest.approx(0.5 * 290.15 / 33.0)

    def test_reaches_the_code_minimum_that_its_figures_rest_on(self) -> None:
        # ASHRAE 90.1: 10.1 EER, a COP of 2.96, at 6.7 C water and 35 C air.
        assert CHILLER.cop(6.7, 35.0) == pytest.approx(2.96, rel=0.02)

    def test_is_not_infinitely_good_in_winter(self) -> None:
        assert CHILLER.cop(20.0, -30.0) == pytest.approx(0.5 * 290.15 / 10.0)


class TestLoop:
    def test_by_hand_in_free_cooling(self) -> None:
        # 10 C outside: fans turn only as fast as the approach of 7 K at full load needs.
        found = loop().draw(1e6, Ambient(10.0, 8.0))
        assert (found.free, found.chillers_w, found.unserved_w) == (1.0, 0.0, 0.0)
        assert found.movers_w == pytest.approx(50_000.0)
        assert found.pumps_w == pytest.approx(10_000.0)
        assert found.roof_w == pytest.approx(20_000.0 * 0.7**3)

    def test_by_hand_with_chillers_alone(self) -> None:
        found = loop(economiser=False).draw(1e6, Ambient(35.0, 20.0))
        assert found.free == 0.0
        assert found.chillers_w == pytest.approx(1.06e6 / CHILLER.cop(20.0, 35.0))

    def test_without_chiller_the_water_follows_the_weather(self) -> None:
        warm = loop(chiller=None).draw(1e6, Ambient(30.0, 20.0))
        assert warm.supply_c == pytest.approx(37.0)
        assert loop(chiller=None).draw(1e6, Ambient(5.0, 3.0)).supply_c == 20.0

    def test_towers_drink_what_they_evaporate_and_blow_down(self) -> None:
        found = loop(wet=True, latent=0.85, cycles=4.0).draw(1e6, Ambient(12.0, 8.0))
        expected = 0.85 * 1.06e6 / LATENT_J_PER_KG * (1.0 + 1.0 / 3.0)
        assert found.water_kg_per_s == pytest.approx(expected)
        assert loop().draw(1e6, Ambient(12.0, 8.0)).water_kg_per_s == 0.0

    def test_heat_beyond_its_capacity_is_told(self) -> None:
        assert loop().draw(1.3e6, Ambient(10.0, 8.0)).unserved_w == pytest.approx(0.3e6)

    @given(
        st.floats(0.01, 1.0),
        st.floats(0.0, 0.2),
        st.floats(-20.0, 45.0),
        st.floats(0.0, 10.0),
        st.sampled_from([True, False]),
    )
    def test_within_a_mode_power_never_falls_with_heat_or_weather(
        self, load: float, more: float, dry_c: float, warmer_k: float, economiser: bool
    ) -> None:
        made = loop(economiser=economiser)
        cold, hot = Ambient(dry_c, dry_c - 3.0), Ambient(dry_c + warmer_k, dry_c + warmer_k - 3.0)
        base = made.draw(load * 1e6, cold)
        assert base.total_w >= 0.0
        for other in (made.draw(load * 1e6, hot), made.draw(min(1.0, load + more) * 1e6, cold)):
            if _mode(other.free) == _mode(base.free):
                assert other.total_w >= base.total_w * (1 - 1e-12)


def _mode(free: float) -> str:
    return {0.0: "mechanical", 1.0: "free"}.get(free, "both")


class TestWarming:
    def test_goes_to_its_end_as_an_exponential(self) -> None:
        # 10 kW over 1 kW/K above coolant of 30 C, with 60 kJ/K: a minute's time constant.
        assert warmed_c(30.0, 60.0, 1e4, 6e4, 1e3, 30.0) == pytest.approx(40.0 - 10.0 / math.e)
        assert warmed_c(40.0, 1e9, 1e4, 6e4, 1e3, 30.0) == 40.0

    def test_without_flow_it_is_a_straight_line(self) -> None:
        assert warmed_c(30.0, 60.0, 1e4, 6e4, 0.0, 30.0) == 40.0

    @given(st.floats(0.1, 100.0), st.floats(0.1, 100.0))
    def test_two_waits_are_one(self, first_s: float, second_s: float) -> None:
        once = warmed_c(25.0, first_s + second_s, 2e3, 5e3, 80.0, 20.0)
        half = warmed_c(25.0, first_s, 2e3, 5e3, 80.0, 20.0)
        assert warmed_c(half, second_s, 2e3, 5e3, 80.0, 20.0) == pytest.approx(once, rel=1e-12)
