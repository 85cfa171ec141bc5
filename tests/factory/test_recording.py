"""What is recorded of requests changes nothing but what is kept of them."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.errors import InputError
from factory_sim.factory import run as running
from factory_sim.factory.results.recorder import _hashed
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.metrics.spread import ERROR
from factory_sim.report import folder
from factory_sim.report.plots import plots_of
from factory_sim.report.summary import lines
from factory_sim.scenario.load import load
from factory_sim.scenario.recording import Recording
from factory_sim.scenario.scenario import Scenario
from tests.factory import several_sites
from tests.factory.small import small_scenario

SAME = 1e-12
QUANTILES = re.compile(r"_ms\.p\d\d$|value_ms$|^interactivity|\.interactivity")
ENDS = re.compile(r"confidence\..*\.p\d\d$")
EXAMPLES = settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))


def recorded(scenario: Scenario, recording: Any, kernel: str = "simpy") -> Run:
    spec = validate(Recording, recording)
    return simulate(scenario.model_copy(update={"recording": spec, "kernel": kernel}))


def leaves(summary: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(summary, dict):
        for key, value in summary.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, summary


def assert_tallied(full: Run, counted: Run, near: float = SAME) -> None:
    """Assert that a summary from counts is that of all rows, but for what only rows can tell.

    Ends of intervals of percentiles are of few requests here, and fall between other ranks.
    """
    one, other = (
        {path: value for path, value in leaves(run.summary) if not ENDS.search(path)}
        for run in (full, counted)
    )
    of_rows = ("stations.", "takt_time_s")
    assert {path for path in one if not any(part in path for part in of_rows)} == set(other)
    for path, value in other.items():
        if QUANTILES.search(path) and "itl_ms" not in path:
            assert value == pytest.approx(one[path], rel=ERROR * (1 + 1e-9)), path
        elif isinstance(value, float):
            # A deviation is what is left of larger numbers.
            rel = 1e-9 if path.endswith(".std") or "confidence" in path else near
            assert value == pytest.approx(one[path], rel=rel, abs=1e-9 if rel > SAME else 0), path
        else:
            assert value == one[path], path
    pd.testing.assert_frame_equal(full.timeseries, counted.timeseries)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Draw a deployment that is busy enough for time-outs, refusals and what is left over."""
    slo = draw(st.sampled_from([None, {"ttft": "60 ms", "tpot": "7 ms", "percentile": 90}]))
    engine = {"max_num_seqs": 2, "max_queue": 4} if draw(st.booleans()) else {"max_num_seqs": 3}
    stream = {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": f"{draw(st.integers(5, 40))} /s"},
        "lengths": {
            "prompt": {"uniform": {"low": 1, "high": 600}},
            "output": {"uniform": {"low": 1, "high": 60}},
        },
        "round_trip": draw(st.sampled_from(["0 ms", "20 ms"])),
    }
    patient, hasty = stream, stream | {"timeout": "400 ms"}
    deployment = {"model": "llama-3.1-8b", "replicas": 2, "engine": engine}
    return validate(
        Scenario,
        {
            "name": "recorded",
            "seed": draw(st.integers(0, 99)),
            "duration": "6 s",
            "warmup": draw(st.sampled_from(["0 s", "2 s"])),
            "drain": draw(st.sampled_from(["0 s", "60 s"])),
            "site": {"grid_limit": "100 kW", "pue": 1.25},
            "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
            "deployments": {"d": deployment | ({"slo": slo} if slo else {})},
            "workload": {"one": patient, "two": hasty} if draw(st.booleans()) else {"one": hasty},
        },
    )


def sample_of(full: Run, share: float, kernel: str = "simpy") -> Run:
    """Return the same run with a sample, which is held to be part of the full one."""
    drawn = recorded(full.scenario, {"keep": "sample", "share": share}, kernel)
    own = full.requests["request_id"].isin(drawn.requests["request_id"])
    pd.testing.assert_frame_equal(full.requests[own].reset_index(drop=True), drawn.requests)
    return drawn


@EXAMPLES
@given(scenarios(), st.integers(1, 40))
def test_counts_say_what_rows_say(scenario: Scenario, at_once: int) -> None:
    full = recorded(scenario, "full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "AT_ONCE", at_once)  # so that rows are handed over as the run goes
        assert_tallied(full, recorded(scenario, "aggregate"))
        assert_tallied(full, sample_of(full, 0.3))


@pytest.mark.slow
@EXAMPLES
@given(scenarios())
def test_the_kernel_counts_the_same(scenario: Scenario) -> None:
    pytest.importorskip("numba")
    full = recorded(scenario, "full", "compiled")
    assert full.record["engine"] == {"d": "compiled"}
    assert_tallied(full, recorded(scenario, "aggregate", "compiled"))
    drawn = sample_of(full, 0.3, "compiled")
    by_simpy = recorded(scenario, {"keep": "sample", "share": 0.3}).requests
    assert drawn.requests["request_id"].tolist() == by_simpy["request_id"].tolist()
    np.testing.assert_allclose(drawn.requests["e2e_ms"], by_simpy["e2e_ms"], rtol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ["configs/classes.yaml", "duration=40 s", "warmup=10 s"],
        ["configs/reasoning.yaml", "duration=60 s", "warmup=10 s"],
        ["configs/encoder.yaml", "duration=10 s", "warmup=2 s"],
        ["configs/fabric.yaml", "duration=20 s", "warmup=1 s", "failures.schedule.0.at=5 s"],
    ],
    ids=lambda given: Path(given[0]).stem,
)
def test_counts_know_classes_reasoning_images_and_transfers(overrides: list[str]) -> None:
    scenario = load(Path(__file__).parents[2] / overrides[0], overrides[1:])
    assert_tallied(recorded(scenario, "full"), recorded(scenario, "aggregate"))


@pytest.mark.slow
def test_counts_know_sites() -> None:
    scenario = several_sites.two(duration="10 s")
    assert_tallied(recorded(scenario, "full"), recorded(scenario, "aggregate"))


def several() -> Scenario:
    given = small_scenario(duration="30 s").model_dump(exclude_none=True)
    spec, stream = given["deployments"]["d"], given["workload"]["w"]
    given["deployments"] = {"d": spec, "e": spec}
    given["workload"] = {"w": stream, "v": stream | {"deployment": "e"}}
    return validate(Scenario, given)


def test_of_several_deployments_each_numbers_its_own() -> None:
    full = recorded(several(), "full").requests
    drawn = recorded(several(), {"keep": "sample", "share": 0.4}).requests
    for name in ("d", "e"):
        own = full[full["deployment"] == name].reset_index(drop=True)
        ours = drawn[drawn["deployment"] == name].set_index("request_id")
        assert len(ours) > 0
        pd.testing.assert_frame_equal(
            own.drop(columns="request_id").loc[ours.index], ours, check_names=False
        )


@pytest.mark.slow
def test_of_several_deployments_the_sample_is_the_same_by_both_engines() -> None:
    pytest.importorskip("numba")
    how = {"keep": "sample", "share": 0.4}
    one, other = (recorded(several(), how, kernel).requests for kernel in ("simpy", "compiled"))
    same = ["request_id", "deployment", "workload", "arrival_s", "output_tokens"]
    pd.testing.assert_frame_equal(one[same], other[same])


@pytest.mark.slow
def test_of_pods_the_sample_is_the_same_by_both_engines() -> None:
    pytest.importorskip("numba")
    given = several().model_dump(exclude_none=True)
    spec, stream = given["deployments"]["d"], given["workload"]["w"]
    given["deployments"] = {"d": spec | {"replicas": 2, "router": {"pods": 2}}}
    given["workload"] = {"w": stream, "v": stream}
    pods, how = validate(Scenario, given), {"keep": "sample", "share": 0.4}
    one, other = (recorded(pods, how, kernel).requests for kernel in ("simpy", "compiled"))
    assert one["request_id"].is_unique
    same = ["request_id", "deployment", "workload", "arrival_s", "output_tokens"]
    pd.testing.assert_frame_equal(one[same], other[same])


def test_drafts_fare_the_same_whatever_is_recorded() -> None:
    given = several().model_dump(exclude_none=True)
    for spec in given["deployments"].values():
        drafts = {"draft": "ngram", "num_speculative_tokens": 3, "acceptance": 0.6}
        spec["engine"] = {**(spec.get("engine") or {}), "speculation": drafts}
    drafting = validate(Scenario, given)
    full, counted = (recorded(drafting, how).summary for how in ("full", "aggregate"))
    assert full["speculation"] == counted["speculation"]
    for name in ("d", "e"):
        one, other = (summary["deployments"][name]["tpot_ms"] for summary in (full, counted))
        assert one["mean"] == pytest.approx(other["mean"], rel=1e-12)


def test_a_sample_is_drawn_by_the_seed_and_about_as_large_as_asked() -> None:
    drawn = [_hashed(np.arange(100_000), np.uint64(seed)) for seed in (1, 2)]
    for numbers in drawn:
        assert numbers.min() >= 0.0
        assert numbers.max() < 1.0
        for share in (0.001, 0.1, 0.5):  # within five standard deviations of a coin
            off = abs(np.count_nonzero(numbers < share) - 100_000 * share)
            assert off < 5 * np.sqrt(100_000 * share * (1 - share))
    both = np.count_nonzero((drawn[0] < 0.1) & (drawn[1] < 0.1))
    assert abs(both - 1_000) < 5 * np.sqrt(1_000)  # two seeds draw as two coins do
    busy = small_scenario(duration="60 s", rate="20 /s")
    one, other = (
        recorded(busy.model_copy(update={"seed": seed}), "sample").requests for seed in (1, 2)
    )
    assert one["request_id"].tolist() != other["request_id"].tolist()
    assert 0 < len(one) < 40  # one per cent of 1,200, unless told


def test_without_rows_none_are_saved_and_who_asks_is_told(tmp_path: Path) -> None:
    run = recorded(small_scenario(), "aggregate")
    with pytest.raises(InputError, match="'aggregate' keeps no rows of requests; say 'sample'"):
        _ = run.requests
    out = folder.save(run, tmp_path / "run", plots=False)
    assert not (out / "requests.parquet").exists()
    saved = folder.read(out)
    assert saved.requests is None
    assert "latency" not in plots_of(saved)
    assert "flow" in plots_of(saved)
    record = json.loads((out / "run.json").read_text())
    assert record["recording"] == {"keep": "aggregate", "quantile_error": 0.0025}
    told = "\n".join(lines("small", saved.summary, saved.record))
    assert "within 0.25 % of their value, of all requests" in told
    assert "none: requests were counted as they left" in told


def test_a_sample_is_saved_and_plotted_as_one(tmp_path: Path) -> None:
    run = recorded(small_scenario(rate="20 /s"), {"keep": "sample", "share": 0.25})
    saved = folder.read(folder.save(run, tmp_path / "run", plots=False))
    assert saved.requests is not None
    assert len(saved.requests) == len(run.requests) < run.summary["requests_arrived"] / 2
    axes = plots_of(saved)["latency"](saved).axes[0]
    assert axes.get_ylabel() == "share of requests (25 % sampled)"
    assert saved.record["recording"]["share"] == 0.25
    told = "\n".join(lines("small", saved.summary, saved.record))
    assert "of 25 % of requests, drawn by the seed" in told


def test_all_rows_are_the_default() -> None:
    run = simulate(small_scenario())
    assert run.record["recording"] == {"keep": "full"}
    assert len(run.requests) == run.summary["requests_arrived"]


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ("some", "recording.keep: must be 'full', 'sample' or 'aggregate', not 'some'"),
        ({"keep": "sample", "share": 0.0}, "recording.share: must be greater than 0, not 0"),
        ({"keep": "sample", "share": 1.5}, "recording.share: must be less than or equal to 1"),
        (
            {"keep": "aggregate", "share": 0.1},
            "recording: 'aggregate' draws no sample; leave out 'share', or keep a sample",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(recording: Any, message: str) -> None:
    given = small_scenario().model_dump(exclude_none=True) | {"recording": recording}
    with pytest.raises(InputError, match=re.escape(message)):
        validate(Scenario, given)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("agents", "sessions (workload.agents) need"),
        ("cascade", "services need"),
        ("regions", "services and regions need"),
    ],
)
def test_what_needs_a_row_of_each_request_is_refused(config: str, why: str) -> None:
    path = Path(__file__).parents[2] / "configs" / f"{config}.yaml"
    with pytest.raises(InputError, match=re.escape(why)):
        load(path, ["recording=aggregate"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_requests() -> None:
    pytest.importorskip("numba")
    path = Path(__file__).parents[2] / "configs" / "million_requests.yaml"
    fewer = [
        "racks.0.count=1",
        "deployments.chat.replicas=32",
        "workload.chat.arrivals.rate=172 /s",
    ]

    def peak_mib(duration: str, recording: str) -> tuple[int, float]:
        overrides = [*fewer, "kernel=compiled", "power.period=10 s"]
        scenario = load(path, [*overrides, f"duration={duration}", f"recording={recording}"])
        tracemalloc.start()
        try:
            run = simulate(scenario)
            return run.summary["requests_arrived"], tracemalloc.get_traced_memory()[1] / 2**20
        finally:
            tracemalloc.stop()

    peak_mib("60 s", "aggregate")  # what is imported and compiled once does not count
    few, many = peak_mib("1150 s", "aggregate"), peak_mib("11500 s", "aggregate")
    assert few[0] > 190_000
    assert many[0] > 1_900_000
    # Measured: 12 MiB and 12; 78 with a row for each of the few.
    assert many[1] < few[1] + 5
    assert peak_mib("1150 s", "full")[1] > few[1] + 24  # or this measures nothing
