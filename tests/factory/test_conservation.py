"""Whatever the scenario: requests, time, energy and tokens are conserved, run after run."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.factory.run import Run, simulate
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario

ARRIVALS: list[dict[str, Any]] = [
    {"process": "poisson", "rate": "12 /s"},
    {"process": "constant", "rate": "20 /s"},
    {"process": "closed", "concurrency": 9, "think_time": "100 ms"},
    {"process": "closed", "concurrency": 3},
]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    policy = draw(st.sampled_from(["chunked", "continuous", "static"]))
    engine: dict[str, Any] = {
        "batching": policy,
        "max_num_seqs": draw(st.integers(1, 12)),
        "gpu_memory_utilization": draw(st.sampled_from([0.2207, 0.221, 0.3])),
        "max_queue": draw(st.none() | st.integers(1, 5)),
    }
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        engine["preemption"] = draw(st.sampled_from(["recompute", "swap"]))
        engine["scheduling"] = draw(st.sampled_from(["fcfs", "fair"]))
        more["tenants"] = draw(st.integers(2, 5))
    if draw(st.booleans()):
        more["timeout"] = draw(st.sampled_from(["300 ms", "2 s"]))
    if draw(st.booleans()):
        more["round_trip"] = draw(st.sampled_from(["30 ms", "800 ms"]))
    return small_scenario(
        seed=draw(st.integers(0, 1000)),
        duration="4 s",
        replicas=draw(st.integers(1, 3)),
        router=draw(st.sampled_from(["round-robin", "least-outstanding", "random"])),
        engine=engine,
        arrivals=draw(st.sampled_from(ARRIVALS)),
        lengths={
            "prompt": {"uniform": {"low": 1, "high": draw(st.sampled_from([20, 500]))}},
            "output": {"uniform": {"low": 1, "high": draw(st.sampled_from([3, 90]))}},
        },
        cached={"uniform": {"low": 0, "high": 60}},
        **more,
    )


def frames(run: Run) -> bytes:
    return pickle.dumps((run.requests, run.timeseries, run.summary))


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_every_run_conserves(scenario: Scenario) -> None:
    run = simulate(scenario, debug=True)
    summary, requests = run.summary, run.requests
    outcomes = requests["outcome"].value_counts()
    assert requests["request_id"].tolist() == list(range(len(requests)))
    assert summary["requests_arrived"] == len(requests)
    assert summary["requests_completed"] == outcomes["completed"]
    assert summary["requests_failed"] == outcomes["timed_out"] + outcomes["rejected"]
    assert summary["requests_unfinished"] == outcomes["unfinished"] == 0  # 600 s to drain
    if "time_lost" in summary:
        assert sum(summary["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)
        assert min(summary["time_lost"].values()) >= 0.0
    power = summary["power_mw"]
    assert power["grid"] == pytest.approx(power["it"] * 1.25, rel=1e-9)
    assert power["gpu"] < power["server"] < power["it"]
    assert summary["grid_power_mw"]["mean"] == pytest.approx(power["grid"], rel=1e-9)
    little = summary["littles_law"]
    assert little["requests_in_system"] == pytest.approx(
        little["arrival_rate_per_s"] * little["time_in_system_s"], rel=1e-6
    )
    served = requests[requests["outcome"] == "completed"]
    assert (served["admitted_s"] >= served["arrival_s"]).all()
    assert (served["ttft_ms"] <= served["e2e_ms"]).all()
    assert np.isnan(requests.loc[requests["outcome"] == "rejected", "admitted_s"]).all()
    assert frames(simulate(scenario)) == frames(run)  # and debug changes nothing


def test_output_tokens_are_those_of_the_requests() -> None:
    run = simulate(small_scenario(duration="30 s", rate="2 /s"))
    done_s = run.requests["arrival_s"] + run.requests["e2e_ms"] / 1e3
    inside = run.requests[done_s <= 30.0]
    made = run.summary["output_tokens_per_s"] * 30.0
    late = len(run.requests) - len(inside)
    assert inside["output_tokens"].sum() <= made <= inside["output_tokens"].sum() + 20 * late
