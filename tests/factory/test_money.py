"""Money of whole runs: conserved over deployments, classes, models, sites and jobs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from factory_sim.factory.check import check
from factory_sim.factory.engine.stretch import prompts_share
from factory_sim.factory.results.books import highest_mean_w
from factory_sim.factory.run import simulate
from factory_sim.scenario.load import load, override, scenario_from
from tests.options.board import base

OWNED = {"like": "us-2025", "demand": {"charge": "15 USD/kW/month"}}
TOKENS = {"input": "1 USD/Mtoken", "cached": "0.1 USD/Mtoken", "output": "4 USD/Mtoken"}


def sent(to: str, rate: float, **more: Any) -> dict[str, Any]:
    lengths = {"prompt": {"uniform": {"low": 50, "high": 800}}, "output": 40}
    arrivals = {"process": "poisson", "rate": f"{rate} /s"}
    return {"deployment": to, "arrivals": arrivals, "lengths": lengths, **more}


def summary(**changes: Any) -> dict[str, Any]:
    """Return the summary of two models and two classes on one server, with a GPU to spare."""
    given: dict[str, Any] = {
        "name": "priced_run",
        "seed": 2,
        "duration": "20 s",
        "warmup": "4 s",
        "site": {"grid_limit": "100 kW", "pue": 1.2, "price": "0.07 USD/kWh"},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
        "deployments": {
            "d": {"model": "llama-3.1-8b", "replicas": 3, "slo": {"ttft": "80 ms"}},
            "e": {"model": "qwen3-8b", "replicas": 2},
        },
        "classes": {"gold": {"price": {"input": "2 USD/Mtoken", "output": "8 USD/Mtoken"}}},
        "workload": {
            "app": sent("d", 20, **{"class": "gold"}),
            "night": sent("d", 40),
            "other": sent("e", 5),
        },
        "costs": OWNED,
        "prices": TOKENS,
    }
    for path, value in changes.items():
        override(given, path.replace("__", "."), value)
    if given["costs"] is None:
        del given["costs"]
    return dict(simulate(scenario_from(given)).summary)


@pytest.fixture(scope="module")
def priced() -> dict[str, Any]:
    return summary()


def test_components_sum_to_the_total(priced: dict[str, Any]) -> None:
    parts = [priced, *priced["deployments"].values(), *priced["classes"].values()]
    for part in [*parts, *priced["models"].values()]:
        assert sum(part["costs_usd"].values()) == pytest.approx(part["cost_usd"], rel=1e-12)
    for name in ("deployments", "classes", "models"):
        spread = sum(part["cost_usd"] for part in priced[name].values())
        held = spread + priced["unassigned_cost_usd"]  # three GPUs that nobody holds
        assert held == pytest.approx(priced["cost_usd"], rel=1e-12), name
    for component, usd in priced["costs_usd"].items():
        by_class = sum(part["costs_usd"][component] for part in priced["classes"].values())
        by_model = sum(part["costs_usd"][component] for part in priced["models"].values())
        assert by_class == pytest.approx(by_model, rel=1e-12)
        assert by_class < usd
    electricity = priced["costs_usd"]["electricity"]
    assert electricity == pytest.approx(priced["energy_cost_usd"], rel=1e-12)


def test_revenue_is_conserved_and_profit_is_the_rest(priced: dict[str, Any]) -> None:
    for name in ("deployments", "classes", "models"):
        earned = sum(part["revenue_usd_per_h"] for part in priced[name].values())
        assert earned == pytest.approx(priced["revenue_usd_per_h"], rel=1e-12), name
    hours = 16.0 / 3600.0
    profit = priced["revenue_usd_per_h"] - priced["cost_usd"] / hours
    assert priced["profit_usd_per_h"] == pytest.approx(profit, rel=1e-12)
    breakeven = priced["cost_usd"] / hours / priced["revenue_usd_per_h"]
    assert priced["breakeven_utilisation"] == pytest.approx(breakeven, rel=1e-12)
    a_year = profit * 24 * 365.25 / priced["provisioned"]["utility_mw"]
    assert priced["profit_usd_per_mw_year"] == pytest.approx(a_year, rel=1e-12)


def test_what_a_cap_holds_back_would_earn_as_the_rest_does(priced: dict[str, Any]) -> None:
    key = "revenue_usd_per_h_held_back_by_cap"
    assert key not in priced
    capped = summary(site__grid_limit="4 kW", provisioning={"oversubscribe": 5.0})
    share = capped["output_tokens_per_s_held_back_by_cap"] / capped["output_tokens_per_s"]
    assert share > 0.01
    assert capped[key] == pytest.approx(share * capped["revenue_usd_per_h"], rel=1e-12)


def test_tokens_of_a_step_share_it_alike_but_for_context() -> None:
    """Of 10 ms 2 are spent on context; of the rest 30 of 40 tokens are of prompts."""
    assert prompts_share(10e-3, 2e-3, 30, 10) == pytest.approx(0.8 * 0.75)
    assert prompts_share(10e-3, 0.0, 30, 0) == 1.0


def test_prompts_pay_for_their_part_of_the_steps_that_carry_them() -> None:
    """Most of them, not all: others decode in these steps. Of prompts alone it is all there is."""

    def parts(output: int, **engine: int) -> tuple[float, float]:
        """Return the share of joules that prompts pay for, and that of the steps with prompts."""
        given = base("plain")
        given["costs"] = {"rent": "1 USD/h"}
        override(given, "workload.w.lengths", {"prompt": 400, "output": output})
        override(given, "workload.w.arrivals.rate", "20 /s")
        override(given, "deployments.d.engine", {"profile": "vllm", **engine})
        found = simulate(scenario_from(given)).summary
        energy = found["energy_use_mwh"]
        paid = found["usd_per_million_by_kind"]["input"] / found["usd_per_million_input_tokens"]
        return paid, energy["prefill"] / (energy["prefill"] + energy.get("decode", 0.0))

    paid, steps = parts(100)
    assert 0.9 * steps < paid < 0.99 * steps
    paid, steps = parts(100, max_num_seqs=96, max_num_batched_tokens=96)  # short chunks
    assert 0.4 * steps < paid < 0.95 * steps
    assert parts(1) == pytest.approx((1.0, 1.0), rel=1e-9)


def test_tokens_cost_what_gpu_hours_do_over_what_they_make(priced: dict[str, Any]) -> None:
    for of in ("total", "output"):
        rate = priced[f"{of}_tokens_per_s_per_gpu"]
        by_hand = priced["usd_per_gpu_h"] * 1e6 / (3600 * rate)
        assert priced[f"usd_per_million_{of}_tokens"] == pytest.approx(by_hand, rel=1e-12)


def test_rented_by_the_published_formula() -> None:
    found = summary(costs={"rent": "1.41 USD/h"}, site__price=None)
    assert found["costs_usd"] == pytest.approx({"rent": 1.41 * 8 * 16 / 3600})
    assert found["usd_per_gpu_h"] == pytest.approx(1.41, rel=1e-12)
    rate = found["output_tokens_per_s"] / 8
    assert found["usd_per_million_output_tokens"] == pytest.approx(1.41e6 / (3600 * rate))


def test_nothing_has_a_price_of_nothing() -> None:
    free = {
        "like": "us-2025",
        "equipment": {"price": "0 USD"},
        "facility": {"price": "0 USD/MW"},
        "staff": "0 USD/MW/year",
    }
    found = summary(costs=free, prices=None, classes__gold__price=None, site__price="0 USD/kWh")
    assert found["cost_usd"] == 0.0
    assert found["usd_per_million_output_tokens"] == 0.0
    assert set(found["usd_per_million_by_kind"].values()) == {0.0}
    assert not {"profit_usd_per_h", "revenue_usd_per_h"} & set(found)


def test_without_requests_a_site_costs_and_no_token_has_a_cost() -> None:
    found = summary(
        **{f"workload__{w}__arrivals__rate": "1e-6 /s" for w in ("app", "night", "other")}
    )
    assert found["cost_usd"] > 0.0
    assert found["revenue_usd_per_h"] == 0.0
    assert found["profit_usd_per_h"] < 0.0
    gone = {"usd_per_million_output_tokens", "usd_per_million_by_kind", "breakeven_utilisation"}
    assert not gone & set(found)


def test_only_kept_promises_pay_where_the_contract_says_so(priced: dict[str, Any]) -> None:
    strict = summary(prices=TOKENS | {"within_slo": True}, deployments__d__slo__ttft="40 ms")
    run_all = summary(deployments__d__slo__ttft="40 ms")
    kept = strict["classes"]["night"]
    share = kept["slo"]["share_of_requests_met"] if "slo" in kept else None
    ratio = kept["revenue_usd"] / run_all["classes"]["night"]["revenue_usd"]
    assert 0.0 < ratio < 1.0
    assert share is None or ratio == pytest.approx(share, abs=0.2)
    assert strict["classes"]["gold"]["revenue_usd"] == run_all["classes"]["gold"]["revenue_usd"]


def test_cached_tokens_have_a_price_of_their_own() -> None:
    """Turns of a session find what was said before."""
    talk = {"workload__other__sessions": {"turns": 3, "think_time": "300 ms"}}
    dear = summary(**talk, prices={"input": "1 USD/Mtoken", "output": "4 USD/Mtoken"})
    cheap = summary(**talk)
    found = cheap["prefix_cache"]["found_tokens"]
    saved = dear["revenue_usd"] - cheap["revenue_usd"]
    assert found > 0
    assert saved == pytest.approx(0.9e-6 * found, rel=0.05)  # those admitted and completed
    assert cheap["deployments"]["e"]["usd_per_million_by_kind"]["cached_input"] == 0.0


def test_a_backlog_earns_nothing_yet() -> None:
    """Ten minutes of draining must not be sold as the work of the window."""
    found = summary(
        workload__night__arrivals__rate="400 /s", deployments__d__engine={"max_num_seqs": 8}
    )
    hours = 16.0 / 3600.0
    assert found["revenue_usd_per_h"] * hours < 0.6 * found["revenue_usd"]


def test_an_answer_that_two_deployments_worked_for_is_sold_once() -> None:
    given = base("two") | {"prices": TOKENS, "duration": "60 s", "warmup": "5 s"}
    both = {"policy": "cascade", "deployments": ["d", "e"], "escalate": "50 %"}
    found = simulate(scenario_from(given | {"services": {"s": both}})).summary
    assert found["revenue_usd_per_h"] * 55.0 / 3600.0 == pytest.approx(
        found["revenue_usd"], rel=0.05
    )


def test_a_range_is_around_what_it_is_of(priced: dict[str, Any]) -> None:
    half = {"low": 0.5, "high": 1.5}
    found = summary(costs=OWNED | {"ranges": {"equipment": half, "revenue": half}})
    key = "usd_per_million_total_tokens"
    low, high = found["cost_band"][key]
    assert low < found[key] < high
    assert found[key] == priced[key]
    # A triangle on 1 +- h has its 5th percentile at 1 - h (1 - sqrt(0.1)).
    part = priced["costs_usd"]["equipment"] / priced["cost_usd"]
    wide = part * 0.5 * (1.0 - np.sqrt(0.1))
    assert 1.0 - low / found[key] == pytest.approx(wide, rel=0.02)
    assert high / found[key] - 1.0 == pytest.approx(wide, rel=0.02)
    assert set(found["cost_band"]) == {
        "usd_per_gpu_h",
        "usd_per_million_total_tokens",
        "usd_per_million_input_tokens",
        "usd_per_million_output_tokens",
        "profit_usd_per_mw_year",
    }


def test_the_peak_is_the_highest_mean_of_a_whole_interval() -> None:
    table = pd.DataFrame(
        {"time_s": [10.0, 20.0, 30.0, 40.0], "grid_power_mw": [9.0, 1.0, 3.0, 5.0]}
    )
    assert highest_mean_w(table, 10.0, 40.0, 10.0) == pytest.approx(5e6)
    assert highest_mean_w(table, 10.0, 40.0, 20.0) == pytest.approx(2e6)  # 30 to 40 is half of one
    assert highest_mean_w(table, 10.0, 40.0, 900.0) == pytest.approx(3e6)
    assert highest_mean_w(table, 5.0, 15.0, 5.0) == pytest.approx(9e6)


def test_without_costs_and_prices_there_is_no_money() -> None:
    found = summary(costs=None, prices=None, classes__gold__price=None)
    assert not [key for key in found if "usd" in key and not key.startswith("energy_")]


PRICED = ["costs=us-2025", "prices=inferencex-neutral"]


def test_each_site_has_its_own_bill() -> None:
    given = base("two_sites") | {"costs": "us-2025", "prices": "inferencex-neutral"}
    found = simulate(scenario_from(given)).summary
    for key in ("cost_usd", "revenue_usd_per_h", "profit_usd_per_h"):
        parts = sum(site[key] for site in found["sites"].values())
        assert parts == pytest.approx(found[key], rel=1e-12), key
    here, there = (found["sites"][name]["costs_usd"] for name in ("a", "b"))
    assert here["equipment"] == there["equipment"]
    energy = {name: site["energy_cost_usd"] for name, site in found["sites"].items()}
    assert here["electricity"] == pytest.approx(energy["a"], rel=1e-12)
    assert there["electricity"] == pytest.approx(energy["b"], rel=1e-12)


def test_a_training_job_pays_for_its_gpus_and_tokens_do_not() -> None:
    changes = ["site.price=0.07 USD/kWh", "duration=60 s", "drain=5 s"]
    found = simulate(load("configs/cotenant.yaml", [*PRICED, *changes])).summary
    job, chat = found["training"]["tune"], found["deployments"]["chat"]
    assert job["costs_usd"]["equipment"] == pytest.approx(2 * chat["costs_usd"]["equipment"])
    electricity = job["costs_usd"]["electricity"] + found["costs_usd"]["electricity"]
    assert electricity == pytest.approx(found["energy_cost_usd"], rel=1e-12)
    assert found["cost_usd"] == pytest.approx(chat["cost_usd"], rel=1e-12)


def test_check_says_what_an_hour_costs_before_anything_runs() -> None:
    given = load("configs/quickstart.yaml", ["costs={rent: 1.41 USD/h}"])
    found = check(given).sections["Costs"]
    assert found == {"an hour": "225.60 USD: rent 225.60", "a GPU-hour": "1.410 USD"}
    owned = load("configs/quickstart.yaml", ["costs=us-2025", "site.price=0.07 USD/kWh"])
    assert "before electricity: equipment" in check(owned).sections["Costs"]["an hour"]
    assert "Costs" not in check(load("configs/quickstart.yaml")).sections
