"""Whole runs of a disaggregated deployment: exact, conserving, and beside the same engine whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.factory.build import Factory
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.physics.memory import prompt_cache_bytes
from factory_sim.scenario.scenario import Scenario
from tests.factory.side_by_side import Toy
from tests.factory.small import small_scenario

BYTES_PER_TOKEN = 131_072  # Llama-3.1-8B: 32 layers, 8 heads of 128 numbers, keys and values, bf16


def disaggregated(
    prefill: dict[str, Any] | None = None, link: dict[str, Any] | None = None, **small: Any
) -> Scenario:
    """Return the small scenario with a pool that computes prompts; `small` as there."""
    more = {name: small.pop(name) for name in ("failures", "workload") if name in small}
    given = small_scenario(**small).model_dump(mode="json", exclude_none=True)
    given["deployments"]["d"]["prefill"] = {"replicas": 1, "kv_link": "kv"} | (prefill or {})
    given["network"] = {"links": {"kv": {"bandwidth": "400 Gbit/s"} | (link or {})}}
    return validate(Scenario, given | more)


def test_two_requests_to_the_nanosecond(tmp_path: Path) -> None:
    trace = tmp_path / "two.csv"
    trace.write_text("arrival_s,input_toks,output_toks\n0.0,10,3\n0.005,20,2\n")
    scenario = disaggregated(
        link={"bandwidth": f"{100 * BYTES_PER_TOKEN} byte/s", "latency": "5 ms"},
        engine={"async_scheduling": False},
        workload={"w": {"deployment": "d", "arrivals": {"process": "trace", "path": str(trace)}}},
        duration="1 s",
    )
    run = simulate(scenario, step_time=lambda *_: Toy(base=0.01, per_token=0.001), debug=True)
    lag_s = lay_out(scenario).fleets[0].host.per_request_s
    # Prompts: a step of 20 ms for the first, then one of 30 ms for the second. The first has 7 of
    # its 10 tokens to send when the second joins it on the link (100 tokens/s): it is through at
    # 190 ms, the second, alone for 13 tokens more, at 320 ms; 5 ms later they decode, 11 ms a step.
    found = run.requests
    assert found["ttft_ms"].to_numpy() == pytest.approx(
        [20 + 1e3 * lag_s, 45 + 1e3 * lag_s], rel=1e-9
    )
    assert found["transfer_ms"].to_numpy() == pytest.approx([175.0, 275.0], rel=1e-9)
    assert found["e2e_ms"].to_numpy() == pytest.approx(
        [217 + 1e3 * lag_s, 331 + 1e3 * lag_s], rel=1e-9
    )
    assert found["tpot_ms"].to_numpy() == pytest.approx([197 / 2, 286.0], rel=1e-9)
    assert run.summary["itl_ms"]["mean"] == pytest.approx((186 + 11 + 286) / 3, rel=1e-9)
    assert run.summary["links"]["kv"]["utilisation"]["mean"] == pytest.approx(0.3, rel=1e-9)
    assert run.summary["links"]["kv"]["carried_gb"] == pytest.approx(30 * BYTES_PER_TOKEN / 1e9)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("batching", ["chunked", "continuous", "static"])
def test_over_a_perfect_link_one_at_a_time_nothing_is_lost(batching: str, ahead: bool) -> None:
    if batching == "static" and ahead:
        return
    small: dict[str, Any] = {
        "engine": {"batching": batching} | ({"async_scheduling": True} if ahead else {}),
        "arrivals": {"process": "closed", "concurrency": 1},
        "lengths": {
            "prompt": {"uniform": {"low": 1, "high": 9000}},
            "output": {"uniform": {"low": 1, "high": 200}},
        },
        "cached": {"uniform": {"low": 0, "high": 900}},
        "duration": "30 s",
    }
    whole = simulate(small_scenario(**small)).requests
    split = simulate(disaggregated(link={"bandwidth": "1e30 byte/s"}, **small)).requests
    assert len(whole) == len(split) > 15
    for name in ("ttft_ms", "tpot_ms", "e2e_ms", "cached_tokens", "output_tokens"):
        np.testing.assert_allclose(split[name], whole[name], rtol=1e-9)
    assert (split["transfer_ms"].dropna() < 1e-6).all()


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    failures = [
        {
            "at": f"{draw(st.floats(0.1, 5.0)):.3f} s",
            "what": f"rack-0/server-0/gpu-{draw(st.integers(0, 4))}",
            "lasts": f"{draw(st.floats(0.1, 2.0)):.3f} s",
        }
        for _ in range(draw(st.integers(0, 6)))
    ]
    if draw(st.booleans()):  # all at once
        failures.append({"at": "2 s", "what": "rack-0/switch", "lasts": "500 ms"})
    more: dict[str, Any] = {"failures": {"schedule": failures}} if failures else {}
    if draw(st.booleans()):
        more["timeout"] = draw(st.sampled_from(["300 ms", "20 s"]))
    policy = st.sampled_from(["chunked", "continuous", "static"])
    return disaggregated(
        prefill={
            "replicas": draw(st.integers(1, 2)),
            "engine": {
                "batching": draw(policy),
                "gpu_memory_utilization": draw(st.sampled_from([0.226, 0.3])),
                "max_queue": draw(st.integers(1, 5)),
            }
            if draw(st.booleans())
            else None,
            "first_token": draw(st.sampled_from(["prefill", "decode"])),
            "router": draw(st.sampled_from(["least-outstanding", "round-robin"])),
            "overlap": draw(st.booleans()),
            **draw(st.sampled_from([{}, {"per_replica": "50 MB/s"}])),
        },
        link={
            "bandwidth": draw(st.sampled_from(["100 MB/s", "2 GB/s", "50 GB/s"])),
            "latency": draw(st.sampled_from(["0 s", "30 ms"])),
        },
        seed=draw(st.integers(0, 1000)),
        duration="6 s",
        replicas=draw(st.integers(1, 3)),
        router=draw(st.sampled_from(["round-robin", "random"])),
        engine={
            "batching": draw(policy),
            "max_num_seqs": draw(st.integers(1, 12)),
            "gpu_memory_utilization": draw(st.sampled_from([0.2207, 0.221, 0.3])),
        },
        arrivals=draw(
            st.sampled_from(
                [
                    {"process": "poisson", "rate": "12 /s"},
                    {"process": "closed", "concurrency": 9, "think_time": "100 ms"},
                ]
            )
        ),
        lengths={
            "prompt": {"uniform": {"low": 1, "high": draw(st.sampled_from([20, 500]))}},
            "output": {"uniform": {"low": 1, "high": draw(st.sampled_from([3, 90]))}},
        },
        cached={"uniform": {"low": 0, "high": 60}},
        **more,
    )


def at_rest(factory: Factory) -> bool:
    """Tell whether nobody holds anything any more."""
    gateways = factory.gateways.values()
    batches = [replica.batch for gateway in gateways for replica in gateway.replicas]
    return (
        all(batch.kv.free == batch.kv.total for batch in batches)
        and not any(batch.running or batch.waiting for batch in batches)
        and not any(sum(gateway.outstanding) for gateway in gateways)
        and not factory.waiting_or_running
    )


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_every_run_conserves(scenario: Scenario) -> None:
    run = simulate(scenario, debug=True)
    summary, requests = run.summary, run.requests
    outcomes = requests["outcome"].value_counts()
    assert requests["request_id"].tolist() == list(range(len(requests)))
    assert outcomes["unfinished"] == 0  # 600 s to drain
    assert summary["requests_completed"] + summary["requests_failed"] == len(requests)
    served = requests[requests["outcome"] == "completed"]
    assert (served["ttft_ms"] <= served["e2e_ms"]).all()
    assert (served["transfer_ms"].isna() == (served["output_tokens"] == 1)).all()
    little = summary["littles_law"]
    if not outcomes["rejected"]:  # one that came while all were down is refused only later
        assert little["requests_in_system"] == pytest.approx(
            little["arrival_rate_per_s"] * little.get("time_in_system_s", 0.0), rel=1e-6, abs=1e-9
        )
    pools = summary["deployments"]["d"]["pools"]
    for part in (summary, *pools.values()):
        assert sum(part["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)
        assert min(part["time_lost"].values()) >= 0.0
    power = summary["power_mw"]
    assert power["grid"] == pytest.approx(power["it"] * 1.25, rel=1e-9)
    assert 0.0 <= summary["links"]["kv"]["utilisation"]["max"] <= 1.0 + 1e-9
    factory = Factory(lay_out(scenario), debug=True)
    factory.env.run(until=scenario.duration + 600.0)
    assert at_rest(factory)
    assert frames(simulate(scenario)) == frames(run)


def frames(run: Run) -> tuple[Any, ...]:
    return run.requests.to_csv(), run.timeseries.to_csv(), run.summary


def test_the_tokens_of_both_pools_are_those_of_the_requests() -> None:
    run = simulate(disaggregated(duration="30 s", rate="2 /s"))
    done_s = run.requests["arrival_s"] + run.requests["e2e_ms"] / 1e3
    inside = run.requests[done_s <= 30.0]
    made = run.summary["output_tokens_per_s"] * 30.0
    late = len(run.requests) - len(inside)
    assert inside["output_tokens"].sum() <= made <= inside["output_tokens"].sum() + 20 * late
    assert run.summary["gpus"] == 8
    found = run.summary["deployments"]["d"]
    assert (found["gpus"], found["replicas"], set(found["pools"])) == (2, 2, {"decode", "prefill"})
    watts = [found["pools"][role]["gpu_power_w"] for role in ("decode", "prefill")]
    assert found["gpu_power_w"] == pytest.approx(sum(watts) / 2)


def test_what_of_a_prompt_crosses() -> None:
    facts = small_scenario().facts
    llama, oss = facts.model("llama-3.1-8b"), facts.model("gpt-oss-20b")
    assert prompt_cache_bytes(llama, 2.0, 10) == 10 * BYTES_PER_TOKEN
    assert prompt_cache_bytes(llama, 1.0, 10) == 5 * BYTES_PER_TOKEN
    # 12 of 24 layers keep at most 128 tokens; 8 KV heads of 64 numbers, keys and values.
    per_layer = 2 * 8 * 64 * 2
    assert prompt_cache_bytes(oss, 2.0, 1000) == per_layer * (12 * 1000 + 12 * 128)
    r1 = facts.model("deepseek-r1")
    assert prompt_cache_bytes(r1, 1.0, 7) == 7 * 61 * (512 + 64)
