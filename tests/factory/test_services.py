"""Services and regions through the front door: who answers, what users see, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from factory_sim.errors import InputError
from factory_sim.factory.build import Factory
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.physics.delivery import EVENT_BYTES
from factory_sim.report.layout import rendered
from factory_sim.report.summary import lines
from factory_sim.report.trips import regions, services
from factory_sim.scenario.scenario import Scenario

LATENCIES = ["ttft_ms", "tpot_ms", "e2e_ms"]
SHORT = {
    "prompt": {"uniform": {"low": 50, "high": 800}},
    "output": {"uniform": {"low": 2, "high": 80}},
}


def given(
    workload: dict[str, Any] | None = None,
    deployments: dict[str, dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a site of two unlike deployments, `a` and `b`, and a workload that asks `s`."""
    return {
        "name": "services",
        "seed": 5,
        "duration": "30 s",
        "site": {"grid_limit": "100 kW", "pue": 1.2},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
        "deployments": {
            "a": {"model": "llama-3.1-8b", "replicas": 1},
            "b": {"model": "llama-3.1-8b", "precision": "fp8", "replicas": 1},
        }
        | (deployments or {}),
        "workload": {
            "w": {
                "deployment": "s",
                "arrivals": {"process": "poisson", "rate": "20 /s"},
                "lengths": SHORT,
                **(workload or {}),
            }
        },
        **more,
    }


def run(policy: dict[str, Any] | None = None, debug: bool = False, **more: Any) -> Run:
    if policy is not None:
        more["services"] = {"s": {"deployments": ["a", "b"], **policy}}
    return simulate(validate(Scenario, given(**more)), debug=debug)


def everyone_once(result: Run) -> pd.DataFrame:
    """Return the requests, having seen that each is there once and nobody was lost."""
    table = result.requests
    assert table["request_id"].tolist() == list(range(len(table)))
    assert result.summary["requests_arrived"] == len(table)
    found: dict[str, Any] = result.summary["services"]["s"]["deployments"]
    assert sum(part["asked"] for part in found.values()) == table["deployments_asked"].sum()
    for name, part in found.items():
        done = (table["deployment"] == name) & (table["outcome"] == "completed")
        assert part["answered"] == done.sum()
    return table


def made(result: Run) -> float:
    """Return the output tokens that engines made while requests arrived."""
    return float(result.summary["output_tokens_per_s"]) * 30.0


# -- services --------------------------------------------------------------------------


def test_a_cascade_makes_the_tokens_of_both_and_counts_one_answer() -> None:
    enough = {"arrivals": {"process": "poisson", "rate": "20 /s", "requests": 400}}
    result = run({"policy": "cascade", "escalate": "30 %"}, debug=True, workload=enough)
    table = everyone_once(result)
    on = int((table["deployment"] == "b").sum())
    assert chisquare([on, len(table) - on], [0.3 * len(table), 0.7 * len(table)]).pvalue > 0.01
    assert (table["deployments_asked"] == np.where(table["deployment"] == "b", 2, 1)).all()
    # The second answer is as long as the first: it is the same request.
    assert (
        table["earlier_tokens"]
        == np.where(table["deployment"] == "b", 1, 0) * table["output_tokens"]
    ).all()
    tokens = float((table["output_tokens"] + table["earlier_tokens"]).sum())
    assert made(result) == pytest.approx(tokens)
    own = result.summary["services"]["s"]
    assert own["requests_sent_on"] == on
    assert own["output_tokens_made_per_answer"] == pytest.approx(tokens / len(table))


def test_the_second_answer_is_to_the_same_question() -> None:
    sees = {"model": "qwen3-vl-8b", "replicas": 1}
    asks = {
        "reasoning": {"share": "60 %", "tokens": 90},
        "images": {"share": "50 %", "count": 2, "tokens": 256},
    }
    once, twice = (
        run(
            {"policy": "cascade", "escalate": [share]},
            workload=asks,
            deployments={"a": sees, "b": sees},
        ).requests
        for share in (1e-9, 1.0)
    )
    same = ["prompt_tokens", "images", "reasoning_tokens", "output_tokens"]
    assert twice[same].equals(once[same])
    assert (once["reasoning_tokens"] > 0).any() and (once["images"] > 0).any()
    assert (twice["deployment"] == "b").all()


def test_what_an_answer_took_counts_those_that_did_not_do() -> None:
    asks = {"reasoning": {"share": "100 %", "tokens": 90}}
    both = run({"policy": "cascade", "escalate": [1.0]}, workload=asks).summary
    answer, each = both["per_answer"], both["energy_per_output_token_j"]
    assert answer["energy_j"] == pytest.approx(2.0 * answer["output_tokens"] * each)


def test_an_escalated_request_waits_for_the_whole_first_answer() -> None:
    never, always = (run({"policy": "cascade", "escalate": [p]}) for p in (1e-9, 1.0))
    first, both = never.requests, always.requests
    # Deployment a does the same in both, and b begins as the answer is there.
    assert (both["ttft_ms"] > first["e2e_ms"]).all()
    assert (both["admitted_s"] >= first["arrival_s"] + first["e2e_ms"] / 1e3 - 1e-9).all()


def test_with_every_answer_escalated_energy_of_an_answer_is_that_of_both_models() -> None:
    one, both = (
        run(
            {"policy": "cascade", "escalate": [p]},
            workload={"arrivals": {"process": "closed", "concurrency": 24}},
        ).summary["services"]["s"]
        for p in (1e-9, 1.0)
    )
    assert both["output_tokens_made_per_answer"] == pytest.approx(
        2 * one["output_tokens_made_per_answer"], rel=0.05
    )
    assert both["gpu_seconds_per_answer"] > 1.8 * one["gpu_seconds_per_answer"]
    assert both["gpu_energy_per_answer_j"] > 1.2 * one["gpu_energy_per_answer_j"]


def test_who_is_sent_on_reasons_and_brings_its_images_again() -> None:
    """The deployment asked last encodes the images as the first did, and reasons as long."""
    sees = {"model": "qwen3-vl-8b", "replicas": 1}
    alone, both = (
        run(
            {"policy": "cascade", "escalate": [share]},
            deployments={"a": sees, "b": sees},
            workload={
                "arrivals": {"process": "closed", "concurrency": 1, "requests": 1},
                "lengths": {"prompt": 100, "output": 20},
                "reasoning": {"tokens": 80},
                "images": {"count": 4, "tokens": 1024},
            },
        ).requests.iloc[0]
        for share in (1e-9, 1.0)
    )
    assert (both["deployment"], both["images"], both["reasoning_tokens"]) == ("b", 4, 80)
    for name in ("ttft_ms", "ttfo_ms", "e2e_ms"):
        assert both[name] == pytest.approx(alone["e2e_ms"] + alone[name], rel=1e-9)


def test_what_a_cache_held_is_not_found_where_there_is_none() -> None:
    """Every turn after the first is found at `a`, and computed whole at `b`."""
    result = run(
        {"policy": "cascade", "escalate": "100 %"},
        deployments={
            "b": {
                "model": "llama-3.1-8b",
                "replicas": 1,
                "engine": {"prefix_caching": False},
            }
        },
        workload={
            "arrivals": {"process": "closed", "concurrency": 2},
            "lengths": {"prompt": 400, "output": 20},
            "sessions": {"turns": 4, "think_time": "100 ms"},
        },
    )
    table = everyone_once(result)
    assert set(table["deployment"]) == {"b"}
    assert set(table["cached_tokens"]) == {0}


@pytest.mark.parametrize("load", ["open", "closed"])
def test_an_answer_stands_where_the_next_deployment_refuses(load: str) -> None:
    full = {"model": "llama-3.1-8b", "replicas": 1, "engine": {"max_num_seqs": 1, "max_queue": 1}}
    one = {"process": "closed", "concurrency": 12}
    ask: dict[str, Any] = {"round_trip": "60 ms"} | ({"arrivals": one} if load == "closed" else {})
    result, never = (
        run({"policy": "cascade", "escalate": [p]}, True, workload=ask, deployments={"b": full})
        for p in (1.0, 1e-9)
    )
    table = everyone_once(result)
    assert (table["outcome"] == "completed").all()  # nobody is left without an answer
    kept = table["escalation_refused"]
    assert 0.2 < kept.mean() < 0.99
    assert (table["deployment"] == np.where(kept, "a", "b")).all()
    assert set(table["deployments_asked"]) == {2}
    assert (table["earlier_tokens"] == np.where(kept, 0, table["output_tokens"])).all()
    assert made(result) <= (table["output_tokens"] + table["earlier_tokens"]).sum()
    own = result.summary["services"]["s"]
    assert own["escalations_refused"] == kept.sum()
    assert any("answer so far stands" in line for line in rendered(services(result.summary)))
    assert not never.requests["escalation_refused"].any()
    assert "escalations_refused" not in never.summary["services"]["s"]
    if load == "closed":  # who asks next depends on who is answered
        return
    # The tokens that stand were seen as they were made; the refusal comes a whole trip later.
    first = never.requests
    assert table.loc[kept, "ttft_ms"].to_numpy() == pytest.approx(first.loc[kept, "ttft_ms"])
    later_ms = (table["e2e_ms"] - first["e2e_ms"])[kept].to_numpy()
    host_ms = later_ms[0] - 60.0
    assert later_ms == pytest.approx(60.0 + host_ms)
    assert 0.0 <= host_ms < 20.0


def test_of_three_stages_the_second_answer_stands_and_a_late_one_is_none() -> None:
    each = {"model": "llama-3.1-8b", "replicas": 1}
    never = each | {"engine": {"max_num_batched_tokens": 256, "max_num_seqs": 4, "max_queue": 1}}
    three = {"policy": "cascade", "deployments": ["a", "b", "c"], "escalate": 1.0}
    more: dict[str, Any] = {
        "deployments": {"c": never},
        "services": {"s": three},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
    }
    rush = {"arrivals": {"process": "offline", "requests": 40}}
    table = simulate(validate(Scenario, given(workload=rush, **more)), debug=True).requests
    kept = table["escalation_refused"]
    assert kept.any()
    assert set(table.loc[kept, "deployment"]) == {"b"}
    assert set(table["deployments_asked"]) == {3}
    tokens = table.loc[kept, "output_tokens"]
    assert (table.loc[kept, "earlier_tokens"] == tokens).all()  # those of `a` alone
    # Whoever has gone before it is known that an answer stands has none.
    far = rush | {"round_trip": "2 s"}
    patient = simulate(validate(Scenario, given(workload=far, **more))).requests
    known_s = patient.loc[patient["escalation_refused"], "e2e_ms"].min() / 1e3
    gone = far | {"timeout": f"{known_s - 0.1} s"}
    hasty = simulate(validate(Scenario, given(workload=gone, **more)), debug=True).requests
    assert set(hasty["outcome"]) == {"timed_out"}


def test_fallback_sends_on_what_a_full_queue_refuses() -> None:
    small = {"model": "llama-3.1-8b", "replicas": 1, "engine": {"max_num_seqs": 2, "max_queue": 1}}
    alone = run(workload={"deployment": "a"}, deployments={"a": small})
    assert alone.summary["requests_rejected"] > 50
    result = run({"policy": "fallback"}, debug=True, deployments={"a": small})
    table = everyone_once(result)
    assert (table["outcome"] == "completed").all()
    assert (table["deployments_asked"] == np.where(table["deployment"] == "a", 1, 2)).all()
    # Deployment a serves those whom it would serve alone: whom it refuses it never sees again.
    served = alone.requests[alone.requests["outcome"] == "completed"]
    assert table.index[table["deployment"] == "a"].tolist() == served.index.tolist()
    pd.testing.assert_frame_equal(table.loc[served.index, LATENCIES], served[LATENCIES], rtol=1e-9)


def test_fallback_asks_the_next_where_the_first_has_enough() -> None:
    result = run({"policy": "fallback", "outstanding": 3})
    table = everyone_once(result)
    assert set(table["deployments_asked"]) == {1}
    here = table[table["deployment"] == "a"]
    ends = here["arrival_s"] + here["e2e_ms"] / 1e3
    at_once = [((here["arrival_s"] <= t) & (ends > t)).sum() for t in here["arrival_s"]]
    assert max(at_once) == 3
    assert len(here) < len(table)


def test_patience_moves_who_waits_too_long_and_no_longer() -> None:
    slow = {"model": "llama-3.1-8b", "replicas": 1, "engine": {"max_num_seqs": 2}}
    table = everyone_once(run({"policy": "fallback", "patience": "1 s"}, deployments={"a": slow}))
    assert (table["outcome"] == "completed").all()
    moved = table["deployment"] == "b"
    assert 0.1 < moved.mean() < 0.95
    assert (table.loc[moved, "e2e_ms"] > 1000).all()
    assert (table.loc[~moved, "e2e_ms"] < 1020).all()  # a step later


def test_a_client_that_has_given_up_is_not_sent_on() -> None:
    slow = {"model": "llama-3.1-8b", "replicas": 1, "engine": {"max_num_seqs": 1}}
    table = everyone_once(
        run(
            {"policy": "fallback"},
            workload={"timeout": "2 s"},
            deployments={"a": slow},
        )
    )
    assert (table["outcome"] == "timed_out").any()
    assert set(table["deployments_asked"]) == {1}


def test_requests_go_elsewhere_while_a_deployment_is_down() -> None:
    down = {"schedule": [{"what": "rack-0/server-0/gpu-0", "at": "5 s", "lasts": "10 s"}]}
    result = run({"policy": "fallback"}, failures=down)
    table = everyone_once(result)
    assert (table["outcome"] == "completed").all()
    during = table["arrival_s"].between(5.0, 15.0)
    assert set(table.loc[during & (table["arrival_s"] > 5.001), "deployment"]) == {"b"}
    assert set(table.loc[table["arrival_s"] < 4.0, "deployment"]) == {"a"}


@pytest.mark.parametrize(
    "policy", [{"policy": "fallback"}, {"policy": "least-outstanding"}], ids=lambda p: p["policy"]
)
def test_a_deployment_scaled_to_zero_is_woken_by_one_request(policy: dict[str, Any]) -> None:
    scaled = {"policy": "reactive", "outstanding": 4, "min": 0}
    asleep = {"model": "llama-3.1-8b", "replicas": 2, "autoscaling": scaled}
    calm = {"process": "poisson", "rate": "8 /s"}
    result = run(policy, duration="150 s", deployments={"a": asleep}, workload={"arrivals": calm})
    table = everyone_once(result)
    up_s = (table["arrival_s"] + table["ttft_ms"] / 1e3)[0]
    assert 60.0 < up_s < 120.0  # the weights, and the engine's start
    early = table["arrival_s"] < up_s - 10.0
    assert table.loc[early, "deployment"].tolist() == ["a"] + ["b"] * (early.sum() - 1)
    late = table.loc[table["arrival_s"] > up_s, "deployment"]
    assert (late == "a").mean() > (0.9 if policy["policy"] == "fallback" else 0.3)


def test_who_wakes_a_deployment_need_not_wait_for_it_with_patience() -> None:
    scaled = {"policy": "reactive", "outstanding": 4, "min": 0}
    asleep = {"model": "llama-3.1-8b", "replicas": 2, "autoscaling": scaled}
    calm = {"process": "poisson", "rate": "4 /s"}
    policy = {"policy": "fallback", "patience": "3 s"}
    result = run(policy, duration="150 s", deployments={"a": asleep}, workload={"arrivals": calm})
    table = everyone_once(result)
    first = table.iloc[0]
    assert (first["deployment"], first["deployments_asked"]) == ("b", 2)
    assert 3000.0 < first["ttft_ms"] < 3500.0
    assert (table["outcome"] == "completed").all()
    assert table["ttft_ms"].max() < 3500.0
    late = table.loc[table["arrival_s"] > 120.0, "deployment"]
    assert (late == "a").mean() > 0.9


def test_classes_are_routed_and_unlike_deployments_share_by_weight() -> None:
    both = {
        name: {
            "deployment": "s",
            "arrivals": {"process": "poisson", "rate": "10 /s"},
            "lengths": SHORT,
        }
        for name in ("easy", "hard")
    }
    base = given(services={"s": {"deployments": ["a", "b"], "policy": "by-class"}})
    base["workload"] = both
    base["services"]["s"]["routes"] = {"easy": "a", "hard": "b"}
    table = simulate(validate(Scenario, base)).requests
    assert (table["deployment"] == table["workload"].map({"easy": "a", "hard": "b"})).all()
    shared = everyone_once(run({"policy": "weighted", "weights": {"a": 1, "b": 3}}))
    counts = shared["deployment"].value_counts()
    assert (
        chisquare([counts["a"], counts["b"]], [len(shared) / 4, 3 * len(shared) / 4]).pvalue > 0.01
    )


def test_a_class_comes_to_no_other_deployment_than_its_route_says() -> None:
    """Images go to the model that sees, and nobody need say how far the other one is."""
    base = given(
        deployments={"b": {"model": "qwen3-vl-8b", "replicas": 1}},
        services={
            "s": {"deployments": ["a", "b"], "policy": "by-class", "routes": {"t": "a", "v": "b"}}
        },
        regions={"x": {"round_trip": {"a": "9 ms"}}, "y": {"round_trip": {"b": "50 ms"}}},
    )
    text = base["workload"].pop("w")
    seen = text | {"images": {"count": 1, "tokens": 256}, "regions": {"y": 1}}
    base["workload"] = {"t": text | {"regions": {"x": 1}}, "v": seen}
    result = simulate(validate(Scenario, base), debug=True)
    table = everyone_once(result)
    sent = table["workload"].value_counts()
    found = result.summary["services"]["s"]["deployments"]
    assert {name: part["asked"] for name, part in found.items()} == {"a": sent["t"], "b": sent["v"]}
    assert (table.loc[table["workload"] == "v", "images"] == 1).all()


def test_who_has_no_promise_of_its_class_has_that_of_whoever_answers() -> None:
    priced = {"classes": {"c": {"price": {"input": "1 USD/Mtoken", "output": "2 USD/Mtoken"}}}}
    slack = {"model": "llama-3.1-8b", "replicas": 1, "slo": {"ttft": "10 s"}}
    strict = slack | {"slo": {"ttft": "1 us", "percentile": 90}}
    both = {"deployments": {"a": slack, "b": strict}}
    share = {"policy": "weighted", "weights": {"a": 1, "b": 1}}
    plain = run(share, **both)
    classed = run(share, **both, **priced, workload={"class": "c"})
    for result in (plain, classed):
        table = result.requests
        assert (table["slo_met"] == (table["deployment"] == "a")).all()
        assert result.summary["slo"] == {"met": False}
        assert result.summary["deployments"]["a"]["slo"]["met"]
        assert result.summary["deployments"]["b"]["slo"]["percentile"] == 90
    goodput = "goodput_requests_per_s"
    assert classed.summary[goodput] == plain.summary[goodput] > 0.0


def test_a_service_changes_nothing_of_what_is_asked() -> None:
    alone = run(workload={"deployment": "a"}).requests
    table = run({"policy": "weighted", "weights": {"a": 1, "b": 1}}).requests
    asked = ["arrival_s", "prompt_tokens", "output_tokens"]
    pd.testing.assert_frame_equal(alone[asked], table[asked])


def test_requests_still_on_their_way_are_counted_once() -> None:
    result = run(
        {"policy": "cascade", "escalate": "50 %"}, workload={"round_trip": "3 s"}, drain="0 s"
    )
    table = everyone_once(result)
    late = table["outcome"] == "unfinished"
    assert (table.loc[table["arrival_s"] > 29, "outcome"] == "unfinished").all()
    assert set(table.loc[late, "deployments_asked"]) == {1, 2}


def test_the_same_seed_gives_the_same_tables() -> None:
    far = {"far": {"round_trip": "80 ms", "jitter": "20 ms", "loss": "2 %"}}
    one, two = (run({"policy": "cascade", "escalate": "30 %"}, regions=far) for _ in range(2))
    pd.testing.assert_frame_equal(one.requests, two.requests)
    assert one.summary == two.summary


def test_without_services_and_regions_requests_go_straight_to_the_gateway() -> None:
    factory = Factory(lay_out(validate(Scenario, given(workload={"deployment": "a"}))))
    assert factory.doors == {}
    assert isinstance(factory.streams[0].gateway, Gateway)


# -- regions ---------------------------------------------------------------------------

LOADS: dict[str, dict[str, Any]] = {
    "open": {},
    "closed": {"arrivals": {"process": "closed", "concurrency": 7, "think_time": "200 ms"}},
    "sessions": {
        "arrivals": {"process": "poisson", "rate": "3 /s"},
        "lengths": {"prompt": 60, "output": 20},
        "sessions": {"turns": 4, "think_time": "1 s"},
    },
    "given up": {"timeout": "300 ms"},
}


@pytest.mark.parametrize("load", LOADS)
def test_a_round_trip_is_a_region_that_all_come_from(load: str) -> None:
    plain = run(workload={"deployment": "a", "round_trip": "90 ms", **LOADS[load]})
    region = run(
        workload={"deployment": "a", **LOADS[load]}, regions={"all": {"round_trip": "90 ms"}}
    )
    columns = [*LATENCIES, "arrival_s", "admitted_s", "prompt_tokens", "output_tokens"]
    pd.testing.assert_frame_equal(
        plain.requests[columns], region.requests[columns], rtol=1e-9, atol=1e-6
    )
    assert plain.requests["outcome"].tolist() == region.requests["outcome"].tolist()
    assert region.summary.get("sessions", {}).get("completed") == plain.summary.get(
        "sessions", {}
    ).get("completed")


def test_users_come_from_their_regions_and_sessions_stay() -> None:
    shares = {"x": {"share": 5, "round_trip": "0 s"}, "y": {"share": 3, "round_trip": "50 ms"}}
    table = run(workload={"deployment": "a"}, regions=shares).requests
    counts = table["region"].value_counts()
    expected = [len(table) * 5 / 8, len(table) * 3 / 8]
    assert chisquare([counts["x"], counts["y"]], expected).pvalue > 0.01
    own = run(workload={"deployment": "a", "regions": {"x": 1, "y": 9}}, regions=shares).requests
    assert (own["region"] == "y").mean() == pytest.approx(0.9, abs=0.04)
    talks = run(workload={"deployment": "a", **LOADS["sessions"]}, regions=shares).requests
    assert (talks.groupby("session")["region"].nunique() == 1).all()
    assert talks["region"].nunique() == 2


def test_what_the_server_sees_and_what_users_see_differ_by_the_way() -> None:
    far = {"far": {"round_trip": "120 ms"}}
    result = run(workload={"deployment": "a"}, regions=far)
    table = result.requests
    host_ms = (table["ttft_ms"] - table["server_ttft_ms"] - 120.0).to_numpy()
    assert host_ms == pytest.approx(host_ms[0]) and 0.0 <= host_ms[0] < 20.0
    assert table["tpot_ms"].to_numpy() == pytest.approx(
        table["server_tpot_ms"].to_numpy(), nan_ok=True
    )
    seen = result.summary["regions"]["far"]
    assert seen["e2e_ms"]["mean"] == pytest.approx(
        seen["server_e2e_ms"]["mean"] + 120.0 + host_ms[0]
    )


def test_a_narrow_last_mile_sets_the_pace() -> None:
    narrow = {"narrow": {"round_trip": "40 ms", "last_mile": "64 kbit/s"}}
    table = run(workload={"deployment": "a"}, regions=narrow).requests
    assert (table["server_tpot_ms"].dropna() < 30).all()
    several = table["output_tokens"] > 1
    assert table.loc[several, "tpot_ms"].to_numpy() == pytest.approx(EVENT_BYTES / 8000 * 1e3)


def test_losses_stall_answers_for_a_round_trip_and_not_for_good() -> None:
    lossy = {"lossy": {"round_trip": "100 ms", "loss": "1 %"}}
    table = run(
        workload={"deployment": "a", "lengths": {"prompt": 50, "output": 400}}, regions=lossy
    ).requests
    stalled = table["longest_gap_ms"] > 100.0
    assert stalled.mean() == pytest.approx(1 - 0.99**400, abs=0.03)
    # A loss near the end may hold it up; one before it is made good again.
    added_ms = table["e2e_ms"] - table["server_e2e_ms"]
    assert added_ms.median() == pytest.approx(100.0, abs=10.0)


def test_clients_of_a_closed_loop_wait_until_the_answer_is_there() -> None:
    narrow = {"narrow": {"round_trip": "200 ms", "last_mile": "64 kbit/s"}}
    result = run(
        workload={
            "deployment": "a",
            "arrivals": {"process": "closed", "concurrency": 1},
            "lengths": {"prompt": 50, "output": 40},
        },
        regions=narrow,
    )
    each_s = result.requests["e2e_ms"].mean() / 1e3
    assert each_s > 40 * EVENT_BYTES / 8000
    assert np.diff(result.requests["arrival_s"]) == pytest.approx(each_s, rel=1e-6)


@pytest.mark.parametrize("load", ["open", "closed", "sessions"])
def test_an_answer_that_comes_after_its_client_has_gone_is_timed_out(load: str) -> None:
    """Of 30 tokens, 300 bytes each: the server has them soon, users take 1.1 s to see the last."""
    ask = {"deployment": "a", "timeout": "1 s"} | LOADS[load]
    if load == "sessions":
        ask["sessions"] = {"turns": 3, "think_time": "100 ms"}
    ask["lengths"] = {"prompt": 50, "output": 30}
    slow = {"narrow": {"round_trip": "20 ms", "last_mile": "64 kbit/s"}}
    result = run(workload=ask, regions=slow)
    assert set(result.requests["outcome"]) == {"timed_out"}
    assert result.requests["e2e_ms"].isna().all()
    assert result.summary["requests_completed"] == 0
    if load == "closed":  # they ask again when they give up
        assert len(result.requests) == pytest.approx(7 * 30 / 1.2, abs=7)
    if load == "sessions":
        assert result.summary["sessions"]["failed"] == result.summary["sessions"]["started"]
    far = run(workload=ask | {"timeout": "500 ms", "round_trip": "900 ms"})
    assert set(far.requests["outcome"]) == {"timed_out"}


def test_nearest_looks_at_the_region_and_answers_cross_its_round_trip() -> None:
    where = {
        "x": {"round_trip": {"a": "10 ms", "b": "300 ms"}},
        "y": {"round_trip": {"a": "300 ms", "b": "20 ms"}},
    }
    table = everyone_once(run({"policy": "nearest"}, regions=where))
    assert (table["deployment"] == table["region"].map({"x": "a", "y": "b"})).all()
    way_ms = table["ttft_ms"] - table["server_ttft_ms"]
    assert (way_ms < 40).all()


def test_deadlines_leave_time_for_the_way_back() -> None:
    base = given(
        workload={"deployment": "a", "class": "gold"},
        deployments={
            "a": {
                "model": "llama-3.1-8b",
                "replicas": 1,
                "engine": {"max_num_seqs": 1, "scheduling": {"policy": "edf", "refuse_late": True}},
            }
        },
        classes={"gold": {"slo": {"ttft": "500 ms"}}},
    )
    near, far = (
        simulate(validate(Scenario, base | {"regions": {"r": {"round_trip": trip}}})).summary
        for trip in ("0 s", "600 ms")
    )
    # Nobody can be answered in time from so far away, and all are turned away.
    assert near["requests_completed"] > 0
    assert far["requests_completed"] == 0


def test_a_promise_to_nobody_is_not_said_to_be_kept() -> None:
    promised = {"model": "llama-3.1-8b", "replicas": 1, "slo": {"ttft": "2 s"}}
    result = run({"policy": "fallback"}, deployments={"a": promised, "b": promised})
    assert set(result.requests["deployment"]) == {"a"}
    text = "\n".join(lines("services", result.summary, result.record))
    assert "a: time to first token" in text and "b: time to first token" not in text


def test_the_terminal_tells_of_services_and_regions() -> None:
    far = {"far": {"round_trip": "80 ms", "loss": "2 %"}, "near": {"round_trip": "5 ms"}}
    result = run({"policy": "cascade", "escalate": "30 %"}, regions=far)
    text = "\n".join(rendered([*services(result.summary), *regions(result.summary)]))
    counts = result.summary["services"]["s"]["deployments"]["a"]
    assert f"{counts['asked']:,}" in text and f"{counts['answered']:,}" in text
    assert "GPU-seconds" in text and "far" in text and "near" in text
    assert not list(services({})) and not list(regions({}))


# -- what is refused -------------------------------------------------------------------

CASCADE = {"policy": "cascade", "deployments": ["a", "b"], "escalate": "30 %"}


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        (
            {"services": {"a": CASCADE}, "workload": {"deployment": "a"}},
            "services.a",
            "a deployment has the same name",
        ),
        ({"services": {"s": CASCADE, "t": CASCADE}}, "services.t", "no workload names it"),
        (
            {"services": {"s": {**CASCADE, "deployments": ["a", "c"]}}},
            "services.s.deployments",
            "there is no deployment 'c'; known: a, b",
        ),
        (
            {"services": {"s": {**CASCADE, "deployments": ["a"]}}},
            "services.s",
            "two deployments at least",
        ),
        ({"services": {"s": {**CASCADE, "deployments": ["a", "a"]}}}, "services.s", "'a' twice"),
        ({"services": {"s": {**CASCADE, "escalate": "0 %"}}}, "services.s", "ever escalated"),
        (
            {"services": {"s": {**CASCADE, "escalate": ["1 %", "2 %"]}}},
            "services.s",
            "one for each of the 1 deployments",
        ),
        (
            {
                "services": {
                    "s": {"policy": "fallback", "deployments": ["a", "b"], "patience": "9 s"}
                },
                "workload": {"timeout": "9 s"},
            },
            "services.s.patience",
            "the longest timeout of its workloads is 9 s",
        ),
        (
            {
                "services": {
                    "s": {
                        "policy": "least-outstanding",
                        "deployments": ["a", "b"],
                        "weights": {"a": 2, "b": 2},
                    }
                }
            },
            "services.s",
            "weights are all the same, as they are without",
        ),
        (
            {"services": {"s": {**CASCADE, "outstanding": 3}}},
            "services.s.outstanding",
            "unknown key",
        ),
        (
            {"services": {"s": {"policy": "best", "deployments": ["a", "b"]}}},
            "services.s.policy",
            "must be one of 'fallback'",
        ),
        (
            {
                "services": {
                    "s": {"policy": "weighted", "deployments": ["a", "b"], "weights": {"a": 1}}
                }
            },
            "services.s",
            "weights must name each of a, b",
        ),
        (
            {
                "services": {
                    "s": {
                        "policy": "by-class",
                        "deployments": ["a", "b"],
                        "routes": {"x": "a", "y": "b"},
                    }
                }
            },
            "services.s.routes",
            "'w' sends to it and has no route",
        ),
        (
            {"services": {"s": {"policy": "nearest", "deployments": ["a", "b"]}}},
            "services.s.policy",
            "equally far",
        ),
        (
            {"services": {"s": {"policy": "cheapest", "deployments": ["a", "b"]}}},
            "services.s.policy",
            "it compares price, and a site says none",
        ),
        (
            {
                "services": {"s": {"policy": "cleanest", "deployments": ["a", "b"]}},
                "site": {"grid_limit": "100 kW", "pue": 1.2, "carbon": "300 g/kWh"},
            },
            "services.s.policy",
            "all its deployments are at one site",
        ),
        (
            {
                "services": {"s": CASCADE},
                "deployments": {"a": {"model": "llama-3.1-8b", "replicas": {"simulate": 1}}},
            },
            "deployments.a.replicas",
            "every replica is simulated",
        ),
        (
            {
                "services": {"s": CASCADE},
                "deployments": {
                    "a": {
                        "model": "llama-3.1-8b",
                        "replicas": 1,
                        "slo": {"ttft": "1 s"},
                        "engine": {"scheduling": {"policy": "edf", "refuse_late": True}},
                    }
                },
            },
            "deployments.a.engine.scheduling",
            "promised nothing that a deadline could be taken from",
        ),
        ({"workload": {"deployment": "a", "regions": {"x": 1}}}, "workload.w.regions", "no 'reg"),
        (
            {
                "workload": {"deployment": "a", "round_trip": "9 ms"},
                "regions": {"x": {"round_trip": "9 ms"}},
            },
            "workload.w.round_trip",
            "the regions say how far users are",
        ),
        (
            {
                "workload": {"deployment": "a", "regions": {"y": 1}},
                "regions": {"x": {"round_trip": "9 ms"}},
            },
            "workload.w.regions.y",
            "there is no such region; known: x",
        ),
        (
            {
                "workload": {"deployment": "a", "regions": {"y": 1}},
                "regions": {"x": {"round_trip": "9 ms"}, "y": {"round_trip": "9 ms"}},
            },
            "regions.x",
            "no workload comes from it",
        ),
        (
            {
                "workload": {"deployment": "a"},
                "regions": {name: {"round_trip": "9 ms", "share": 1e308} for name in ("x", "y")},
            },
            "regions.x.share",
            "must be less than or equal to 1000000000",
        ),
        (
            {"services": {"s": CASCADE}, "regions": {"x": {"round_trip": {"a": "9 ms"}}}},
            "regions.x.round_trip",
            "users from here may be sent to 'b'; add it",
        ),
        (
            {
                "workload": {"deployment": "a"},
                "regions": {"x": {"round_trip": {"a": "9 ms", "b": "9 ms"}}},
            },
            "regions.x.round_trip.b",
            "no user from here is ever sent there",
        ),
        (
            {"workload": {"deployment": "a"}, "regions": {"x": {"round_trip": 9}}},
            "regions.x.round_trip",
            "9 is a bare number; write for example '250 ms'",
        ),
        (
            {"workload": {"deployment": "a"}, "regions": {"x": {"round_trip": {"a": 9}}}},
            "regions.x.round_trip.a",
            "9 is a bare number",
        ),
        (
            {
                "workload": {"deployment": "a"},
                "regions": {"x": {"round_trip": "9 ms", "loss": "60 %"}},
            },
            "regions.x.loss",
            "must be less than 0.5",
        ),
    ],
)
def test_what_is_refused(changes: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(Scenario, given(**changes))
    found = [problem for problem in caught.value.problems if problem.path == path]
    assert found and any(says in problem.message for problem in found), caught.value.problems
