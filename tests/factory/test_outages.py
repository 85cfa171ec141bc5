"""Failures: who is stopped, what is lost, and when it is back, to the second."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simpy import Container

from factory_sim.errors import InputError
from factory_sim.factory.build import Factory
from factory_sim.factory.failures.chance import Shelf, repaired
from factory_sim.factory.failures.domains import domains
from factory_sim.factory.layout import lay_out
from factory_sim.factory.network.weights import Store
from factory_sim.factory.replica import Absence
from factory_sim.factory.run import Run, simulate
from factory_sim.factory.timetable import CONTROL, Timetable
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario
from tests.factory.facility.sites import building, site_of
from tests.factory.small import small_scenario


def failing(*schedule: dict[str, Any], **changes: Any) -> Scenario:
    return site_of(**{"failures": {"schedule": list(schedule)}} | changes)


def up_and_down(scenario: Scenario, until_s: float = 300.0) -> list[tuple[float, int, str]]:
    """Return when each replica became what, to a tenth of a second."""
    factory = Factory(lay_out(scenario))
    log: list[tuple[float, int, str]] = []
    for replica in factory.gateways["d"].replicas:
        replica.absence = Noting(replica.number, log)
    factory.env.run(until=until_s)
    return log


class Noting(Absence):
    """Notes each change of state."""

    def __init__(self, number: int, log: list[tuple[float, int, str]]) -> None:
        super().__init__()
        self._number, self._log = number, log

    def go(self, state: str, now: float, dark: bool) -> None:
        if state != self.state:  # it also hears of power that comes and goes
            self._log.append((round(now, 1), self._number, state or "up"))
        super().go(state, now, dark)


def test_a_failed_gpu_stops_its_replica_which_loads_and_starts_when_it_is_mended() -> None:
    scenario = failing({"at": "10 s", "what": "rack-0/server-0/gpu-2", "lasts": "5 s"})
    # 16.06 GB of weights at 8 GB/s: 2.0 s; then 90 s for the engine to start.
    log = up_and_down(scenario, 110.0)
    assert log == [(10.0, 2, "down"), (15.0, 2, "loading"), (107.0, 2, "up")]


def test_a_failed_switch_cuts_off_but_keeps_the_weights() -> None:
    log = up_and_down(failing({"at": "10 s", "what": "rack-0/switch", "lasts": "5 s"}), 20.0)
    assert log == [(10.0, n, "down") for n in range(8)] + [(15.0, n, "up") for n in range(8)]


def test_weights_lost_while_cut_off_are_loaded_again() -> None:
    scenario = failing(
        {"at": "10 s", "what": "rack-0/switch", "lasts": "9 s"},
        {"at": "12 s", "what": "rack-0/server-0/gpu-0", "lasts": "2 s"},
    )
    log = up_and_down(scenario, 25.0)
    assert (19.0, 0, "loading") in log
    assert [entry for entry in log if entry[1] == 0 and entry[2] == "up"] == []


def test_storage_is_shared_by_all_who_load_and_stops_them_when_it_fails() -> None:
    slow = {
        "schedule": [{"at": "10 s", "what": "rack-0", "lasts": "5 s"}],
        "storage": {"bandwidth": "4 GB/s"},
    }
    # Eight replicas of 16.06 GB share 4 GB/s: 32.1 s.
    log = up_and_down(failing(failures=slow), 140.0)
    assert [time for time, _, state in log if state == "up"] == [137.1] * 8
    slow["schedule"].append({"at": "20 s", "what": "storage", "lasts": "10 s"})  # type: ignore[attr-defined]
    log = up_and_down(failing(failures=slow), 150.0)
    assert [time for time, _, state in log if state == "up"] == [147.1] * 8


def test_replicas_of_a_server_share_what_it_takes() -> None:
    """Without a bound on storage itself: eight times 16.06 GB at 2 GB/s, or one alone."""

    def back_s(what: str, per_server: str) -> list[float]:
        failures = {
            "schedule": [{"at": "10 s", "what": what, "lasts": "5 s"}],
            "storage": {"per_server": per_server},
        }
        log = up_and_down(failing(failures=failures), 200.0)
        return [time for time, _, state in log if state == "up"]

    assert back_s("rack-0/server-0", "2 GB/s") == [round(15 + 8 * 16.061 / 2 + 90, 1)] * 8
    assert back_s("rack-0/server-0", "4 GB/s") == [round(15 + 8 * 16.061 / 4 + 90, 1)] * 8
    assert back_s("rack-0/server-0/gpu-3", "2 GB/s") == [round(15 + 16.061 / 2 + 90, 1)]


def loaded_s(
    replicas: list[tuple[list[int], float]], bandwidth: float, per_server: float
) -> list[float]:
    """Return when each replica has its weights, of (the server of each GPU, bytes)."""
    env = Timetable()
    store = Store(env, bandwidth, per_server)
    done = [0.0] * len(replicas)
    for number, (servers, size) in enumerate(replicas):
        road = store.road_to([(0, server) for server in servers])
        road.send(size, number, partial(lambda n: done.__setitem__(n, env.now), number))
    env.run()
    return done


def test_storage_is_shared_by_servers_max_min_fairly() -> None:
    # Three on one server of 6 GB/s get 2 each; who is alone on another gets what is left of 10.
    found = loaded_s([([0], 8e9), ([0], 8e9), ([0], 8e9), ([1], 8e9)], 10e9, 6e9)
    assert found == pytest.approx([4.0, 4.0, 4.0, 2.0], rel=1e-12)
    # A replica over two servers takes half of its bytes at each; its slower half holds it up:
    # server 0 carries x / 2 + y = 6, so that fair is x = y = 4; alone it may take 12.
    found = loaded_s([([0, 0, 1, 1], 8e9), ([0], 8e9)], float("inf"), 6e9)
    assert found == pytest.approx([2.0, 2.0], rel=1e-12)
    assert loaded_s([([0, 0, 1, 1], 24e9)], float("inf"), 6e9) == pytest.approx([2.0])


def test_redundancy_carries_one_failure_and_not_two() -> None:
    site = building(power_chain={"kind": "2n", "pdu": {"racks": 1}})
    once = failing({"at": "10 s", "what": "pdu-0", "lasts": "20 s"}, site=site)
    assert up_and_down(once, 40.0) == []
    assert simulate(once).summary["outages"]["pdu"] == {
        "failures": 1,
        "carried_by_redundancy": 1,
        "replicas_stopped": 0,
        "requests_lost": 0,
    }
    twice = failing(
        {"at": "10 s", "what": "pdu-0", "lasts": "20 s"},
        {"at": "12 s", "what": "pdu-0", "lasts": "6 s"},
        site=site,
    )
    log = up_and_down(twice, 40.0)
    assert log == [(12.0, n, "down") for n in range(8)] + [(18.0, n, "loading") for n in range(8)]


def test_a_site_without_feed_draws_nothing_but_what_its_building_keeps() -> None:
    run = simulate(failing({"at": "10 s", "what": "feed", "lasts": "20 s"}, duration="40 s"))
    series = run.timeseries.set_index("time_s")
    assert series.loc[12.0:30.0, "it_power_mw"].max() == 0.0
    assert series.loc[12.0:30.0, "pue"].isna().all()
    assert series.loc[9.0, "it_power_mw"] > 0.02
    assert series.loc[35.0, "gpu_power_mw"] == pytest.approx(64 * 80.3e-6, rel=1e-6)
    parts = sum(run.summary["energy_mwh"].values())
    assert parts == pytest.approx(run.summary["power_mw"]["grid"] * 40 / 3600, rel=1e-9)


def test_a_battery_carries_the_site_without_feed_as_long_as_it_lasts() -> None:
    def outage(**site: Any) -> Run:
        feed = {"at": "10 s", "what": "feed", "lasts": "20 s"}
        return simulate(failing(feed, site=building(**site), duration="60 s", drain="0 s"))

    big = outage(battery={"energy": "10 kWh", "power": "60 kW"})
    series = big.timeseries.set_index("time_s")
    assert series.loc[11.0:30.0, "grid_power_mw"].abs().max() <= 1e-12
    assert series.loc[11.0:30.0, "it_power_mw"].min() > 0.02
    assert series.loc[31.0, "battery_mw"] > 0.0  # it fills again
    tally = {"failures": 1, "carried_by_redundancy": 1, "replicas_stopped": 0, "requests_lost": 0}
    assert big.summary["outages"]["feed"] == tally

    # About 33 kW for the 10 s of 0.1 kWh at 95 %: it ends a reading before it is empty.
    small = outage(battery={"energy": "0.1 kWh", "power": "60 kW"})
    series = small.timeseries.set_index("time_s")
    drawn_kw = 1e3 * -series.loc[11.0:14.0, "battery_mw"].mean()
    lasts_s = int(0.1 * 3600 * 0.9**0.5 / drawn_kw)
    assert series.loc[11.0 : 10.0 + lasts_s, "it_power_mw"].min() > 0.02
    assert series.loc[11.0 + lasts_s : 30.0, "it_power_mw"].max() == 0.0
    assert small.summary["outages"]["feed"]["replicas_stopped"] == 8

    weak = outage(battery={"energy": "10 kWh", "power": "20 kW"})
    assert weak.timeseries.set_index("time_s").loc[11.0:30.0, "it_power_mw"].max() == 0.0
    # Own generation that suffices needs no battery.
    own = outage(generation="80 kW")
    assert own.timeseries["it_power_mw"].min() > 0.0
    for run in (big, small, weak, own):
        fed = run.summary["power_mw"]["grid"] + run.summary.get("generation_mw", 0.0)
        parts = sum(run.summary["energy_mwh"].values())
        assert parts == pytest.approx(fed * 60 / 3600, rel=1e-9)


def test_a_dark_site_of_constant_pue_emits_nothing() -> None:
    site = {"grid_limit": "1 MW", "pue": 1.3, "carbon": "300 g/kWh"}
    feed = {"at": "10 s", "what": "feed", "lasts": "20 s"}
    run = simulate(failing(feed, site=site, duration="40 s"))
    assert run.timeseries.set_index("time_s").loc[12.0:30.0, "grid_power_mw"].max() == 0.0
    metered_mwh = run.summary["power_mw"]["grid"] * 40 / 3600
    assert run.summary["carbon_kg"] == pytest.approx(300.0 * metered_mwh, rel=1e-9)


def test_racks_without_replicas_fail_one_by_one() -> None:
    chain = {"kind": "n", "pdu": {"racks": 1}}
    scenario = failing(
        {"at": "10 s", "what": "pdu-3", "lasts": "20 s"},
        racks=[{"system": "dgx-h100", "count": 4}],
        site=building(power_chain=chain),
    )
    series = simulate(scenario).timeseries.set_index("time_s")
    fell_w = series.loc[9.0, "it_power_mw"] - series.loc[20.0, "it_power_mw"]
    (rack, *_) = lay_out(scenario).site.racks
    assert fell_w == pytest.approx(rack.idle_w / 1e6, rel=0.02)


def test_deployments_and_site_agree_on_the_joules_of_boards_without_power() -> None:
    run = simulate(
        failing(
            {"at": "10 s", "what": "rack-0", "lasts": "10 s"},
            {"at": "12 s", "what": "rack-0/server-0", "lasts": "20 s"},
            racks=[{"system": "dgx-h100", "count": 1}],
            deployments={"d": {"model": "llama-3.1-8b"}},
        )
    )
    own_w = run.summary["deployments"]["d"]["gpu_power_w"] * 32
    assert own_w == pytest.approx(1e6 * run.summary["power_mw"]["gpu"], rel=1e-9)


@pytest.mark.slow
def test_a_plant_that_has_failed_draws_nothing_and_then_catches_up() -> None:
    load = {
        "w": {
            "deployment": "d",
            "arrivals": {"process": "closed", "concurrency": 640},
            "lengths": {"prompt": 300, "output": 100},
        }
    }
    run = simulate(
        failing(
            {"at": "20 s", "what": "plant", "lasts": "60 s"},
            duration="200 s",
            deployments={"d": {"model": "llama-3.1-8b"}},
            workload=load,
        )
    )
    series = run.timeseries.set_index("time_s")
    assert series.loc[22.0:80.0, "chillers_mw"].max() == 0.0
    assert series.loc[22.0:80.0, "air_movers_mw"].min() > 0.0
    rise_k = series.loc[80.0, "air_loop_c"] - series.loc[19.0, "air_loop_c"]
    assert rise_k > 3.0
    assert series.loc[82.0, "chillers_mw"] > 1.1 * series.loc[19.0, "chillers_mw"]
    assert series.loc[199.0, "air_loop_c"] == pytest.approx(12.0, abs=0.5)


COLD_PLATES: dict[str, Any] = {
    "racks": [{"system": "dgx-h100", "count": 2, "liquid_share": "70 %"}],
    "site": building(cooling={"plant": "liquid", "cdu_racks": 1}),
}


def test_a_failed_cdu_draws_nothing_and_leaves_the_others_alone() -> None:
    run = simulate(failing({"at": "20 s", "what": "cdu-0"}, duration="40 s", **COLD_PLATES))
    pumps_mw = run.timeseries.set_index("time_s")["coolant_pumps_mw"]
    # Both CDUs run at their lowest speed.
    idle = simulate(failing({"at": "39 s", "what": "storage"}, duration="40 s", **COLD_PLATES))
    both_mw = idle.timeseries.set_index("time_s")["coolant_pumps_mw"]
    assert both_mw[30.0] == pytest.approx(both_mw[10.0], rel=1e-9)
    assert pumps_mw[30.0] == pytest.approx(both_mw[30.0] / 2, rel=0.02)


def test_heat_gathered_without_flow_leaves_when_flow_is_back() -> None:
    factory = Factory(
        lay_out(failing({"at": "20 s", "what": "cdu-0", "lasts": "30 s"}, **COLD_PLATES))
    )
    facility, made_j, carried_j = factory.premises[0].facility, 0.0, 0.0
    advance = facility.advance

    def noting(now: float, bay_j: Any) -> None:
        nonlocal made_j, carried_j
        before_s = facility._last_s
        advance(now, bay_j)
        flow, seconds = facility.flow, now - before_s
        lost_w = sum(flow.parts[part] for part in (5, 6))
        made_j += (flow.it_w + lost_w) * seconds
        carried_j += (flow.heat.air_w + flow.heat.liquid_w) * seconds

    facility.advance = noting  # type: ignore[method-assign]
    factory.env.run(until=50.0)
    assert carried_j < 0.95 * made_j
    factory.env.run(until=400.0)
    assert carried_j == pytest.approx(made_j, rel=2e-3)


def test_without_its_only_transformer_a_site_draws_nothing() -> None:
    site = building(power_chain="n")
    run = simulate(
        failing(
            {"at": "10 s", "what": "transformer-0", "lasts": "20 s"}, site=site, duration="40 s"
        )
    )
    series = run.timeseries.set_index("time_s")
    assert series.loc[12.0:30.0, "grid_power_mw"].max() == 0.0
    assert series.loc[35.0, "grid_power_mw"] > 0.02


def test_a_failed_block_loses_nothing_more() -> None:
    chain = {"kind": "n", "pdu": {"racks": 1}, "ups": {"racks": 1}}
    site = building(power_chain=chain)
    run = simulate(failing({"at": "10 s", "what": "ups-1"}, site=site, duration="40 s"))
    series = run.timeseries.set_index("time_s")
    (fails, works) = (series.loc[time, "ups_mw"] for time in (30.0, 9.0))
    assert fails < 0.6 * works  # the failed one lost half of it, its no-load watts included


def test_lost_requests_are_answered_elsewhere() -> None:
    run = simulate(failing({"at": "20 s", "what": "rack-0/server-0", "lasts": "200 s"}))
    requests = run.requests
    assert run.summary["outages"]["server"]["replicas_stopped"] == 8
    assert run.summary["outages"]["server"]["requests_lost"] == 400
    # All eight replicas stand in that server: the requests wait until one is back.
    assert (requests["outcome"] == "completed").sum() + (
        requests["outcome"] == "unfinished"
    ).sum() == len(requests)
    assert (requests["retries"] == 1).sum() == 400


SCHEDULES = st.lists(
    st.tuples(
        st.floats(0.0, 50.0),
        st.sampled_from(
            [
                "rack-0/server-0/gpu-1",
                "rack-0/server-0/gpu-5",
                "rack-0/server-0",
                "rack-0/switch",
                "rack-0/server-0/nic",
                "rack-0",
                "ups-0",
                "feed",
                "storage",
            ]
        ),
        st.floats(0.1, 60.0),
    ),
    min_size=1,
    max_size=5,
)


def conserving(schedule: list[tuple[float, str, float]], debug: bool) -> Run:
    events = [{"at": f"{a!r} s", "what": w, "lasts": f"{t!r} s"} for a, w, t in schedule]
    return simulate(
        failing(
            *events,
            deployments={
                "d": {
                    "model": "llama-3.1-8b",
                    "replicas": 12,
                    "router": "round-robin",
                    "engine": {"max_num_seqs": 8, "gpu_memory_utilization": 0.2207},
                }
            },
            workload={
                "w": {
                    "deployment": "d",
                    "arrivals": {"process": "poisson", "rate": "40 /s"},
                    "lengths": {"prompt": 200, "output": {"uniform": {"low": 1, "high": 90}}},
                    "timeout": "30 s",
                }
            },
        ),
        debug=debug,
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(SCHEDULES)
def test_whatever_fails_requests_time_and_energy_are_conserved(
    schedule: list[tuple[float, str, float]],
) -> None:
    run = conserving(schedule, debug=True)
    summary, requests = run.summary, run.requests
    outcomes = requests["outcome"].value_counts()
    assert requests["request_id"].tolist() == list(range(len(requests)))
    assert outcomes.sum() == len(requests) == summary["requests_arrived"]
    assert sum(summary["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)
    assert min(summary["time_lost"].values()) >= 0.0
    parts = sum(summary["energy_mwh"].values())
    assert parts == pytest.approx(summary["power_mw"]["grid"] / 60.0, rel=1e-9)
    little = summary["littles_law"]
    assert little["requests_in_system"] == pytest.approx(
        little["arrival_rate_per_s"] * little["time_in_system_s"], rel=1e-6
    )
    done = requests[requests["outcome"] == "completed"]
    assert (done["ttft_ms"] <= done["e2e_ms"]).all()
    again = conserving(schedule, debug=False)
    assert again.requests.equals(requests)
    assert again.timeseries.equals(run.timeseries)


def test_random_failures_come_as_often_as_the_catalogue_says() -> None:
    scenario = site_of(
        duration="200 s",
        workload={
            "w": {
                "deployment": "d",
                "arrivals": {"process": "poisson", "rate": "1 /s"},
                "lengths": {"prompt": 10, "output": 2},
            }
        },
        failures={"chance": {"kinds": ["gpu"], "times": 4e6}},
    )
    run = simulate(scenario)
    expected = 64 * 4e6 * 200.0 / (9.1 * 365.25 * 86400)
    assert run.summary["outages"]["gpu"]["failures"] == pytest.approx(
        expected, abs=4 * np.sqrt(expected)
    )
    assert 0.0 < run.summary["availability"] < 1.0
    assert simulate(scenario).requests.equals(run.requests)


def test_a_spare_takes_over_sooner_than_a_repair() -> None:
    def availability(**more: Any) -> float:
        chance = {"chance": {"kinds": ["gpu"], "times": 3e5}} | more
        run = simulate(site_of(duration="20 min", failures=chance, workload=LITTLE))
        found: float = run.summary["availability"]
        return found

    none, few = availability(), availability(spares={"servers": 20, "takeover": "1 min"})
    assert none < few < availability(spares={"servers": 200, "takeover": "1 min"})


def test_a_spare_stands_in_and_what_it_replaced_stands_by_after_it() -> None:
    env, log = Timetable(), []
    outages: Any = SimpleNamespace(mend=lambda unit: log.append((unit, env.now)))
    shelf = Shelf(Container(env, 1, 1), 5.0)
    for start_s, unit in ((0.0, "a"), (10.0, "b"), (120.0, "c")):

        def fail(_: int, unit: Any = unit) -> None:
            env.process(repaired(env, outages, unit, 100.0, shelf))

        env.call(start_s, CONTROL, fail)
    env.run()
    # The spare is out when b fails; a, mended at 100, stands by for c.
    assert log == [("a", 5.0), ("b", 110.0), ("c", 125.0)]


LITTLE = {
    "w": {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "1 /s"},
        "lengths": {"prompt": 10, "output": 2},
    }
}


def test_everything_of_a_site_has_a_name() -> None:
    layout = lay_out(site_of(site=building(power_chain={"kind": "2n", "pdu": {"racks": 1}})))
    names = domains(layout, 8)
    assert [name for name in names if "/" not in name] == [
        *("rack-0", "rack-1", "pdu-0", "pdu-1", "ups-0", "transformer-0"),
        *("plant", "storage", "feed"),
    ]
    assert sorted(names["rack-1/server-0/gpu-3"].gpus) == [35]
    assert len(names["rack-1/server-2/nic"].gpus) == 8


def test_what_would_have_no_effect_is_refused() -> None:
    with pytest.raises(InputError, match="spares stand in for GPUs and servers"):
        site_of(failures={"chance": {"kinds": ["feed"]}, "spares": {"servers": 2}})
    with pytest.raises(InputError, match=r"failures.chance.kinds: "):
        site_of(failures={"chance": {"kinds": []}})


def test_what_the_site_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="this site has no 'rack-7'; it has, for example, rack-"):
        simulate(failing({"at": "1 s", "what": "rack-7"}))
    with pytest.raises(InputError, match="failures: a rack that stands for many cannot fail"):
        simulate(
            failing(
                {"at": "1 s", "what": "rack-0"},
                racks=[{"system": "dgx-h100", "count": 4}],
                deployments={
                    "d": {"model": "llama-3.1-8b", "replicas": {"simulate": 32}},
                },
            )
        )


def test_littles_law_counts_those_who_were_lost_and_then_refused() -> None:
    """Of two replicas with short queues one fails: the other cannot take all that it had."""
    schedule = {"at": "5 s", "what": "rack-0/server-0/gpu-0"}
    engine = {"max_num_seqs": 4, "max_queue": 3}
    small = small_scenario(replicas=2, engine=engine, rate="100 /s").model_dump(exclude_none=True)
    run = simulate(validate(Scenario, small | {"failures": {"schedule": [schedule]}}))
    refused = run.requests[run.requests["outcome"] == "rejected"]
    assert (refused["retries"] > 0).any()
    assert (refused["retries"] == 0).any()
    law = run.summary["littles_law"]
    inside = law["arrival_rate_per_s"] * law["time_in_system_s"]
    assert inside == pytest.approx(law["requests_in_system"], rel=1e-9)


def test_a_replica_over_two_servers_stops_with_either() -> None:
    """Eight stages of 2 GPUs on the first two of four servers, and as many on the others."""
    spread = {"model": "llama-3.1-8b", "replicas": 2, "parallelism": {"tp": 2, "pp": 8}}
    log = up_and_down(
        failing(
            {"at": "10 s", "what": "rack-0/server-1/gpu-7", "lasts": "5 s"},
            {"at": "12 s", "what": "rack-0/server-2", "lasts": "5 s"},
            deployments={"d": spread},
        ),
        20.0,
    )
    assert log == [(10.0, 0, "down"), (12.0, 1, "down"), (15.0, 0, "loading"), (17.0, 1, "loading")]
    # Embedding, head and layers once, over the road of both servers: 16.06 GB at 2 * 8 GB/s.
    up = up_and_down(
        failing(
            {"at": "10 s", "what": "rack-0/server-1/gpu-7", "lasts": "5 s"},
            deployments={"d": spread},
        ),
        110.0,
    )
    assert up[-1] == (106.0, 0, "up")
