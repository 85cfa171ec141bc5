"""The compiled kernel equals the SimPy engine: requests, ledgers, energy, gaps, time series.

Random deployments with everything that the kernel serves, under clock changes, admission bounds,
parking, curtailment and failures at random times.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

import factory_sim.catalog
from factory_sim.errors import InputError
from factory_sim.factory.check import check
from factory_sim.factory.kernel import compiled
from factory_sim.factory.kernel.stretch import guide
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import Frozen, validate
from factory_sim.metrics.gaps import bin_ends
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.engine import EngineSpec
from factory_sim.scenario.parallelism import Parallelism
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import WorkloadSpec
from tests.factory.facility.sites import building

SAME = 1e-9
ENGINES = Path(factory_sim.catalog.__file__).parent / "data" / "engines.yaml"
POLICIES = ("none", "clock", "decode-first", "admit", "park")
compiles = pytest.mark.slow
"""Marks what has the kernel compiled, which takes half a minute once."""

ROUTERS = ("round-robin", "random", "least-outstanding", "power-of-two")


def site(given: dict[str, Any], limit: list[tuple[float, float]] | None = None) -> Scenario:
    """Return a scenario of eight H100; limit: (seconds, share of the way from rest to peak)."""
    base: dict[str, Any] = {
        "name": "kernel",
        "site": {"grid_limit": "1 MW", "pue": 1.25},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
    }
    found = validate(Scenario, base | given)
    if limit is None:
        return found
    layout = lay_out(found)
    low_w, high_w = layout.idle.load_w, layout.peak.load_w
    steps = [[f"{s} s", f"{low_w + share * (high_w - low_w)} W"] for s, share in limit]
    limited = {"site": {"grid_limit": {"steps": steps}, "pue": 1.25}}
    return validate(Scenario, base | given | limited | {"provisioning": {"oversubscribe": 10}})


@st.composite
def workloads(draw: st.DrawFn, duration_s: float) -> dict[str, Any]:
    """Draw one or two streams of requests to `d`."""
    found = {}
    for name in ("one", "two")[: draw(st.integers(1, 2))]:
        offline = draw(st.integers(0, 9)) == 0
        count = draw(st.integers(1, 60))
        arrivals: dict[str, Any] = {"process": "offline", "requests": count}
        if not offline:
            process = draw(st.sampled_from(["poisson", "constant"]))
            arrivals = {"process": process, "rate": f"{draw(st.integers(1, 300)) / duration_s} /s"}
        found[name] = {
            "deployment": "d",
            "arrivals": arrivals,
            "lengths": {
                "prompt": {"uniform": {"low": 1, "high": draw(st.sampled_from([40, 600, 3000]))}},
                "output": {"uniform": {"low": 1, "high": draw(st.sampled_from([3, 60, 400]))}},
            },
        }
        if draw(st.booleans()):
            found[name]["cached"] = {"uniform": {"low": 0, "high": draw(st.integers(1, 700))}}
        if draw(st.booleans()):
            found[name]["timeout"] = f"{draw(st.integers(1, 300)) / 10} s"
    return found


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    duration_s = draw(st.sampled_from([8.0, 30.0, 130.0]))
    slots = draw(st.integers(1, 12))
    engine: dict[str, Any] = {
        "batching": draw(st.sampled_from(["chunked", "continuous", "static"])),
        "max_num_seqs": slots,
        "gpu_memory_utilization": draw(st.sampled_from([0.221, 0.24, 0.5])),
    }
    if engine["batching"] != "static":
        engine["max_num_batched_tokens"] = slots + draw(st.integers(0, 2000))
        engine["async_scheduling"] = draw(st.booleans())
    engine["profile"] = draw(st.sampled_from(["vllm", "sglang"]))
    if draw(st.booleans()):
        engine["max_queue"] = draw(st.integers(1, 6))
    replicas = draw(st.integers(1, 8))
    router: dict[str, Any] = {"policy": draw(st.sampled_from(ROUTERS))}
    if draw(st.booleans()) and router["policy"] in ("least-outstanding", "power-of-two"):
        router["staleness"] = f"{draw(st.integers(1, 30)) / 10} s"
    given: dict[str, Any] = {
        "seed": draw(st.integers(0, 999)),
        "duration": f"{duration_s} s",
        "warmup": draw(st.sampled_from(["0 s", "3 s"])),
        "drain": draw(st.sampled_from(["2 s", "600 s"])),
        "deployments": {
            "d": {
                "model": "llama-3.1-8b",
                "replicas": replicas,
                "router": router,
                "engine": engine,
            }
        },
        "workload": draw(workloads(duration_s)),
    }
    if replicas > 1 and len(given["workload"]) == 1 and draw(st.booleans()):
        router["pods"] = draw(st.integers(2, replicas))
    limit = None
    if draw(st.booleans()):
        policy = draw(st.sampled_from(POLICIES))
        given["power"] = {"policy": policy, "period": draw(st.sampled_from(["0.25 s", "1 s"]))}
        times = draw(st.sets(st.integers(1, int(duration_s)), max_size=3))
        limit = [(s, draw(st.integers(5, 110)) / 100) for s in (0, *sorted(times))]
    if draw(st.booleans()):
        given["failures"] = {
            "schedule": [
                {
                    "at": f"{draw(st.integers(1, int(duration_s * 1000))) / 1000} s",
                    "what": f"rack-0/server-0/gpu-{draw(st.integers(0, replicas - 1))}",
                    "lasts": f"{draw(st.integers(1, 20))} s",
                }
                for _ in range(draw(st.integers(1, 3)))
            ]
        }
    if draw(st.integers(0, 3)) == 0:
        given["racks"] = [
            {"system": "dgx-h100", "count": 1, "servers_per_rack": 1, "gpu_clock": 0.8}
        ]
    return site(given, limit)


def by(kernel: str, scenario: Scenario) -> Run:
    return simulate(scenario.model_copy(update={"kernel": kernel}), workers=2)


def assert_same_tables(one: pd.DataFrame, other: pd.DataFrame, near: float) -> None:
    assert list(one) == list(other)
    assert len(one) == len(other)
    for column in one:
        if one[column].dtype.kind == "f":
            np.testing.assert_allclose(
                other[column], one[column], rtol=SAME, atol=near, err_msg=str(column)
            )
        else:
            assert (one[column] == other[column]).all(), column


def assert_same_summary(one: Any, other: Any, path: str = "") -> None:
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same_summary(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, float):
        assert math.isclose(one, other, rel_tol=1e-8, abs_tol=1e-8) or one != one, (
            path,
            one,
            other,
        )
    else:
        assert one == other, path


def assert_same(scenario: Scenario) -> Run:
    slow, fast = by("simpy", scenario), by("compiled", scenario)
    assert slow.record["engine"] == {"d": "simpy (as asked)"}
    assert fast.record["engine"] == {"d": "compiled"}
    assert_same_tables(slow.requests, fast.requests, 1e-6)
    assert_same_tables(slow.timeseries, fast.timeseries, 1e-8)
    assert_same_summary(slow.summary, fast.summary)
    return fast


@compiles
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_the_kernel_equals_simpy(scenario: Scenario) -> None:
    assert_same(scenario)


def small(**changes: Any) -> Scenario:
    """Return eight seconds of two replicas that are busy enough to queue and to preempt."""
    engine = {"max_num_seqs": 6, "gpu_memory_utilization": 0.221}
    deployment = {"model": "llama-3.1-8b", "replicas": 2, "engine": engine}
    stream = {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "20 /s"},
        "lengths": {
            "prompt": {"uniform": {"low": 1, "high": 600}},
            "output": {"uniform": {"low": 1, "high": 60}},
        },
    }
    given = {
        "duration": "8 s",
        "deployments": {"d": deployment},
        "workload": {"w": stream},
    }
    return site(given | changes)


@compiles
def test_layers_that_keep_a_state_and_scan_prompts_cost_the_same() -> None:
    """At a lower clock too: of Mamba-2, whose scan is computing."""
    given = small().model_dump(exclude_none=True)
    engine = {"profile": "vllm-0.11", "max_num_seqs": 6}
    racks = [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1, "gpu_clock": 0.8}]
    spec = {"model": "nemotron-nano-9b-v2", "replicas": 2, "engine": engine}
    scenario = validate(Scenario, given | {"racks": racks, "deployments": {"d": spec}})
    run = assert_same(scenario)
    assert run.timeseries["clock"].max() < 1.0


@compiles
@pytest.mark.parametrize("block_tokens", [1, 24, 32])
def test_blocks_of_any_size_are_counted_alike(block_tokens: int, tmp_path: Path) -> None:
    """Of a power of two they are told by shifts."""
    profiles = yaml.safe_load(ENGINES.read_text(encoding="utf-8"))
    own = profiles["vllm"]
    own["defaults"]["block_tokens"] = block_tokens
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"own": own}), encoding="utf-8")
    engine = {"profile": str(path), "max_num_seqs": 6, "gpu_memory_utilization": 0.221}
    spec = {"model": "llama-3.1-8b", "replicas": 2, "engine": engine}
    run = assert_same(small(deployments={"d": spec}))
    assert run.requests["preemptions"].sum() > 0


@compiles
def test_the_first_of_the_least_loaded_is_found_among_many() -> None:
    """Loads are compared by the sixteen, and the least of these by the sixteen again."""
    racks = [{"system": "dgx-h100", "count": 35, "servers_per_rack": 4}]
    spec = {"model": "llama-3.1-8b", "replicas": 273}
    stream = {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "120 /s"},
        "lengths": {"prompt": {"fixed": 40}, "output": {"uniform": {"low": 1, "high": 900}}},
    }
    place = {"site": {"grid_limit": "9 MW", "pue": 1.25}, "racks": racks}
    given = place | {"deployments": {"d": spec}, "workload": {"w": stream}}
    run = assert_same(small(duration="20 s", **given))
    assert run.requests["replica"].nunique() == 273


def test_a_gap_is_in_the_bin_where_its_guide_begins_or_in_the_next() -> None:
    starts = guide(np.append(bin_ends(), np.inf))
    assert set(np.diff(starts)) == {0, 1}


@compiles
def test_all_replicas_away_strand_requests_until_one_is_back() -> None:
    everything = {"at": "3.001 s", "what": "rack-0/server-0", "lasts": "2 s"}
    run = assert_same(small(duration="130 s", failures={"schedule": [everything]}, drain="5 s"))
    assert (run.requests["retries"] > 0).any()
    assert run.summary["time_lost"]["loading"] > 0.0


@compiles
def test_requests_that_no_row_could_hold_are_refused_like_all_too_long() -> None:
    endless = {"lognormal": {"median": 1000, "sigma": 12}}
    stream = {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "20 /s"},
        "lengths": {"prompt": endless, "output": endless},
        "cached": endless,
    }
    run = assert_same(small(workload={"w": stream}))
    rejected = run.requests[run.requests["outcome"] == "rejected"]
    assert rejected["prompt_tokens"].max() == 2**30
    with pytest.raises(InputError, match=r"less than or equal to 1073741824, not 2147483648"):
        small(workload={"w": stream | {"lengths": {"prompt": 2**31, "output": 1}}})


@compiles
def test_heat_and_the_chain_of_a_building_reach_the_kernel() -> None:
    run = assert_same(
        small(
            duration="60 s",
            drain="0 s",
            site=building(cooling={"plant": "liquid", "cdu_racks": 1}),
            racks=[{"system": "gb200-nvl72", "count": 1}],
            deployments={"d": {"model": "llama-3.1-70b", "parallelism": {"tp": 8}}},
            workload={
                "w": {
                    "deployment": "d",
                    "arrivals": {"process": "poisson", "rate": "90 /s"},
                    "lengths": {"prompt": 1155, "output": 211},
                }
            },
            failures={"schedule": [{"at": "5 s", "what": "cdu-0", "lasts": "50 s"}]},
        )
    )
    assert run.timeseries["clock"].min() < 1.0
    assert run.summary["time_lost"]["thermally_throttled"] > 0.0


@compiles
def test_deployments_are_numbered_together_and_each_has_its_own_engine() -> None:
    first = small()
    two = first.model_dump(exclude_none=True)
    spec = {"model": "llama-3.1-8b", "replicas": 2, "engine": {"max_num_seqs": 4}}
    two["deployments"] = {"d": spec, "e": spec | {"router": "power-aware"}, "f": spec}
    stream = {
        "arrivals": {"process": "poisson", "rate": "20 /s"},
        "lengths": {"prompt": 100, "output": 20},
    }
    two["workload"] = {name: stream | {"deployment": name} for name in "def"}
    scenario = validate(Scenario, two)
    slow, fast = by("simpy", scenario), by("auto", scenario)
    assert fast.record["engine"] == {
        "d": "compiled",
        "e": "simpy (router power-aware)",
        "f": "compiled",
    }
    assert_same_tables(slow.requests, fast.requests, 1e-6)
    assert_same_tables(slow.timeseries, fast.timeseries, 1e-8)
    assert_same_summary(slow.summary, fast.summary)


@compiles
@pytest.mark.parametrize(
    "arrivals",
    [
        [{"process": "offline", "requests": many} for many in (9, 4, 7)],
        [{"process": "constant", "rate": f"{rate} /s"} for rate in (4, 8, 4)],
    ],
)
def test_streams_that_send_at_once_are_numbered_in_turn(arrivals: list[dict[str, Any]]) -> None:
    given = small().model_dump(exclude_none=True)
    given["deployments"]["e"] = given["deployments"]["d"]
    stream = given["workload"].pop("w")
    for number, (sent, deployment) in enumerate(zip(arrivals, "dde", strict=True)):
        given["workload"][f"w{number}"] = stream | {"arrivals": sent, "deployment": deployment}
    one, other = (by(kernel, validate(Scenario, given)) for kernel in ("simpy", "compiled"))
    assert_same_tables(one.requests, other.requests, 1e-6)
    assert_same_summary(one.summary, other.summary)


@compiles
def test_two_sites_are_served_and_each_deployment_knows_its_own() -> None:
    given = small().model_dump(exclude_none=True)
    place = given.pop("site")
    given["sites"] = {"north": place, "south": place | {"grid_limit": "2 MW"}}
    racks = {"system": "dgx-h100", "count": 1, "servers_per_rack": 1}
    given["racks"] = [racks | {"site": name} for name in given["sites"]]
    spec = given["deployments"]["d"]
    given["deployments"] = {"d": spec | {"site": "north"}, "e": spec | {"site": "south"}}
    given["workload"]["v"] = given["workload"]["w"] | {"deployment": "e"}
    given["failures"] = {
        "schedule": [{"at": "3.001 s", "what": "south/rack-0/server-0/gpu-1", "lasts": "2 s"}]
    }
    scenario = validate(Scenario, given)
    slow, fast = by("simpy", scenario), by("compiled", scenario)
    assert fast.record["engine"] == {"d": "compiled", "e": "compiled"}
    assert_same_tables(slow.requests, fast.requests, 1e-6)
    assert_same_tables(slow.timeseries, fast.timeseries, 1e-8)
    assert_same_summary(slow.summary, fast.summary)
    assert (fast.requests["retries"] > 0).any()


@compiles
def test_requests_of_classes_and_of_few_replicas_for_many_are_served() -> None:
    given = small().model_dump(exclude_none=True)
    given["racks"][0]["count"] = 4
    given["deployments"]["d"]["replicas"] = {"simulate": 8, "represent": 32}
    given["classes"] = {"paid": {"price": {"input": "1 USD/Mtoken", "output": "2 USD/Mtoken"}}}
    given["workload"]["w"]["class"] = "paid"
    given["workload"]["w"]["arrivals"]["rate"] = "160 /s"
    given["site"]["price"] = "0.1 USD/kWh"
    given["costs"] = "us-2025"  # split by whom the joules of a step were for
    found = assert_same(validate(Scenario, given)).summary
    assert found["usd_per_million_by_kind"]["input"] > 0.0


SEES = {"model": "qwen3-vl-8b", "engine": {"max_num_seqs": 6}}


@pytest.mark.parametrize(
    ("deployment", "workload", "why"),
    [
        ({}, {"reasoning": {"tokens": 20}}, "reasoning (workload.w)"),
        (SEES, {"images": {"tokens": 400}}, "images (workload.w)"),
        ({}, {"tenants": {"count": 2}}, "tenants (workload.w)"),
        ({}, {"sessions": {"turns": 2, "think_time": "1 s"}}, "sessions (workload.w)"),
        (
            {},
            {"arrivals": {"process": "closed", "concurrency": 3}},
            "clients who wait for answers (workload.w)",
        ),
        ({"engine": {"prefix_caching": True}}, {"sessions": {"turns": 2}}, "a prefix cache"),
        (
            {"engine": {"host_cache": {"space": "1 GB"}}},
            {"sessions": {"turns": 2}},
            "KV blocks kept elsewhere (engine.host_cache)",
        ),
        ({"router": "sticky"}, {"sessions": {"turns": 2}}, "router sticky"),
        ({"router": "power-aware"}, {}, "router power-aware"),
        ({"parallelism": {"pp": 2}}, {}, "a pipeline (parallelism.pp)"),
        ({"parallelism": {"tp": 2, "cp": 2}}, {}, "context parallelism (parallelism.cp)"),
        (
            {"model": "qwen3-30b-a3b", "parallelism": {"tp": 1, "dp": 2, "ep": 2}},
            {},
            "data-parallel attention (parallelism.dp)",
        ),
        (
            {"engine": {"scheduling": "fair"}},
            {"tenants": {"count": 2}},
            "the order of its queue (engine.scheduling: ",
        ),
        ({"engine": {"preemption": "swap"}}, {}, "swapping (engine.preemption)"),
        (
            {
                "engine": {
                    "speculation": {
                        "num_speculative_tokens": 2,
                        "acceptance": 0.5,
                        "step_time_share": 0.1,
                    }
                }
            },
            {},
            "drafts (engine.speculation)",
        ),
        (
            {"replicas": 1, "prefill": {"replicas": 1, "kv_link": "wire"}},
            {},
            "prefill in a pool of its own",
        ),
        ({"autoscaling": {"policy": "reactive", "outstanding": 4}}, {}, "autoscaling"),
        ({"partition": "3g.40gb"}, {}, "parts of GPUs (partition)"),
        (
            {"model": "gpt-oss-20b", "precision": "mxfp4", "precision_fallback": True},
            {},
            "sliding windows of gpt-oss-20b",
        ),
    ],
)
def test_what_the_kernel_cannot_do_is_named(
    deployment: dict[str, Any], workload: dict[str, Any], why: str
) -> None:
    given = small().model_dump(exclude_none=True)
    given["duration"] = "2 s"
    given["network"] = {"links": {"wire": {"bandwidth": "100 GB/s"}}}
    if "prefill" not in deployment:
        del given["network"]
    given["deployments"]["d"] = {
        "model": "llama-3.1-8b",
        "replicas": 2,
        **deployment,
    }
    given["workload"]["w"] |= workload
    assert_named(given, why)


def assert_named(given: dict[str, Any], why: str) -> None:
    scenario = validate(Scenario, given)
    told = by("auto", scenario).record["engine"]
    assert why in told["d"]
    assert all(engine.startswith("simpy (") for engine in told.values())
    with pytest.raises(InputError, match="the compiled kernel cannot serve d: ") as error:
        by("compiled", scenario)
    assert why in str(error.value)
    assert "say 'auto', which takes SimPy where it must" in str(error.value)


def test_check_names_it_too() -> None:
    given = small(kernel="compiled").model_dump(exclude_none=True)
    given["deployments"]["d"]["router"] = {"policy": "power-aware"}
    (problem,) = check(validate(Scenario, given)).problems
    assert problem.path == "kernel"
    assert "cannot serve d: router power-aware" in problem.message
    assert check(small(kernel="compiled")).problems == ()


def test_front_doors_are_named() -> None:
    given = small().model_dump(exclude_none=True)
    spec = given["deployments"]["d"] | {"users_link": "wire"}
    assert_named(
        given
        | {"deployments": {"d": spec}, "network": {"links": {"wire": {"bandwidth": "1 GB/s"}}}},
        "front doors of links to users (deployments.d.users_link)",
    )
    assert_named(
        given | {"regions": {"here": {"round_trip": "20 ms"}}},
        "front doors of regions",
    )
    given["deployments"]["e"] = given["deployments"]["d"]
    given["services"] = {"both": {"policy": "least-outstanding", "deployments": ["d", "e"]}}
    given["workload"]["w"]["deployment"] = "both"
    assert_named(given, "front doors of services")


SERVED_OR_NAMED: dict[type[Frozen], str] = {
    Scenario: "name seed starts_at duration warmup drain site_ sites racks provisioning power "
    "failures network deployments classes services regions workload training catalog kernel "
    "recording costs prices",
    Deployment: "model precision kv_precision precision_fallback parallelism replicas engine "
    "step_time router slo system site users_link partition power_priority prefill encoder "
    "autoscaling",
    Parallelism: "tp cp pp dp ep expert_skew redundant_experts",
    EngineSpec: "profile batching max_num_seqs max_num_batched_tokens gpu_memory_utilization "
    "max_model_len max_queue async_scheduling prefix_caching scheduling preemption swap_space "
    "swap_bandwidth host_cache nvme_cache speculation",
    WorkloadSpec: "deployment arrivals lengths mix cached round_trip timeout class_ tenants "
    "sessions reasoning images regions",
}
"""Fields that the kernel serves, or that `choice` names; who adds one decides which."""


@pytest.mark.parametrize("kind", SERVED_OR_NAMED, ids=lambda kind: kind.__name__)
def test_no_field_is_forgotten(kind: type[Frozen]) -> None:
    assert set(kind.model_fields) == set(SERVED_OR_NAMED[kind].split())


def test_clients_elsewhere_who_wait_are_named() -> None:
    given = small().model_dump(exclude_none=True)
    given["deployments"]["e"] = given["deployments"]["d"]
    given["workload"]["v"] = given["workload"]["w"] | {
        "deployment": "e",
        "arrivals": {"process": "closed", "concurrency": 2},
    }
    assert_named(given, "clients elsewhere who wait for answers (workload.v)")


def test_clients_who_wait_for_answers_are_served_by_simpy() -> None:
    stream = {
        "deployment": "d",
        "arrivals": {"process": "closed", "concurrency": 3},
        "lengths": {"prompt": 100, "output": 20},
    }
    run = by("auto", small(workload={"w": stream}))
    told = "simpy (clients who wait for answers (workload.w))"
    assert run.record["engine"] == {"d": told}


def test_debug_recounts_on_simpy() -> None:
    scenario = small().model_copy(update={"kernel": "auto"})
    told = simulate(scenario, debug=True).record["engine"]
    assert told == {"d": "simpy (debug recounts at every boundary)"}


def test_without_numba_everything_runs_on_simpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "numba", None)
    told = "numba is not installed (pip install numba)"
    assert by("auto", small()).record["engine"] == {"d": f"simpy ({told})"}
    with pytest.raises(InputError, match="cannot serve d: numba is not installed"):
        by("compiled", small())


@compiles
def test_the_same_seed_gives_the_same_bytes() -> None:
    one, other = (by("compiled", small(seed=7)) for _ in range(2))
    pd.testing.assert_frame_equal(one.requests, other.requests, check_exact=True)
    pd.testing.assert_frame_equal(one.timeseries, other.timeseries, check_exact=True)
