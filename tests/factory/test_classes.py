"""Classes and tenants through the front door: promises, prices, tables, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory_sim.errors import InputError
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.scenario.load import load, to_yaml
from factory_sim.scenario.scenario import Scenario

CLASSES: dict[str, Any] = {
    "gold": {
        "priority": 0,
        "slo": {"ttft": "400 ms", "percentile": 95},
        "price": {"input": "2 USD/Mtoken", "output": "8 USD/Mtoken"},
    },
    "bulk": {"priority": 3, "price": {"input": "0.1 USD/Mtoken", "output": "0.7 USD/Mtoken"}},
}


def workload(rate: float, **more: Any) -> dict[str, Any]:
    return {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": f"{rate} /s"},
        "lengths": {
            "prompt": {"uniform": {"low": 50, "high": 800}},
            "output": {"uniform": {"low": 5, "high": 80}},
        },
        **more,
    }


def scenario(
    engine: dict[str, Any] | None = None,
    classes: dict[str, Any] | None = None,
    workloads: dict[str, Any] | None = None,
    **deployment: Any,
) -> Scenario:
    """Return a site of one small replica that is asked for more than it can do."""
    given: dict[str, Any] = {
        "name": "tiers",
        "seed": 2,
        "duration": "40 s",
        "warmup": "5 s",
        "site": {"grid_limit": "100 kW", "pue": 1.2},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
        "deployments": {
            "d": {
                "model": "llama-3.1-8b",
                "replicas": 1,
                "engine": {"max_num_seqs": 8, **(engine or {})},
                **deployment,
            }
        },
        "classes": CLASSES if classes is None else classes,
        "workload": workloads
        or {"app": workload(8, **{"class": "gold"}), "night": workload(24, **{"class": "bulk"})},
    }
    if not given["classes"]:
        del given["classes"]
    return validate(Scenario, given)


def without_priorities(**changed: Any) -> dict[str, Any]:
    kept = {
        name: {key: value for key, value in tier.items() if key != "priority"}
        for name, tier in CLASSES.items()
    }
    return kept | changed


PRIORITY = {"scheduling": "priority"}


@pytest.fixture(scope="module")
def tiers() -> Run:
    return simulate(scenario(PRIORITY), debug=True)


@pytest.fixture(scope="module")
def first_come() -> Run:
    return simulate(scenario(classes=without_priorities()), debug=True)


def test_the_premium_class_keeps_its_promise_at_overload(tiers: Run, first_come: Run) -> None:
    gold, bulk = (tiers.summary["classes"][name] for name in ("gold", "bulk"))
    assert gold["slo"]["met"] and gold["ttft_ms"]["p99"] < 400
    assert bulk["ttft_ms"]["p50"] > 5 * gold["ttft_ms"]["p99"]
    alike = first_come.summary["classes"]
    assert not alike["gold"]["slo"]["met"]
    assert alike["gold"]["ttft_ms"]["p50"] == pytest.approx(
        alike["bulk"]["ttft_ms"]["p50"], rel=0.1
    )
    # Nobody is served more, only sooner.
    rates = [run.summary["output_tokens_per_s"] for run in (tiers, first_come)]
    assert rates[0] == pytest.approx(rates[1], rel=0.02)


def test_dollars_are_conserved(tiers: Run) -> None:
    classes = tiers.summary["classes"]
    total = sum(found["revenue_usd"] for found in classes.values())
    assert tiers.summary["revenue_usd"] == pytest.approx(total, rel=1e-12)
    paid = tiers.requests[tiers.requests["measured"] & (tiers.requests["outcome"] == "completed")]
    gold = paid[paid["class"] == "gold"]
    exact = 2e-6 * gold["prompt_tokens"].sum() + 8e-6 * gold["output_tokens"].sum()
    assert classes["gold"]["revenue_usd"] == pytest.approx(exact, rel=1e-12)
    assert tiers.summary["deployments"]["d"]["revenue_usd"] == tiers.summary["revenue_usd"]


def test_replicas_that_stand_for_others_earn_for_them() -> None:
    told = scenario(classes=without_priorities()).model_dump(mode="json", exclude_none=True)
    told["racks"][0]["count"], told["site"]["grid_limit"] = 2, "100 kW"
    told["deployments"]["d"]["replicas"] = {"simulate": 8}
    run = simulate(validate(Scenario, told))
    paid = run.requests[run.requests["measured"] & (run.requests["class"] == "bulk")]
    exact = 0.1e-6 * paid["prompt_tokens"].sum() + 0.7e-6 * paid["output_tokens"].sum()
    assert run.summary["classes"]["bulk"]["revenue_usd"] == pytest.approx(2 * exact, rel=1e-12)


def test_columns_and_keys_are_there_only_when_used(tiers: Run) -> None:
    assert "class" in tiers.requests and "tenant" not in tiers.requests
    one = {"app": workload(8)}
    plain = simulate(scenario(classes={}, workloads=one))
    assert "class" not in plain.requests and "tenant" not in plain.requests
    assert not {"classes", "tenants", "revenue_usd", "swapped_gb"} & set(plain.summary)


def test_one_promise_of_several_classes_is_the_deployments(tiers: Run) -> None:
    assert tiers.summary["deployments"]["d"]["slo"] == tiers.summary["classes"]["gold"]["slo"]
    other = {"slo": {"ttft": "1 ms"}}
    both = simulate(scenario(classes=without_priorities(bulk=other)))
    assert both.summary["slo"] == {"met": False}


def test_deadlines_first_miss_fewer_promises() -> None:
    tight = {"slo": {"ttft": "300 ms"}}
    loose = {"slo": {"ttft": "30 s"}}
    missed = {}
    for policy in ("fcfs", "edf"):
        run = simulate(scenario({"scheduling": policy}, {"gold": tight, "bulk": loose}), debug=True)
        measured = run.requests[run.requests["measured"]]
        missed[policy] = 1.0 - float(measured["slo_met"].mean())
    assert missed["fcfs"] > 0.2
    assert missed["edf"] < 0.05 * missed["fcfs"]


def test_refusing_the_late_keeps_the_promise_to_the_others() -> None:
    # Prompts, not slots, are what is short: the prediction counts nothing else.
    promised = {"gold": {"slo": {"ttft": "500 ms"}}}
    load = {"app": workload(120, **{"class": "gold"}) | {"lengths": {"prompt": 2000, "output": 2}}}
    good = {}
    for refuse in (False, True):
        told = {"policy": "edf", "refuse_late": True} if refuse else "fcfs"
        engine = {"scheduling": told, "max_num_seqs": 128}
        run = simulate(scenario(engine, promised, load), debug=True)
        good[refuse] = run.summary["goodput_requests_per_s"]
        rejected = run.summary.get("requests_rejected", 0)
        assert (rejected > 0) is refuse
        answered = run.requests[run.requests["outcome"] == "completed"]
    assert good[True] > 3 * good[False]
    assert answered["slo_met"].mean() > 0.8


TENANTS = {"app": workload(24, tenants={"shares": {"big": 9, "small": 1}})}


def test_tenants_send_their_shares_and_each_workload_draws_as_before() -> None:
    alone = simulate(scenario(classes={}, workloads={"app": workload(24)}))
    run = simulate(scenario(classes={}, workloads=TENANTS))
    counts = run.requests["tenant"].value_counts()
    n = len(run.requests)
    assert abs(counts["big"] - 0.9 * n) < 3 * np.sqrt(0.09 * n)
    assert (run.requests["prompt_tokens"] == alone.requests["prompt_tokens"]).all()
    assert (run.requests["ttft_ms"] == alone.requests["ttft_ms"]).all()
    summary = run.summary["tenants"]
    assert sum(t["requests_completed"] for t in summary.values()) == len(run.requests)


@pytest.mark.slow
def test_fair_shares_shield_the_small_tenant_from_the_big_one() -> None:
    waits = {}
    for policy in ("fcfs", "fair"):
        run = simulate(
            scenario(
                {"scheduling": policy},
                {},
                {"app": TENANTS["app"] | workload(40) | {"tenants": TENANTS["app"]["tenants"]}},
            ),
            debug=True,
        )
        tenants = run.summary["tenants"]
        waits[policy] = {name: tenants[name]["ttft_ms"]["p50"] for name in ("big", "small")}
    assert waits["fcfs"]["small"] == pytest.approx(waits["fcfs"]["big"], rel=0.3)
    assert waits["fair"]["small"] < 0.05 * waits["fair"]["big"]


def test_weights_of_tokens_decide_who_is_served_least() -> None:
    """One tenant asks long and is answered shortly, another the other way round; both always wait.

    Fair shares are equal in input_weight * prompt + output_weight * output (VTC, OSDI 2024).
    """
    shapes = {"asks": (900, 20), "listens": (100, 180)}
    load = {
        name: workload(1, tenants={"shares": {name: 1}})
        | {"lengths": {"prompt": prompt, "output": output}}
        | {"arrivals": {"process": "closed", "concurrency": 100}}
        for name, (prompt, output) in shapes.items()
    }
    for weights in ((1, 2), (1, 20)):
        told = dict(zip(("input_weight", "output_weight"), weights, strict=True))
        run = simulate(scenario({"scheduling": {"policy": "fair"} | told}, {}, load))
        rows = run.requests
        rows = rows[rows["arrival_s"] + rows["e2e_ms"] / 1e3 <= 40.0]  # not those of the drain
        done = rows["tenant"].value_counts()
        asks, listens = (
            done[name] * (weights[0] * prompt + weights[1] * output)
            for name, (prompt, output) in shapes.items()
        )
        assert asks == pytest.approx(listens, rel=0.1), weights


def test_zipf_tenants() -> None:
    load = {"app": workload(60, tenants={"count": 4, "skew": 1})}
    counts = simulate(scenario(classes={}, workloads=load)).requests["tenant"].value_counts()
    assert list(counts.index[:2]) == ["app-1", "app-2"]
    assert counts["app-1"] / counts["app-4"] == pytest.approx(4.0, rel=0.3)


def test_closed_clients_have_tenants_too() -> None:
    load = {
        "app": workload(1, tenants=3) | {"arrivals": {"process": "closed", "concurrency": 12}},
    }
    run = simulate(scenario({"scheduling": "fair"}, {}, load), debug=True)
    assert run.requests["tenant"].nunique() == 3


# Little memory: long answers, so that requests are preempted.
CRAMPED = {"max_num_seqs": 64, "gpu_memory_utilization": 0.235}
LONG = {
    "app": workload(10, **{"class": "gold"})
    | {"lengths": {"prompt": 100, "output": {"uniform": {"low": 50, "high": 400}}}},
    "night": workload(10, **{"class": "bulk"})
    | {"lengths": {"prompt": 100, "output": {"uniform": {"low": 50, "high": 400}}}},
}


def test_victims_are_of_the_lowest_class() -> None:
    run = simulate(scenario(CRAMPED | PRIORITY, workloads=LONG), debug=True)
    victims = run.requests.groupby("class", observed=True)["preemptions"].sum()
    assert victims["bulk"] > 20 * max(1, victims["gold"])


@pytest.mark.slow
def test_swapping_computes_nothing_again_and_costs_by_its_bandwidth() -> None:
    found = {}
    for name, engine in {
        "recompute": {},
        "fast": {"preemption": "swap"},
        "slow": {"preemption": "swap", "swap_bandwidth": "1 GB/s"},
        "small": {"preemption": "swap", "swap_space": "20 MB"},
    }.items():
        run = simulate(scenario(CRAMPED | engine, without_priorities(), LONG), debug=True)
        found[name] = run.summary
    assert "swapped_gb" not in found["recompute"]
    assert found["recompute"]["recomputed_tokens"] > 10_000
    assert (
        found["fast"].get("recomputed_tokens", 0) < 0.05 * found["recompute"]["recomputed_tokens"]
    )
    assert found["fast"]["swapped_gb"] > 1
    assert found["small"]["recomputed_tokens"] > found["fast"].get("recomputed_tokens", 0)
    rate = {name: summary["output_tokens_per_s"] for name, summary in found.items()}
    assert rate["slow"] < rate["recompute"] < rate["fast"]


@pytest.mark.parametrize(
    "engine",
    [PRIORITY, {"scheduling": "fair"}, {"preemption": "swap"}, PRIORITY | {"preemption": "swap"}],
    ids=["priority", "fair", "swap", "priority and swap"],
)
def test_a_replica_that_fails_loses_nobody(engine: dict[str, Any]) -> None:
    classes = CLASSES if "priority" in engine.values() else without_priorities()
    made = scenario(CRAMPED | engine, classes, LONG, replicas=2)
    told = made.model_dump(mode="json", exclude_none=True)
    told["failures"] = {
        "schedule": [{"at": "12 s", "what": "rack-0/server-0/gpu-0", "lasts": "5 s"}]
    }
    run = simulate(validate(Scenario, told), debug=True)
    assert run.requests["retries"].sum() > 0
    assert set(run.requests["outcome"]) == {"completed"}


def test_a_scenario_with_classes_reads_back_and_repeats() -> None:
    made = scenario(PRIORITY)
    text = to_yaml(made)
    assert "class: gold" in text and "class_" not in text
    first, second = (simulate(made).requests for _ in range(2))
    assert first.equals(second)


def test_the_config_of_classes_shows_tiers_at_work() -> None:
    run = simulate(load("configs/classes.yaml", ["duration=90 s"]))
    classes = run.summary["classes"]
    assert classes["interactive"]["slo"]["met"]
    waits = [classes[name]["ttft_ms"]["p50"] for name in ("interactive", "standard", "batch")]
    assert waits[0] < waits[1] < waits[2]
    assert len(run.summary["tenants"]) == 22


BAD = {
    "no such class": (
        {"workloads": {"app": workload(8, **{"class": "silver"})}},
        "workload.app.class: there is no class 'silver'; known: gold, bulk",
    ),
    "no classes at all": (
        {"classes": {}, "workloads": {"app": workload(8, **{"class": "gold"})}},
        "the scenario has no 'classes'",
    ),
    "a class nobody is of": (
        {"engine": PRIORITY, "workloads": {"app": workload(8, **{"class": "gold"})}},
        "classes.bulk: no workload is of this class",
    ),
    "a workload with the name of a class": (
        {"engine": PRIORITY, "workloads": {"bulk": workload(8, **{"class": "gold"}),
                                           "b": workload(8, **{"class": "bulk"})}},
        "could not tell them apart",
    ),
    "priorities nobody asks for": ({}, "classes.gold.priority: no queue asks for it"),
    "one priority": (
        {"engine": PRIORITY, "classes": without_priorities()},
        "deployments.d.engine.scheduling: all requests to d have the same priority",
    ),
    "no deadlines": (
        {"engine": {"scheduling": "edf"}, "classes": {"gold": {}, "bulk": {}}},
        "no request to d is promised a TTFT",
    ),
    "one deadline": (
        {"engine": {"scheduling": "edf"}, "classes": {}, "slo": {"ttft": "1 s"},
         "workloads": {"app": workload(8)}},
        "promised the same TTFT",
    ),
    "one tenant": (
        {"engine": {"scheduling": "fair"}, "classes": {}, "workloads": {"app": workload(8)}},
        "all requests to d are of one tenant",
    ),
    "a promise that no class leaves": (
        {"classes": {"gold": {"slo": {"ttft": "1 s"}}, "bulk": {"slo": {"ttft": "9 s"}}},
         "slo": {"ttft": "2 s"}},
        "deployments.d.slo: the class of every workload promises something else",
    ),
    "weights without fair": (
        {"engine": {"scheduling": {"policy": "edf", "output_weight": 2}}},
        "edf counts no tokens",
    ),
    "refusing without deadlines": (
        {"engine": {"scheduling": {"policy": "priority", "refuse_late": True}}},
        "priority looks at no deadlines",
    ),
    "swap space without swap": (
        {"engine": {"swap_space": "4 GB"}}, "say 'preemption: swap'",
    ),
    "swap beside a prefix cache": (
        {"engine": {"preemption": "swap", "prefix_caching": True}},
        "say 'prefix_caching: false'",
    ),
    "neither count nor shares": (
        {"classes": {}, "workloads": {"app": workload(8, tenants={"skew": 1})}},
        "give either count or shares",
    ),
    "skew of shares": (
        {"classes": {}, "workloads": {"app": workload(
            8, tenants={"skew": 1, "shares": {"a": 1}})}},
        "leave out skew",
    ),
    "a price of nothing": (
        {"classes": {"gold": {"price": {"input": "0 USD/Mtoken", "output": "0 USD/Mtoken"}}}},
        "nothing costs anything",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str) -> None:
    given, message = BAD[name]
    with pytest.raises(InputError) as refused:
        scenario(**given)
    assert message in str(refused.value)


def test_host_memory_needs_a_link_and_room() -> None:
    engine = {"preemption": "swap", "swap_space": "1 kB"}
    with pytest.raises(InputError, match="must hold one KV block at least"):
        simulate(scenario(engine, without_priorities()))
