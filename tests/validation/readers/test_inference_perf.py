"""Reports of inference-perf as cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.validation.readers.making import KNOWN, metrics_of, problems, read, read_one, write

TOOL = "inference-perf"


def summary(mean: float, low: float, median: float, p90: float, high: float) -> dict[str, float]:
    return {
        "mean": mean,
        "min": low,
        "max": high,
        "p0.1": low,
        "p1": low,
        "p5": low,
        "p10": low,
        "p25": low,
        "median": median,
        "p75": median,
        "p90": p90,
        "p95": p90,
        "p99": high,
        "p99.9": high,
    }


def tokens(value: float) -> dict[str, float]:
    return {"total": value * 240, **summary(value, value, value, value, value)}


# 240 requests in 60 s and a last answer 1 s later: 500 and 100 tokens.
STAGE: dict[str, Any] = {
    "benchmark_time_seconds": 61.0,
    "load_summary": {
        "count": 240,
        "schedule_delay": summary(0.001, 0.0, 0.001, 0.002, 0.004),
        "send_duration": 59.8,
        "requested_rate": 4.0,
        "achieved_rate": 4.013,
    },
    "successes": {
        "count": 240,
        "latency": {
            "request_latency": summary(1.045, 1.03, 1.044, 1.06, 1.1),
            "normalized_time_per_output_token": summary(0.01045, 0.0103, 0.01044, 0.0106, 0.011),
            "time_per_output_token": summary(0.0101, 0.0098, 0.01, 0.0104, 0.011),
            "time_to_first_token": summary(0.0543, 0.05, 0.0539, 0.0584, 0.0712),
            "inter_token_latency": summary(0.0101, 0.008, 0.0097, 0.012, 0.06),
        },
        "throughput": {"output_tokens_per_sec": 397.1, "total_tokens_per_sec": 2364.3},
        "prompt_tokens": {**tokens(500.0), "cached": 0.0, "uncached": 120000.0},
        "output_len": summary(101.0, 100.0, 101.0, 101.0, 102.0),
        "output_tokens": tokens(100.0),
    },
    "failures": {"count": 0, "request_latency": None},
}
FILE = "stage_0_lifecycle_metrics.json"


def stage(tmp_path: Path, name: str = FILE, **changes: Any) -> Path:
    data = {key: dict(value) if isinstance(value, dict) else value for key, value in STAGE.items()}
    for path, value in changes.items():
        *above, last = path.split("__")
        part: Any = data
        for key in above:
            part[key] = dict(part[key])
            part = part[key]
        part[last] = value
    return write(tmp_path / "reports" / name, data)


def config(tmp_path: Path, load: str, name: str = "config.yaml") -> None:
    path = tmp_path / "reports" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"server: {{model_name: meta-llama/Llama-3.1-8B-Instruct}}\nload: {load}\n",
        encoding="utf-8",
    )


def test_a_stage_at_a_rate_with_seconds_turned_into_ms(tmp_path: Path) -> None:
    config(tmp_path, "{type: constant, stages: [{rate: 4.0, duration: 60}]}")
    found = read_one(TOOL, stage(tmp_path), {**KNOWN, "model": None})
    assert found["id"] == "reports-stage-0"
    assert found["source"] == "stage_0_lifecycle_metrics.json: inference-perf"
    assert found["model"] == "llama-3.1-8b"
    assert "note" not in found
    # Its `constant` draws exponential gaps.
    assert found["load"] == {
        "kind": "open",
        "arrivals": "poisson",
        "rate": "4.0 /s",
        "requests": 240,
    }
    assert found["lengths"] == {"prompt": 500, "output": 100}
    assert metrics_of(found) == {
        "ttft_mean_ms": 54.3,
        "ttft_p50_ms": 53.9,
        "ttft_p90_ms": 58.4,
        "ttft_p99_ms": 71.2,
        "tpot_mean_ms": 10.1,
        "tpot_p50_ms": 10.0,
        "e2e_mean_ms": 1045.0,
        "e2e_p50_ms": 1044.0,
        "e2e_p90_ms": 1060.0,
        "e2e_p99_ms": 1100.0,
        "itl_p50_ms": 9.7,
        # 24,000 tokens by the server's count in 61 s; its own rate counts the text anew.
        "output_tok_s": 393.442623,
        "total_tok_s": 2360.655738,
    }


def test_a_concurrent_stage_is_a_closed_load(tmp_path: Path) -> None:
    config(tmp_path, "{type: concurrent}")
    clients = {"load_summary__requested_rate": 240, "load_summary__concurrency": 8}
    found = read_one(TOOL, stage(tmp_path, **clients))
    assert found["load"] == {"kind": "closed", "concurrency": 8, "requests": 240}
    clients["load_summary__concurrency"] = 240
    found = read_one(TOOL, stage(tmp_path, **clients))
    assert found["load"] == {"kind": "offline", "requests": 240}


def test_a_folder_is_a_case_for_each_stage(tmp_path: Path) -> None:
    stage(tmp_path)
    stage(tmp_path, "stage_1_lifecycle_metrics.json", load_summary__requested_rate=8.0)
    path = stage(tmp_path, "summary_lifecycle_metrics.json")
    found = read(TOOL, path.parent)
    assert [(case["id"], case["load"]["rate"]) for case in found] == [
        ("reports-stage-0", "4.0 /s"),
        ("reports-stage-1", "8.0 /s"),
    ]
    note = "load taken to be constant or poisson: there is no config.yaml"
    assert {case["note"] for case in found} == {note}


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (
            "{type: poisson, stages: [{rate: 4.0, duration: 60}]}",
            {"kind": "open", "arrivals": "poisson", "rate": "4.0 /s", "requests": 240},
        ),
        (
            "{type: concurrent, stages: [{num_requests: 240, concurrency_level: 8}]}",
            {"kind": "closed", "concurrency": 8, "requests": 240},
        ),
    ],
)
def test_a_summary_takes_its_load_from_the_config_of_a_single_stage(
    tmp_path: Path, load: str, expected: dict[str, Any]
) -> None:
    summed = {"count": 240, "schedule_delay": summary(0.001, 0.0, 0.001, 0.002, 0.004)}
    path = stage(tmp_path, "night_summary_lifecycle_metrics.json", load_summary=summed)
    assert problems(TOOL, path) == [
        "night_summary_lifecycle_metrics.json: load_summary.requested_rate: is missing: a summary "
        "mixes the stages of a run; give the folder, or a stage_N_lifecycle_metrics.json"
    ]
    config(tmp_path, load, "night_config.yaml")
    found = read_one(TOOL, path.parent)
    assert (found["id"], found["load"]) == ("reports", expected)


def test_what_the_cache_held_is_the_cached_length(tmp_path: Path) -> None:
    held = {**tokens(500.0), "cached": 240 * 480.0}
    path = stage(tmp_path, successes__prompt_tokens=held)
    assert read_one(TOOL, path)["lengths"] == {"prompt": 500, "output": 100, "cached": 480}


def test_lengths_that_vary_are_a_distribution(tmp_path: Path) -> None:
    spread = {"total": 240 * 620.0, **summary(620.0, 100.0, 500.0, 1200.0, 3000.0)}
    found = read_one(TOOL, stage(tmp_path, successes__prompt_tokens=spread))["lengths"]["prompt"]
    assert found["quantiles"][0] == [0.0, 100.0]
    assert [0.5, 500.0] in found["quantiles"]
    assert [0.999, 3000.0] in found["quantiles"]


def test_gaps_of_0_within_a_chunk_are_no_itl(tmp_path: Path) -> None:
    bundled = summary(0.0101, 0.0, 0.02, 0.021, 0.06)
    path = stage(tmp_path, successes__latency__inter_token_latency=bundled)
    assert "itl_p50_ms" not in read_one(TOOL, path)["measured"]


def test_failed_and_retried_requests_are_lost(tmp_path: Path) -> None:
    path = stage(
        tmp_path,
        successes__count=220,
        failures__count=20,
        retries={"requests_retried": 10, "recovered": 10},
    )
    found = read_one(TOOL, path)
    assert found["note"].startswith("30 of 240 requests did not complete; ")
    assert set(found["measured"]) == {"ttft_p50_ms", "e2e_p50_ms", "tpot_p50_ms", "itl_p50_ms"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"successes__count": 0, "failures__count": 240},
            f"{FILE}: no request completed, of 240; nothing to compare",
        ),
        (
            {"successes__latency__time_to_first_token": {"mean": float("nan")}},
            f"{FILE}: successes.latency.time_to_first_token.mean: is nan, which is no measurement",
        ),
        (
            {"load_summary__schedule_delay": {"mean": 2.0}},
            f"{FILE}: requests were sent 2000 ms late in the mean, with a mean latency of 1045 ms: "
            "the client did not keep its rate, and a simulation would; measure again with more "
            "client processes and no limit on requests in flight",
        ),
        (
            {"load_summary__requested_rate": 3.0, "load_summary__concurrency": 8},
            f"{FILE}: load_summary.requested_rate: 240 requests were sent of 3 offered at once: a "
            "stage cut short, or one that replays sessions, is no load of a case",
        ),
        (
            {"successes__output_tokens": None},
            f"{FILE}: successes.output_tokens: is missing: written by an inference-perf older than "
            "0.7",
        ),
        (
            {"successes": None},
            f"{FILE}: is no report of inference-perf, which holds load_summary and successes",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    assert problems(TOOL, stage(tmp_path, **changes)) == [problem]


def test_a_replayed_trace_is_refused(tmp_path: Path) -> None:
    config(tmp_path, "{type: trace_replay}")
    assert problems(TOOL, stage(tmp_path)) == [
        "config.yaml: load.type: 'trace_replay' is no load of a case; known are constant, poisson "
        "and concurrent"
    ]


def test_a_folder_without_reports_is_named(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    assert problems(TOOL, tmp_path / "reports") == [
        "reports: holds no stage_N_lifecycle_metrics.json of inference-perf"
    ]
