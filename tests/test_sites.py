"""The sites that ship run in their time and show what they are there to show."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import factory_sim as fs
from factory_sim.factory.layout import lay_out
from tests.test_house import SWEEPS

CONFIGS = Path(__file__).parents[1] / "configs"
SITES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in SWEEPS)


@pytest.mark.parametrize("name", [site for site in SITES if site != "azure_chat"])
def test_a_shipped_site_checks_out(name: str) -> None:
    report = fs.check(fs.load(CONFIGS / f"{name}.yaml"))
    assert report.problems == ()
    powers = [rows for heading, rows in report.sections.items() if heading.startswith("Power")]
    assert powers and all("meter" in rows["idle"] for rows in powers)


@cache
def run(name: str, *overrides: str) -> tuple[fs.Run, float]:
    started = time.process_time()
    found = fs.simulate(fs.load(CONFIGS / f"{name}.yaml", list(overrides)))
    return found, time.process_time() - started


def summary_of(name: str, *overrides: str) -> dict[str, Any]:
    found, seconds = run(name, *overrides)
    print(f"\n{name}: {seconds:.1f} s, {len(found.requests):,} requests")
    assert seconds < 90.0
    came_in = found.summary["power_mw"]["grid"] * (
        found.summary["window_s"]["end"] - found.summary["window_s"]["start"]
    )
    parts = sum(found.summary["energy_mwh"].values())
    assert parts * 3600.0 == pytest.approx(came_in, rel=1e-9)
    return found.summary


@pytest.mark.slow
def test_the_air_cooled_hall() -> None:
    summary = summary_of("air_5mw")
    assert 1.25 <= summary["pue"] <= 1.4
    assert summary["slo"]["met"]
    for stage in summary["power_chain"].values():
        assert stage["installed_mw"] == pytest.approx(2.0 * stage["rating_mw"])
    assert summary["energy_cost_usd"] > 0.0


@pytest.mark.slow
def test_the_liquid_cooled_site() -> None:
    summary = summary_of("liquid_50mw")
    assert 1.05 <= summary["pue"] <= 1.2
    assert summary["slo"]["met"]
    assert summary["gpus"] > 24_000


@pytest.mark.slow
def test_a_curtailment_of_a_quarter_keeps_the_promise_of_the_priority_class() -> None:
    summary = summary_of("curtailed_50mw")
    chat, batch = (summary["deployments"][name] for name in ("chat", "batch"))
    assert chat["slo"]["met"]
    assert batch["time_lost"]["power_throttled"] > 0.0
    assert "power_throttled" not in chat["time_lost"]
    assert summary["cap_overshoot_s"] == 0.0  # it was told ten minutes before
    series = run("curtailed_50mw")[0].timeseries.set_index("time_s")
    assert series.loc[:600.0, "grid_power_mw"].max() > 45.0
    assert series.loc[1200.0:4800.0, "grid_power_mw"].max() <= 37.5


@pytest.mark.slow
def test_oversubscription_admits_more_racks_for_little_throttling() -> None:
    summary = summary_of("oversubscribed_5mw")
    usual = fs.load(CONFIGS / "oversubscribed_5mw.yaml", ["provisioning.oversubscribe=1"])
    more = run("oversubscribed_5mw")[0].record["racks"] / len(lay_out(usual).site.racks)
    print(f"{more - 1:.0%} more racks, throttled {summary['clock']['share_below_reference']:.2%}")
    assert 1.15 <= more <= 1.40
    assert 0.0 < summary["clock"]["share_below_reference"] <= 0.05
    assert summary["slo"]["met"]


@pytest.mark.slow
def test_a_lost_cdu_takes_its_racks_and_not_the_promise() -> None:
    summary = summary_of("cdu_loss")
    found = run("cdu_loss")[0]
    series = found.timeseries.set_index("time_s")
    slow = series.index[series["clock"] < 1.0]
    assert 300.0 < slow[0] <= 360.0
    assert summary["outages"]["heat"]["replicas_stopped"] == 36
    assert 0.8 < summary["availability"] < 1.0
    assert found.requests["retries"].sum() == summary["outages"]["heat"]["requests_lost"]
    assert summary["requests_completed"] == len(found.requests)


@pytest.mark.slow
def test_a_day_of_autoscaling_saves_what_nobody_needs_and_keeps_the_promise() -> None:
    summary = summary_of("autoscaling")
    did = summary["deployments"]["chat"]["autoscaling"]
    assert summary["slo"]["met"]
    assert did["replicas_mean"] == pytest.approx(2.1, abs=0.05)  # of four, as the README says
    assert did["requests_waited_for_start"] == 15
    # 36 GB through a link that replicas share, 4 minutes of boot where a server was off, 90 s.
    assert 126.0 < did["cold_start_s"]["mean"] < 90.0 + 240.0 + 2 * 36.5
    all_up = ("deployments.chat.autoscaling=null", "network=null")
    assert summary_of("autoscaling", *all_up)["energy_per_output_token_j"] > (
        1.15 * summary["energy_per_output_token_j"]
    )
    series = run("autoscaling")[0].timeseries.set_index("time_s")
    # At night only the switches of the rack are on.
    assert series.loc[:3600.0, "server_power_mw"].max() == 0.0
