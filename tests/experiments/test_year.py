"""A year is what its hours come to, follows physics, and errs by little against the engine."""

from __future__ import annotations

import copy
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.experiments.runs.crews import Alone, crew_of
from factory_sim.experiments.year import broken
from factory_sim.experiments.year.answers import Asked, answers
from factory_sim.experiments.year.check import drawn
from factory_sim.experiments.year.hours import Hours, hours_of
from factory_sim.experiments.year.subject import subject_of
from factory_sim.experiments.year.surface import LOADS, Column, Surface, loads_between
from factory_sim.experiments.year.year import Year, run_year
from factory_sim.factory.build import step_time_of
from factory_sim.factory.failures.domains import Domain
from factory_sim.factory.layout import lay_out
from factory_sim.factory.timetable import Timetable
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.physics.step_time import Cost
from factory_sim.scenario.load import built_in, load, override, scenario_from
from factory_sim.scenario.scenario import Scenario
from tests.experiments.sweeps import Counting

DAY: dict[str, Any] = {
    "name": "day",
    "seed": 5,
    "starts_at": "2025-01-31T00:00:00+01:00",
    "duration": "10 s",
    "warmup": "2 s",
    "site": {
        "grid_limit": {"steps": [["0 s", "20 kW"], ["12 h", "6 kW"], ["15 h", "20 kW"]]},
        "cooling": "air-dry",
        "weather": {"dry_bulb": {"months": ["5 degC"] + ["30 degC"] * 11}, "wet_bulb": "4 degC"},
        "price": {"daily": [["00:00", "20 USD/MWh"], ["12:00", "90 USD/MWh"]]},
        "carbon": "300 g/kWh",
    },
    "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
    "power": {"margin": 0.02},
    "deployments": {
        "d": {
            "model": "llama-3.1-8b",
            "replicas": 8,
            "engine": {"profile": "vllm", "max_num_seqs": 8},
            "router": "least-outstanding",
            "slo": {"ttft": "200 ms", "tpot": "20 ms", "percentile": 95},
        }
    },
    "workload": {
        "w": {
            "deployment": "d",
            "arrivals": {
                "process": "poisson",
                "rate": "150 /s",
                "shape": {"daily": [["04:00", 0.2], ["14:00", 1.0]]},
            },
            "lengths": {"prompt": 200, "output": 40},
        }
    },
}


TOKENS = 40
"""Of every answer."""


def scenario(**fields: Any) -> Scenario:
    given = copy.deepcopy(DAY)
    for path, value in fields.items():
        override(given, path.replace("__", "."), value)
    return scenario_from(given)


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Year:
    return run_year(scenario(), Alone(), 48, check_hours=3, out=tmp_path_factory.mktemp("year"))


def test_months_are_what_their_hours_come_to(two_days: Year) -> None:
    hours, months = two_days.hours, two_days.months
    assert list(months["month"]) == ["2025-01", "2025-02"]
    assert list(months["hours"]) == [24.0, 24.0]
    for month, rows in zip(months.to_dict("records"), (hours[:24], hours[24:]), strict=True):
        seconds = rows["seconds"]
        assert month["output_tokens"] == pytest.approx(
            (rows["output_tokens_per_s"] * seconds).sum()
        )
        assert month["energy_mwh"] == pytest.approx(rows["grid_power_mw"].sum())
        assert month["cost_usd"] == pytest.approx(
            (rows["grid_power_mw"] * rows["usd_per_mwh"]).sum()
        )
        assert month["carbon_t"] == pytest.approx(0.3 * month["energy_mwh"])
        assert month["hours_capped"] == rows["capped"].sum()
        it = rows["it_power_mw"].sum()
        assert month["pue"] == pytest.approx(rows["site_power_mw"].sum() / it)
    assert (hours["gpu_power_mw"] < hours["it_power_mw"]).all()
    assert (hours["it_power_mw"] < hours["site_power_mw"]).all()


def test_who_keeps_up_makes_what_is_asked(two_days: Year) -> None:
    hours = two_days.hours
    assert not hours["overloaded"].any()
    asked = 150.0 * scenario().workload["w"].arrivals.shape.mean_over(0.0, 3600.0)  # type: ignore[union-attr]
    assert hours["output_tokens_per_s"][0] == pytest.approx(TOKENS * asked)
    assert hours["total_tokens_per_s"][0] == pytest.approx((TOKENS + 200) * asked)


def test_hot_weather_costs_power_and_a_low_limit_clock(two_days: Year) -> None:
    hours = two_days.hours
    cold, hot = hours[:24].reset_index(drop=True), hours[24:].reset_index(drop=True)
    assert (hot["pue"] > cold["pue"]).all()
    at_full = cold["clock"] == hot["clock"]
    assert np.allclose(cold["it_power_mw"][at_full], hot["it_power_mw"][at_full], rtol=1e-12)
    capped = hours["capped"]
    assert list(np.flatnonzero(capped)) == [12, 13, 14]
    assert (hours["grid_power_mw"][capped] <= 0.98 * 0.006 * (1 + 1e-9)).all()
    assert (hours["clock"][capped] < 1.0).all()
    assert (hours["tpot_ms.p99"][capped] > hours["tpot_ms.p99"][~capped].max()).all()


def test_the_engine_agrees(two_days: Year) -> None:
    assert len(two_days.checks) == 3 and not two_days.failed
    errors = two_days.errors
    assert errors["output_tokens_per_s"] < 0.08
    assert errors["grid_power_mw"] < 0.02
    assert max(errors["ttft_ms.p99"], errors["tpot_ms.p99"]) < 0.15


def test_it_goes_on_where_it_was_and_is_the_same_whoever_runs_it(tmp_path: Path) -> None:
    def taken(crew: Any, folder: Path) -> Year:
        few = scenario(duration="4 s", workload__w__arrivals__shape=0.8)
        return run_year(few, crew, 14, check_hours=2, out=folder)

    first, again = Counting(), Counting()
    year = taken(first, tmp_path / "a")
    assert len(first.done) == year.runs + 2
    pd.testing.assert_frame_equal(taken(again, tmp_path / "a").hours, year.hours)
    assert again.done == []
    with crew_of(2) as crew:
        other = taken(crew, tmp_path / "b")
    pd.testing.assert_frame_equal(other.hours, year.hours)
    for name in ("hours.parquet", "months.parquet", "checks.parquet", "months.csv"):
        kept = [(tmp_path / folder / name).read_bytes() for folder in "ab"]
        assert kept[0] == kept[1]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a/months.parquet"), year.months)


def made_up(clocks: tuple[float, ...] = (1.0, 0.8, 0.6)) -> Surface:
    """Return a surface of replicas that serve at most 20 /s times their clock."""
    loads = np.array(LOADS)
    columns = [
        Column(
            clock,
            25.0 * clock,
            loads,
            {
                "gpu_w": 100.0 + 500.0 * clock**2 * np.minimum(loads, 0.8),
                "served": np.full(len(loads), 0.8),
                "met": np.where(loads < 0.7, 1.0, 0.5),
                "ttft_ms.p99": np.log(50.0 / (1.6 - np.minimum(loads, 1.5))),
            },
        )
        for clock in clocks
    ]
    return Surface(columns, lambda clock: 25.0 * clock)


def test_a_surface_goes_through_its_points_and_is_monotone_between_them() -> None:
    surface = made_up()
    for column in surface.columns:
        found = surface.read(column.clock, column.loads * column.best_per_s)
        assert np.allclose(found["gpu_w"], column.values["gpu_w"], rtol=1e-12)
        assert np.allclose(found["ttft_ms.p99"], np.exp(column.values["ttft_ms.p99"]), rtol=1e-12)
    rates = np.linspace(0.3, 36.0, 500)
    for clock in (1.0, 0.95, 0.8, 0.65, 0.6):
        found = surface.read(clock, rates)
        for name in ("gpu_w", "served", "ttft_ms.p99"):
            assert (np.diff(found[name]) >= -1e-9).all()
        assert np.allclose(found["served"], np.minimum(rates, 20.0 * clock))
    watts = np.array([surface.read(c, np.array([9.0]))["gpu_w"][0] for c in (0.6, 0.7, 0.8, 1.0)])
    assert (np.diff(watts) > 0.0).all()


def test_loads_are_run_on_both_sides_of_what_is_asked() -> None:
    for low, high in ((0.03, 0.04), (0.31, 0.86), (0.9, 1.2)):
        loads = loads_between(low, high)
        assert loads[0] <= low and loads[-1] >= min(1.1 * high, LOADS[-1])
        assert loads == [each for each in LOADS if loads[0] <= each <= loads[-1]]
    assert loads_between(0.001, 0.002) == [0.01, 0.02]
    assert loads_between(7.0, 9.0) == [1.5]


@cache
def subject() -> Any:
    return subject_of(scenario(), 48 * 3600.0)


def hours_at(load: Any, **others: Any) -> Hours:
    """Return an hour for each load, at the same limit and weather unless told."""
    each = np.atleast_1d(np.asarray(load, dtype=float))
    usual = {
        "step_s": 3600.0,
        "speed": np.ones(len(each)),
        "up": np.ones(len(each)),
        "ambient": [Ambient(20.0, 12.0)] * len(each),
        "limit_w": np.full(len(each), 20e3),
        "generation_w": np.zeros(len(each)),
        "usd_per_j": None,
        "g_per_j": None,
    }
    return Hours(load=each, **(usual | others))


def answered(hours: Hours) -> Any:
    return answers(Asked(subject(), hours), made_up(), [1.0, 0.9, 0.8, 0.7, 0.6])


def test_more_load_is_more_power_until_no_more_is_served() -> None:
    loads = np.linspace(0.05, 2.0, 60)
    found = answered(hours_at(loads))
    assert (np.diff(found.served) >= -1e-9).all() and (np.diff(found.meter_w) >= -1e-9).all()
    able = found.served == found.asked
    assert np.allclose(found.served[~able], 8 * 20.0) and (found.asked[~able] > 8 * 20.0).all()
    assert np.allclose(found.asked, 150.0 * loads)


def test_the_clock_is_the_highest_that_fits() -> None:
    clocks = [1.0, 0.9, 0.8, 0.7, 0.6]
    limits = np.linspace(3e3, 8e3, 26)
    found = answered(hours_at(np.full(26, 0.9), limit_w=limits))
    assert (np.diff(found.clock) >= 0.0).all() and len(set(found.clock)) == 5
    for limit_w, clock, over, load_w in zip(
        limits, found.clock, found.over, found.load_w, strict=True
    ):
        assert over == (load_w > 0.98 * limit_w * (1 + 1e-9))
        assert not over or clock == 0.6
        if clock < 1.0:
            higher = clocks[clocks.index(clock) - 1]
            gpu_w = made_up().read(higher, np.array([0.9 * 150.0 / 8]))["gpu_w"][0]
            assert subject().flow(gpu_w, Ambient(20.0, 12.0)).load_w > 0.98 * limit_w


def test_own_generation_leaves_the_meter_less_and_gives_the_cap_room() -> None:
    both = hours_at([0.9, 0.9, 0.9], limit_w=np.array([5e3, 5e3, 5e3]),
                    generation_w=np.array([0.0, 2e3, 50e3]))  # fmt: skip
    found = answered(both)
    assert found.clock[0] < found.clock[1] == 1.0
    assert found.meter_w[1] == found.load_w[1] - 2e3
    assert found.meter_w[2] == 0.0


def test_replicas_that_are_down_leave_their_load_to_the_others() -> None:
    found = answered(hours_at([0.5, 0.5, 0.5], up=np.array([1.0, 0.5, 0.0])))
    alone = answered(hours_at([1.0]))
    assert found.latencies["ttft_ms.p99"][1] == alone.latencies["ttft_ms.p99"][0]
    assert list(found.served[:2]) == list(found.asked[:2]) and found.served[2] == 0.0
    assert found.meter_w[2] == subject().flow(subject().fleet.power.idle_w, Ambient(20, 12)).load_w


def test_software_twice_as_fast_does_the_same_in_half_the_time() -> None:
    found = answered(hours_at([0.4, 0.8], speed=np.array([1.0, 2.0])))
    assert found.meter_w[0] == found.meter_w[1] and found.clock[0] == found.clock[1]
    assert found.served[1] == 2.0 * found.served[0]
    latency = found.latencies["ttft_ms.p99"]
    assert latency[1] == latency[0] / 2.0


class _Faster:
    """A step-time model all of whose steps take less time."""

    def __init__(self, model: Any, speed: float) -> None:
        self._model, self._speed, self.window = model, speed, model.window
        self.per_context = self._less(model.per_context)
        self.per_windowed = self._less(model.per_windowed)

    def _less(self, cost: Cost) -> Cost:
        return Cost._make(seconds / self._speed for seconds in cost)

    def decode(self, sequences: int) -> Cost:
        return self._less(self._model.decode(sequences))

    def mixed(self, *given: Any) -> Cost:
        return self._less(self._model.mixed(*given))


def test_the_engine_with_faster_steps_does_what_speed_says() -> None:
    site = {"grid_limit": "100 kW", "pue": 1.2}
    slow = scenario(site=site, duration="20 s", warmup="4 s")
    fast = scenario(site=site, duration="10 s", warmup="2 s", workload__w__arrivals__rate="300 /s")
    for each in (slow, fast):
        each.workload["w"].arrivals.__dict__["shape"] = None
    runs = [
        fs.simulate(
            given, step_time=lambda f, c, v=speed: _Faster(step_time_of(f, c), v)
        ).summary
        for given, speed in ((slow, 1.0), (fast, 2.0))
    ]  # fmt: skip
    one, two = runs
    assert two["output_tokens_per_s"] == pytest.approx(2.0 * one["output_tokens_per_s"], rel=1e-3)
    assert two["power_mw"]["gpu"] == pytest.approx(one["power_mw"]["gpu"], rel=1e-3)
    assert two["tpot_ms"]["p99"] == pytest.approx(one["tpot_ms"]["p99"] / 2.0, rel=1e-2)


def test_demand_and_speed_grow_by_so_much_a_year() -> None:
    given = scenario(workload__w__arrivals__shape=2.0)
    climate = lay_out(given).climate
    hours = hours_of(given, climate, 2 * 8760, 3600.0, 0.5, 0.2, np.ones(2 * 8760))
    assert hours.load[0] == pytest.approx(2.0, rel=1e-4)
    assert np.allclose(hours.load[8760:] / hours.load[:8760], 1.5)
    assert np.allclose(hours.speed[8760:] / hours.speed[:8760], 1.2)
    assert hours.limit_w[[11, 12, 14, 15]].tolist() == [20e3, 6e3, 6e3, 20e3]
    assert hours.ambient[23].dry_c == 5.0 and hours.ambient[24].dry_c == 30.0
    worth = {"limit": "5 kW", "price": {"steps": [["0 s", "1 USD/MWh"], ["1 h", "3 USD/MWh"]]}}
    soft = scenario(power={"preference": worth | {"worth": "2 USD/MWh"}})
    hours = hours_of(soft, climate, 3, 3600.0, 0.0, 0.0, np.ones(3))
    assert hours.limit_w.tolist() == [20e3, 5e3, 5e3]


def test_an_hour_is_played_in_the_building_of_the_year() -> None:
    whole = subject()
    hours = hours_at([0.7], limit_w=np.array([6.5e3]), ambient=[Ambient(3.0, 1.0)])
    played = scenario_from(whole.hour_at(hours, 0, 9))
    layout = lay_out(played)
    assert layout.hottest == whole.layout.hottest
    assert layout.building.most_w == whole.layout.building.most_w
    assert layout.climate.at(0.0) == Ambient(3.0, 1.0)
    assert played.seed == 9 and played.site.grid_limit.at(0.0) == 6.5e3
    assert played.workload["w"].arrivals.rate == 105.0  # type: ignore[union-attr]


def test_hours_that_are_checked_are_a_third_of_the_busiest() -> None:
    rng = np.random.default_rng(0)
    asked = Asked(subject(), hours_at(rng.random(1000)))
    places = drawn(asked, 12, 1)
    assert places == sorted(set(places)) and len(places) == 12
    busiest = np.argsort(asked.each)[-50:]
    assert sum(place in busiest for place in places) == 4
    assert drawn(asked, 12, 2) != places
    assert drawn(Asked(subject(), hours_at([1.0, 0.0])), 12, 1) == [0]


class _Log(broken.Register):
    def told(self) -> list[tuple[float, int]]:
        return [(round(time, 3), up) for time, up in self.log]


def test_replicas_are_away_until_all_that_they_need_works_and_has_started() -> None:
    env = Timetable()
    register = _Log(env, lay_out(scenario()))
    again = round(register._restart_s, 3)
    gpu = Domain("gpu-0", "gpu", frozenset([0]), frozenset([0]))
    rack = Domain("rack-0", "switch", frozenset(range(8)), frozenset([0]))
    ups = Domain("ups-0", "ups", frozenset(), frozenset([0]), spares=1, modules=5)
    register.strike(gpu)
    register.strike(rack)
    register.mend(gpu)
    env.run(until=1000.0)
    register.mend(rack)  # weights are still there
    register.strike(ups)
    env.run(until=1001.0)
    assert register.told() == [(0.0, 8), (0.0, 7), (0.0, 0), (again, 0), (1000.0, 8)]
    register.strike(ups)  # one more than there is to spare
    register.mend(ups)
    env.run(until=2000.0)
    assert register.told()[5:] == [(1001.0, 0), (round(1001.0 + again, 3), 8)]


def test_as_many_are_up_as_failures_and_repairs_leave() -> None:
    chance = {"chance": {"kinds": ["server"], "times": 20.0}}
    given = scenario(failures=chance)
    rate = given.facts.failure_rate("server")
    edges = 3600.0 * np.arange(8760 * 3 + 1.0)
    up = broken.up_shares(given, subject_of(given, float(edges[-1])).given, edges)
    assert (up >= 0.0).all() and (up <= 1.0).all() and len(up) == len(edges) - 1
    away_s = rate.repair.value + broken.Register(Timetable(), lay_out(given))._restart_s
    # One server, of which failures come as a Poisson process, some while it is away already.
    expected = np.exp(-20.0 * away_s / rate.mtbf.value)
    assert up.mean() == pytest.approx(expected, abs=0.03)
    assert (broken.up_shares(scenario(), {}, edges[:3]) == 1.0).all()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"starts_at": None}, "starts_at"),
        ({"power__policy": "park"}, "power.policy"),
        ({"deployments__d__autoscaling": {"policy": "reactive", "outstanding": 8}}, "autoscaling"),
        ({"site__battery": {"energy": "1 kWh", "power": "1 kW"}}, "site.battery"),
        ({"workload__w__sessions": {"turns": 2, "think_time": "1 s"}}, "workload.w.sessions"),
        ({"workload__w__arrivals__requests": 5}, "workload.w.arrivals.requests"),
        ({"workload__w__arrivals": {"process": "closed", "concurrency": 5}}, "workload.w.arrivals"),
        ({"failures": {"schedule": [{"at": "1 s", "what": "rack-0"}]}}, "failures.schedule"),
        ({"training": {"t": {"model": "llama-3.1-8b", "gpus": 8, "tokens": 1e9, "mfu": 0.4,
                             "global_batch": 1000}}}, "training"),
    ],
)  # fmt: skip
def test_what_a_year_does_not_know_is_refused(fields: dict[str, Any], path: str) -> None:
    if "starts_at" in fields:
        given = scenario(site={"grid_limit": "20 kW", "pue": 1.2})
        given = given.model_copy(update={"starts_at": None})
    else:
        given = scenario(**fields)
    with pytest.raises(InputError) as caught:
        subject_of(given, 3600.0)
    assert path in str(caught.value)


@pytest.mark.alone
@pytest.mark.slow
def test_a_year_of_8760_hours_is_quick_and_near_the_engine(tmp_path: Path) -> None:
    before = os.times()
    with crew_of(2) as crew:
        year = run_year(load(built_in("year_20mw")), crew, out=tmp_path)
    after = os.times()
    used_s = sum(after[:4]) - sum(before[:4])
    print(f"{used_s:.0f} s of processors, median errors {year.errors}")
    assert len(year.hours) == 8760 and len(year.checks) == 12
    assert year.checks["busiest"].sum() >= 4
    assert used_s < 2 * 180.0 / 1.5  # two cores, not all of the time both
    assert year.errors["output_tokens_per_s"] < 0.03
    assert year.errors["grid_power_mw"] < 0.03
    assert year.errors["ttft_ms.p99"] < 0.10
    assert year.errors["tpot_ms.p99"] < 0.10
    assert year.months["hours_capped"].sum() > 0 and year.months["hours_slo_missed"].sum() > 0
