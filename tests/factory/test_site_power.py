"""A site's power at work, shown by runs: limits at every level, priorities, clocks, heat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory_sim.errors import InputError
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.scenario.scenario import Scenario
from tests.factory.facility.sites import building, site_of

BUSY: dict[str, Any] = {"process": "closed", "concurrency": 1600}
CHAT = {"prompt": 300, "output": 100}
LIGHT = {
    "w": {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "150 /s"},
        "lengths": CHAT,
    }
}


def busy(**changes: Any) -> Scenario:
    """Return two racks with all GPUs at work."""
    return site_of(
        **{
            "deployments": {"d": {"model": "llama-3.1-8b"}},
            "workload": {"w": {"deployment": "d", "arrivals": BUSY, "lengths": CHAT}},
        }
        | changes
    )


def mean_w(run: Run, deployment: str = "d") -> float:
    watts: float = run.summary["deployments"][deployment]["gpu_power_w"]
    return watts


def grid_kw(run: Run, start_s: float, end_s: float) -> np.ndarray:
    series = run.timeseries
    inside = (series["time_s"] > start_s) & (series["time_s"] <= end_s)
    return 1e3 * series["grid_power_mw"][inside].to_numpy()


class TestLevels:
    site = building(power_chain={"kind": "n", "pdu": {"racks": 1, "rating": "25 kW"}})

    @pytest.mark.slow
    def test_a_block_that_binds_slows_what_is_behind_it_and_is_named(self) -> None:
        run = simulate(busy(site=self.site, provisioning={"oversubscribe": 2.0}))
        limits = run.summary["limits"]
        assert list(limits) == ["meter", "pdu-0", "pdu-1"]
        assert run.summary["binding_limit"] in ("pdu-0", "pdu-1")
        assert limits["pdu-0"]["limit_mw"] == 0.025
        assert limits["meter"]["held_back_s"] == 0.0
        assert 0.0 < limits["pdu-0"]["overshoot_s"] <= 3.0  # until the first orders have acted
        assert run.summary["time_lost"]["power_throttled"] > 0.0
        assert run.summary["power_chain"]["pdu"]["highest_load"] > 1.0

    def test_only_what_is_behind_it(self) -> None:
        # One rack works, the other is empty: the level of the empty one never binds.
        run = simulate(
            busy(
                site=self.site,
                provisioning={"oversubscribe": 2.0},
                deployments={"d": {"model": "llama-3.1-8b", "replicas": 32}},
            )
        )
        limits = run.summary["limits"]
        assert limits["pdu-0"]["held_back_s"] > 40.0
        assert limits["pdu-1"]["held_back_s"] == limits["pdu-1"]["overshoot_s"] == 0.0

    @pytest.mark.slow
    def test_the_feed_of_a_rack_is_a_level_too(self) -> None:
        chain = {"kind": "n", "rack_limit": "25 kW"}
        site = building(power_chain=chain)
        run = simulate(busy(site=site, provisioning={"oversubscribe": 2.0}))
        assert list(run.summary["limits"]) == ["meter", "rack-0", "rack-1"]
        rack = run.summary["limits"]["rack-0"]
        assert rack["held_back_s"] > 40.0
        assert rack["highest_mw"] > 0.025 > run.timeseries["it_power_mw"].iloc[10:].max() / 2


FALL = {"steps": [["0 s", "60 kW"], ["30 s", "45 kW"], ["50 s", "60 kW"]]}


class TestCap:
    """A curtailment of a quarter: how far over, and for how long."""

    def run(self, **power: Any) -> Run:
        site = building(grid_limit=FALL, cooling="air-tower")
        return simulate(busy(site=site, power=power, provisioning={"oversubscribe": 2.0}))

    def test_is_exceeded_only_for_the_delay_of_control(self) -> None:
        run = self.run(telemetry_delay="2 s")
        # The reading at the fall acts 2.1 s later, within the third period after it.
        assert 2.0 <= run.summary["cap_overshoot_s"] <= 3.0
        assert run.summary["cap_overshoot_max_mw"] == pytest.approx(0.011, abs=1e-3)
        over_mwh = run.summary["cap_overshoot_mwh"]
        assert 2.0 * 0.010 <= 3600.0 * over_mwh <= 3.0 * 0.0112
        series = run.timeseries.set_index("time_s")
        assert series.loc[34.0:50.0, "grid_power_mw"].max() <= 0.045

    @pytest.mark.slow
    def test_is_never_exceeded_with_notice(self) -> None:
        run = self.run(notice="10 s", telemetry_delay="2 s")
        assert run.summary["cap_overshoot_s"] == 0.0
        assert run.summary["clock"]["lowest"] < 1.0

    @pytest.mark.slow
    def test_is_approached_at_the_ramp(self) -> None:
        run = self.run(notice="30 s", ramp="0.7 kW/s")
        assert run.summary["cap_overshoot_s"] == 0.0
        drawn_kw = 1e3 * run.timeseries["grid_power_mw"].to_numpy()
        fall = drawn_kw[12:30]
        assert fall[0] > fall[-1] + 6.0
        # A step of the clock is what the ramp is resolved to.
        assert np.diff(fall).min() > -4.5

    @pytest.mark.slow
    def test_is_kept_by_a_battery_while_it_lasts(self) -> None:
        battery = {"energy": "1 kWh", "power": "40 kW"}
        site = building(grid_limit=FALL, cooling="air-tower", battery=battery)
        watching = {"power": {"policy": "none"}, "provisioning": {"oversubscribe": 2.0}}
        run = simulate(busy(site=site, **watching))
        assert run.summary["cap_overshoot_s"] == 0.0
        # It keeps to the limit less the margin of 2 %.
        assert run.timeseries["battery_mw"].min() == pytest.approx(-0.012, abs=1e-3)
        assert run.summary["clock"]["lowest"] == 1.0

    @pytest.mark.slow
    def test_a_battery_that_fills_or_gives_slows_nobody(self) -> None:
        for start in ("0 %", "100 %"):
            battery = {"energy": "50 kWh", "power": "40 kW", "start": start}
            limit = "60 kW" if start == "0 %" else "50 kW"  # the site draws 56 kW
            site = building(grid_limit=limit, cooling="air-tower", battery=battery)
            more = {"duration": "30 s", "provisioning": {"oversubscribe": 2.0}}
            run = simulate(busy(site=site, **more))
            assert run.summary["clock"]["lowest"] == 1.0
            assert run.summary["cap_overshoot_s"] == 0.0
            assert (run.timeseries["battery_mw"].iloc[10] > 0.0) == (start == "0 %")

    @pytest.mark.slow
    @pytest.mark.parametrize("policy", ["clock", "decode-first"])
    def test_clocks_fall_only_for_what_a_battery_cannot_give(self, policy: str) -> None:
        fall = {"steps": [["0 s", "60 kW"], ["15 s", "50 kW"]]}

        def run(energy: str) -> Run:
            battery = {"energy": energy, "power": "40 kW"}
            site = building(grid_limit=fall, cooling="air-tower", battery=battery)
            more = {"duration": "40 s", "provisioning": {"oversubscribe": 3.0}}
            return simulate(busy(site=site, power={"policy": policy}, **more))

        large, small = run("5 kWh"), run("0.03 kWh")  # for the fall of 7 kW, or for 14 s of it
        assert large.summary["clock"]["lowest"] == 1.0
        assert large.timeseries["battery_mw"].iloc[17:39].max() < -0.005
        clocks = small.timeseries.set_index("time_s")["clock"]
        assert clocks[:25.0].min() == 1.0
        assert clocks[35.0:].max() < 1.0
        for done in (large, small):
            assert done.summary["cap_overshoot_s"] == 0.0

    @pytest.mark.slow
    def test_the_ramp_holds_beside_a_battery(self) -> None:
        battery = {"energy": "0.1 Wh", "power": "1 W"}
        power = {"ramp": "0.2 kW/s"}
        site = {"grid_limit": FALL, "cooling": "air-tower"}
        more = {"power": power, "provisioning": {"oversubscribe": 2.0}}
        without = simulate(busy(site=building(**site), **more))
        beside = simulate(busy(site=building(**site, battery=battery), **more))
        clocks = [run.timeseries["clock"].to_numpy()[:60] for run in (without, beside)]
        assert clocks[0][55] < 1.0
        assert np.abs(clocks[0] - clocks[1]).max() <= 0.05 + 1e-9

    @pytest.mark.slow
    def test_own_generation_moves_the_limit_and_not_the_policy(self) -> None:
        def clock(**site: Any) -> Any:
            more = {"duration": "30 s", "provisioning": {"oversubscribe": 4.0}}
            run = simulate(busy(site=building(cooling="air-tower", **site), **more))
            return run.timeseries["clock"].to_numpy()[10:30]

        metered, made = clock(grid_limit="50 kW"), clock(grid_limit="30 kW", generation="20.4 kW")
        assert made.mean() == pytest.approx(metered.mean(), abs=0.05)  # a step of the clock
        assert np.ptp(made) <= 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("policy", ["clock", "decode-first"])
    def test_boards_that_run_slower_already_are_not_counted_as_full(self, policy: str) -> None:
        racks = [{"system": "dgx-h100", "count": 2, "gpu_power_limit": "400 W"}]
        fall = {"steps": [["0 s", "60 kW"], ["30 s", "40 kW"], ["50 s", "60 kW"]]}
        site = building(grid_limit=fall, cooling="air-tower")
        over = {"oversubscribe": 3.0}
        run = simulate(busy(site=site, racks=racks, power={"policy": policy}, provisioning=over))
        assert grid_kw(run, 30.0, 36.0).max() <= 40.0 * 1.05
        assert grid_kw(run, 31.0, 36.0).max() <= 40.0

    @pytest.mark.slow
    def test_a_preference_is_kept_while_it_is_dear_and_paid_for_while_it_is_not(self) -> None:
        price = {"steps": [["0 s", "20 USD/MWh"], ["30 s", "90 USD/MWh"]]}
        preference = {"limit": "45 kW", "price": price, "worth": "50 USD/MWh"}
        scenario = busy(
            site=building(grid_limit="60 kW", cooling="air-tower"),
            power={"preference": preference},
            provisioning={"oversubscribe": 2.0},
        )
        run = simulate(scenario)
        series = run.timeseries.set_index("time_s")
        assert series.loc[:30.0, "clock"].min() == 1.0
        assert series.loc[33.0:60.0, "grid_power_mw"].max() <= 0.045
        over = run.summary["over_preference"]
        cheap_mwh = 30.0 / 3600.0 * (series.loc[:30.0, "grid_power_mw"].mean() - 0.045)
        assert over["mwh"] == pytest.approx(cheap_mwh, rel=0.05)
        assert over["cost_usd"] == pytest.approx(20.0 * over["mwh"], rel=0.05)
        half = simulate(scenario.model_copy(update={"warmup": 15.0})).summary["over_preference"]
        assert half["mwh"] == pytest.approx(over["mwh"] / 2, rel=0.05)  # of the window alone
        assert run.summary["cap_overshoot_s"] == 0.0

    def test_parked_replicas_stay_parked_when_those_that_are_open_fail(self) -> None:
        fall = {"steps": [["0 s", "60 kW"], ["10 s", "38 kW"]]}
        run = simulate(
            busy(
                site=building(grid_limit=fall, cooling="air-tower"),
                workload=LIGHT,
                power={"policy": "park"},
                provisioning={"oversubscribe": 3.0},
                failures={"schedule": [{"at": "40 s", "what": "rack-0"}]},
            )
        )
        assert run.timeseries.set_index("time_s").loc[45.0:, "grid_power_mw"].max() <= 0.038

    def test_parking_serves_on_fewer_replicas(self) -> None:
        # At part load, where fewer replicas can carry the work.
        site = building(grid_limit="41 kW", cooling="air-tower")
        more = {"site": site, "workload": LIGHT, "provisioning": {"oversubscribe": 3.0}}
        free = simulate(busy(power={"policy": "none"}, **more))
        parked = simulate(busy(power={"policy": "park"}, **more))
        used = parked.requests["replica"].nunique()
        late = parked.requests[parked.requests["arrival_s"] > 40.0]["replica"].nunique()
        assert late < used == 64
        assert parked.summary["grid_power_mw"]["mean"] < free.summary["grid_power_mw"]["mean"]
        assert parked.summary["requests_completed"] == len(parked.requests)


def chat_and_batch(policy: str) -> Scenario:
    """Return a site of two deployments, of which `chat` is to be slowed last."""
    deployments = {
        name: {"model": "llama-3.1-8b", "replicas": 32, "power_priority": priority}
        for name, priority in (("chat", 1), ("batch", 0))
    }
    load = {"process": "closed", "concurrency": 800}
    return site_of(
        site=building(grid_limit="50 kW", cooling="air-tower"),
        deployments=deployments,
        workload={
            name: {"deployment": name, "arrivals": load, "lengths": CHAT} for name in deployments
        },
        power={"policy": policy},
        provisioning={"oversubscribe": 2.0},
    )


class TestPriority:
    @pytest.mark.slow
    @pytest.mark.parametrize("policy", ["clock", "decode-first"])
    def test_the_lowest_is_slowed_first(self, policy: str) -> None:
        run = simulate(chat_and_batch(policy))
        lost = {name: found["time_lost"] for name, found in run.summary["deployments"].items()}
        assert lost["batch"]["power_throttled"] > 0.0
        assert "power_throttled" not in lost["chat"]
        held = run.summary["deployments"]["batch"]["output_tokens_per_s_held_back_by_cap"]
        assert held > 0.0
        classes = run.summary["classes"]
        assert classes["batch"]["output_tokens_per_s_held_back_by_cap"] == held
        assert "output_tokens_per_s_held_back_by_cap" not in classes["chat"]

    def test_what_is_held_back_is_told_by_class(self) -> None:
        # Three users with long answers for each with a short one.
        run = simulate(
            busy(
                site=building(grid_limit="50 kW", cooling="air-tower"),
                duration="30 s",
                workload={
                    name: {
                        "deployment": "d",
                        "arrivals": {"process": "closed", "concurrency": 8 * output},
                        "lengths": {"prompt": 300, "output": output},
                    }
                    for name, output in (("short", 50), ("long", 150))
                },
                provisioning={"oversubscribe": 2.0},
            )
        )
        classes, site = run.summary["classes"], run.summary
        held = {
            name: found["output_tokens_per_s_held_back_by_cap"] for name, found in classes.items()
        }
        assert sum(held.values()) == pytest.approx(site["output_tokens_per_s_held_back_by_cap"])
        assert held["long"] > 1.5 * held["short"] > 0.0
        for key in ("requests_arrived", "requests_completed", "goodput_output_tokens_per_s"):
            if key in site:
                assert sum(found[key] for found in classes.values()) == pytest.approx(site[key])
        assert classes["short"]["e2e_ms"]["mean"] < classes["long"]["e2e_ms"]["mean"]

    @pytest.mark.parametrize("policy", ["admit", "none"])
    def test_is_refused_where_nobody_looks_at_it(self, policy: str) -> None:
        with pytest.raises(InputError, match=f"deployments.chat.power_priority.*'{policy}'"):
            chat_and_batch(policy)


class TestDecodeFirst:
    def test_prompts_keep_their_pace_while_decode_gives_way(self) -> None:
        site = building(grid_limit="43 kW", cooling="air-tower")
        more = {"site": site, "provisioning": {"oversubscribe": 3.0}}
        load = {"process": "poisson", "rate": "250 /s"}
        lengths = {"prompt": 1500, "output": 150}
        more["workload"] = {"w": {"deployment": "d", "arrivals": load, "lengths": lengths}}
        both = simulate(busy(power={"policy": "clock"}, **more))
        decode = simulate(busy(power={"policy": "decode-first"}, **more))
        for run in (both, decode):
            series = run.timeseries.set_index("time_s")
            assert series.loc[10.0:, "grid_power_mw"].max() <= 0.043
        assert decode.timeseries["clock"].min() < both.timeseries["clock"].min()
        assert decode.summary["ttft_ms"]["p50"] < both.summary["ttft_ms"]["p50"]

    def test_prompts_give_way_when_decode_alone_does_not_do(self) -> None:
        heavy = {
            "w": {"deployment": "d", "arrivals": BUSY, "lengths": {"prompt": 3000, "output": 4}}
        }
        site = building(grid_limit="44 kW", cooling="air-tower")
        more = {"site": site, "workload": heavy, "provisioning": {"oversubscribe": 3.0}}
        run = simulate(busy(power={"policy": "decode-first"}, **more))
        series = run.timeseries.set_index("time_s")
        assert series.loc[20.0:, "grid_power_mw"].max() <= 0.044
        assert run.summary["time_lost"]["power_throttled"] > 0.01


class TestClocks:
    def rate(self, run: Run) -> float:
        rate: float = run.summary["total_tokens_per_s"]
        return rate

    def at(self, lengths: dict[str, int], **row: Any) -> Run:
        racks = [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1} | row]
        load = {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "closed", "concurrency": 16},
                "lengths": lengths,
            }
        }
        model = {"model": "llama-3.1-70b", "parallelism": {"tp": 4}, "precision": "fp8"}
        return simulate(busy(racks=racks, workload=load, deployments={"d": model}))

    @pytest.mark.parametrize("watts", ["490 W", "420 W"])
    def test_capping_power_costs_prefill_much_more_than_decode(self, watts: str) -> None:
        lost = {}
        for name, lengths in (
            ("prefill", {"prompt": 4000, "output": 2}),
            ("decode", {"prompt": 32, "output": 1000}),
        ):
            full, capped = self.at(lengths), self.at(lengths, gpu_power_limit=watts)
            lost[name] = 1.0 - self.rate(capped) / self.rate(full)
        assert lost["prefill"] > 0.05
        assert lost["prefill"] > 3.0 * lost["decode"]

    def test_tokens_per_joule_peak_below_the_full_power(self) -> None:
        lengths = {"prompt": 500, "output": 200}
        runs = {clock: self.at(lengths, gpu_clock=clock) for clock in (1.0, 0.85, 0.7, 0.55)}
        joules = {c: run.summary["energy_per_output_token_j"] for c, run in runs.items()}
        watts = {clock: mean_w(run) for clock, run in runs.items()}
        assert min(joules, key=lambda clock: joules[clock]) < 1.0
        assert joules[0.7] < 0.9 * joules[1.0]
        assert watts[1.0] > watts[0.85] > watts[0.7] > watts[0.55]
        assert self.rate(runs[0.55]) < self.rate(runs[1.0])

    def test_a_clock_below_the_useful_ones_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"racks.0.gpu_clock: must be at least 50%"):
            lay_out(busy(racks=[{"system": "dgx-h100", "count": 1, "gpu_clock": 0.3}]))


class TestHeat:
    def liquid(self, *schedule: dict[str, Any], **changes: Any) -> Run:
        load = {"process": "closed", "concurrency": 1000}
        return simulate(
            busy(
                **{
                    "duration": "90 s",
                    "drain": "0 s",
                    "site": building(cooling={"plant": "liquid", "cdu_racks": 1}),
                    "racks": [{"system": "gb200-nvl72", "count": 2}],
                    "deployments": {"d": {"model": "llama-3.1-70b", "parallelism": {"tp": 8}}},
                    "workload": {"w": {"deployment": "d", "arrivals": load, "lengths": CHAT}},
                    "failures": {"schedule": list(schedule)} if schedule else None,
                }
                | changes
            )
        )

    def test_losing_its_coolant_throttles_a_rack_within_a_minute(self) -> None:
        run = self.liquid({"at": "10 s", "what": "cdu-0", "lasts": "80 s"}, duration="120 s")
        series = run.timeseries.set_index("time_s")
        slow = series.index[series["clock"] < 1.0]
        assert 10.0 < slow[0] <= 70.0
        assert run.summary["time_lost"]["thermally_throttled"] > 0.0
        assert 87.0 < run.summary["temperature_c"]["gpu_hottest_c"] < 92.0
        assert run.summary["outages"]["cdu"]["replicas_stopped"] == 0
        # One rack of two was slowed, and both run free again once coolant flows.
        assert 0.75 <= series["clock"].min() < 1.0
        assert series.loc[120.0, "clock"] > series["clock"].min()
        assert series.loc[120.0, "coolant_hottest_c"] < 60.0

    def test_protection_does_not_wait_for_the_meter(self) -> None:
        """GPUs mind their temperature every second, however seldom the site reads its meter."""
        often, seldom = (
            self.liquid({"at": "10 s", "what": "cdu-0"}, power={"period": period}).summary
            for period in ("1 s", "30 s")
        )
        slowed = [found["time_lost"]["thermally_throttled"] for found in (often, seldom)]
        assert slowed[1] == pytest.approx(slowed[0], rel=0.1)
        assert seldom["temperature_c"]["gpu_hottest_c"] < 92.0

    def test_losing_the_plant_takes_minutes(self) -> None:
        run = self.liquid({"at": "10 s", "what": "plant"})
        series = run.timeseries.set_index("time_s")
        assert (series["clock"] == 1.0).all()
        rise_k = series.loc[90.0, "liquid_loop_c"] - series.loc[10.0, "liquid_loop_c"]
        assert 1.0 < rise_k < 5.0

    @pytest.mark.slow
    def test_warm_coolant_in_hot_weather_is_told_by_temperatures(self) -> None:
        hot = building(cooling="liquid-warm", weather={"dry_bulb": "38 degC", "humidity": "20 %"})
        mild, warm = self.liquid(), self.liquid(site=hot)
        assert 41.0 < warm.timeseries["liquid_loop_c"].iloc[-1] < 48.0  # dry bulb and approach
        gap = warm.summary["temperature_c"]["gpu_hottest_c"]
        assert gap > mild.summary["temperature_c"]["gpu_hottest_c"] + 8.0


class TestRepresented:
    @pytest.mark.slow
    def test_a_few_racks_stand_for_many(self) -> None:
        arrivals = {"process": "poisson", "rate": "800 /s"}
        load = {"w": {"deployment": "d", "arrivals": arrivals, "lengths": CHAT}}
        racks = [{"system": "dgx-h100", "count": 8}]
        site = building(cooling="air-tower")

        def run(replicas: Any) -> Run:
            deployment = {"model": "llama-3.1-8b", "replicas": replicas}
            return simulate(
                site_of(site=site, racks=racks, workload=load, deployments={"d": deployment})
            )

        whole, few = run(256), run({"simulate": 32})
        assert few.summary["represented_replicas"] == {"d": {"simulated": 32, "represented": 256}}
        assert len(few.requests) == pytest.approx(len(whole.requests) / 8, rel=0.05)
        for key in ("output_tokens_per_s", "pue", "energy_per_output_token_j"):
            assert few.summary[key] == pytest.approx(whole.summary[key], rel=0.02)
        grid = (run.summary["grid_power_mw"]["mean"] for run in (few, whole))
        assert next(grid) == pytest.approx(next(grid), rel=0.02)
        use = few.summary["energy_mwh"]
        assert sum(use.values()) == pytest.approx(few.summary["power_mw"]["grid"] / 60.0, rel=1e-9)

    def test_a_rack_stands_only_for_racks_like_it(self) -> None:
        rows = [{"system": "dgx-h100", "count": 2}]
        few = {"d": {"model": "llama-3.1-8b", "replicas": {"simulate": 32}}}
        for other in ({"gpu_power_limit": "350 W"}, {"gpu_clock": "70 %"}):
            with pytest.raises(InputError, match="rack-0 would stand for rack-2, whose power lim"):
                lay_out(site_of(racks=[*rows, rows[0] | other], deployments=few))

    def test_whole_racks_are_asked_for(self) -> None:
        racks = [{"system": "dgx-h100", "count": 4}]
        for replicas, message in (
            ({"simulate": 20}, "20 replicas are not whole racks of 32; simulate a multiple of 32"),
            ({"simulate": 32, "represent": 70}, "70 replicas do not fill whole racks of 32"),
        ):
            deployment = {"model": "llama-3.1-8b", "replicas": replicas}
            with pytest.raises(InputError, match=message):
                lay_out(site_of(racks=racks, deployments={"d": deployment}))
