"""Reports of GuideLLM as cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.validation.readers.making import KNOWN, metrics_of, problems, read, read_one, write

TOOL = "guidellm"


def stats(mean: float, low: float, p50: float, p90: float, p99: float, high: float) -> Any:
    """Return a distribution summary of the report; what lies between is put below."""
    percentiles = {
        **dict.fromkeys(("p001", "p01", "p05", "p10", "p25"), low),
        "p50": p50,
        "p75": p50,
        "p90": p90,
        "p95": p90,
        "p99": p99,
        "p999": p99,
    }
    return {"mean": mean, "median": p50, "min": low, "max": high, "percentiles": percentiles}


NOTHING = stats(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def by_status(successful: Any, total: Any = None) -> dict[str, Any]:
    return {
        "successful": successful,
        "errored": NOTHING,
        "incomplete": NOTHING,
        "total": total or successful,
    }


def equal(value: float) -> Any:
    return stats(value, value, value, value, value, value)


def rate(mean: float) -> Any:
    return stats(mean, 0.0, 0.9 * mean, 2.0 * mean, 3.0 * mean, 9.0 * mean)


def benchmark(strategy: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a benchmark of 120 requests, 500 and 100 tokens each, at about 4/s."""
    counts = {"successful": 120, "errored": 0, "incomplete": 0, "total": 120}
    metrics = {
        "request_totals": counts,
        "request_latency": by_status(stats(1.045, 1.031, 1.044, 1.06, 1.09, 1.1)),
        "request_dispatch_delay": by_status(equal(0.002)),
        "time_to_first_token_ms": by_status(stats(54.3, 50.0, 53.9, 58.4, 71.2, 74.0)),
        "time_per_output_token_ms": by_status(equal(10.45)),
        "inter_token_latency_ms": by_status(stats(10.01, 9.7, 10.0, 10.2, 10.4, 10.5)),
        "prompt_token_count": by_status(equal(500.0)),
        "output_token_count": by_status(equal(100.0)),
        "output_tokens_per_second": by_status(rate(386.0), total=rate(391.0)),
        "tokens_per_second": by_status(rate(2316.0), total=rate(2346.0)),
    }
    found = {
        "type_": "generative_benchmark",
        "config": {
            "id_": "8d079c81",
            "strategy": {"max_concurrency": None, **strategy},
            "warmup": {"percent": None, "value": None, "mode": "prefer_duration"},
            "cooldown": {"percent": None, "value": None, "mode": "prefer_duration"},
        },
        "scheduler_metrics": {"requests_made": counts},
        "metrics": metrics,
        "requests": {"successful": [], "errored": [], "incomplete": []},
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        part: Any = found
        for key in above:
            part = part[key]
        part[last] = value
    return found


def report(tmp_path: Path, *benchmarks: dict[str, Any], **changes: Any) -> Path:
    data = {
        "metadata": {"version": 2, "guidellm_version": "0.8.1"},
        "config": {
            "metadata": {"labels": {}},
            "spec": {"backend": {"model": "meta-llama/Llama-3.1-8B-Instruct"}},
        },
        "benchmarks": list(benchmarks),
    }
    return write(tmp_path / "sweep" / "benchmarks.json", data | changes)


CONSTANT = {"type_": "constant", "rate": 4.0, "rampup_duration": 0.0}
CONCURRENT = {"type_": "concurrent", "streams": 16, "rampup_duration": 0.0}


def single(prompt: int, output: int, itl_ms: float | None, cached: int | None = None) -> Any:
    return {
        "info": {"turn_index": 0},
        "prompt_tokens": prompt,
        "output_tokens": output,
        "cached_tokens": cached,
        "inter_token_latency_ms": itl_ms,
    }


def test_a_rate_is_an_open_load_with_seconds_turned_into_ms(tmp_path: Path) -> None:
    found = read_one(TOOL, report(tmp_path, benchmark(CONSTANT)))
    assert found["id"] == "sweep-0-constant"
    assert found["source"] == "benchmarks.json: GuideLLM, benchmark 8d079c81"
    assert found["model"] == "llama-3.1-8b"
    assert found["load"] == {
        "kind": "open",
        "arrivals": "constant",
        "rate": "4.0 /s",
        "requests": 120,
    }
    assert found["lengths"] == {"prompt": 500, "output": 100}
    assert metrics_of(found) == {
        "ttft_mean_ms": 54.3,
        "ttft_p50_ms": 53.9,
        "ttft_p90_ms": 58.4,
        "ttft_p99_ms": 71.2,
        "e2e_mean_ms": 1045.0,
        "e2e_p50_ms": 1044.0,
        "e2e_p90_ms": 1060.0,
        "e2e_p99_ms": 1090.0,
        # Its own time_per_output_token_ms, 10.45 with the first token, is another quantity.
        "tpot_mean_ms": 10.01,
        "tpot_p50_ms": 10.0,
        "output_tok_s": 386.0,
        "total_tok_s": 2316.0,
    }


@pytest.mark.parametrize(
    ("strategy", "load"),
    [
        ({"type_": "poisson", "rate": 2.5}, {"kind": "open", "arrivals": "poisson"}),
        (CONCURRENT, {"kind": "closed", "concurrency": 16}),
        ({"type_": "synchronous"}, {"kind": "closed", "concurrency": 1}),
        ({"type_": "throughput", "rampup_duration": 0.0}, {"kind": "offline"}),
        (
            {"type_": "throughput", "max_concurrency": 32},
            {"kind": "closed", "concurrency": 32},
        ),
    ],
)
def test_the_strategy_makes_the_load(
    tmp_path: Path, strategy: dict[str, Any], load: dict[str, Any]
) -> None:
    rate = {"rate": "2.5 /s"} if load["kind"] == "open" else {}
    found = read_one(TOOL, report(tmp_path, benchmark(strategy)))
    assert found["load"] == {**load, **rate, "requests": 120}


def test_a_sweep_is_a_case_for_each_of_its_benchmarks(tmp_path: Path) -> None:
    path = report(tmp_path, benchmark({"type_": "synchronous"}), benchmark(CONSTANT))
    found = read(TOOL, path.parent)  # the folder will do
    assert [case["id"] for case in found] == ["sweep-0-synchronous", "sweep-1-constant"]


def test_times_per_token_come_from_single_requests_where_lengths_differ(tmp_path: Path) -> None:
    uneven = {
        "metrics__request_totals": {"successful": 3, "errored": 0, "incomplete": 0, "total": 3},
        "metrics__output_token_count": by_status(stats(70.0, 10.0, 50.0, 150.0, 150.0, 150.0)),
    }
    alone = read_one(TOOL, report(tmp_path, benchmark(CONSTANT, **uneven)))
    assert not [name for name in alone["measured"] if name.startswith(("tpot", "itl"))]
    singles = [single(400, 10, 8.0, 384), single(500, 50, 9.0, 480), single(600, 150, 13.0)]
    path = report(tmp_path, benchmark(CONSTANT, **uneven, requests__successful=singles))
    found = read_one(TOOL, path)
    assert found["measured"]["tpot_mean_ms"] == 10.0  # a token-weighted mean is 11.8
    assert found["measured"]["tpot_p50_ms"] == 9.0
    assert found["lengths"]["cached"] == 288
    assert found["lengths"]["rank_correlation"] == 1.0
    assert found["lengths"]["output"]["quantiles"][0] == [0.0, 10.0]


def test_a_run_cut_off_by_its_duration_is_a_steady_load(tmp_path: Path) -> None:
    counts = {"successful": 114, "errored": 0, "incomplete": 6, "total": 120}
    path = report(tmp_path, benchmark(CONCURRENT, metrics__request_totals=counts))
    found = read_one(TOOL, path)
    assert found["load"]["steady"] is True
    assert found["note"] == "6 of 120 requests did not complete"
    # Five in a hundred are missing: means and the last percentile with them. The rates count
    # the tokens of those cut off too.
    assert set(found["measured"]) == {
        "ttft_p50_ms",
        "ttft_p90_ms",
        "e2e_p50_ms",
        "e2e_p90_ms",
        "tpot_p50_ms",
        "output_tok_s",
        "total_tok_s",
    }
    assert found["measured"]["output_tok_s"] == 391.0


def test_a_run_too_short_to_be_steady_has_no_rates(tmp_path: Path) -> None:
    counts = {"successful": 114, "errored": 0, "incomplete": 6, "total": 120}
    path = report(tmp_path, benchmark(CONSTANT, metrics__request_totals=counts))
    found = read_one(TOOL, path)  # of an engine that runs 256 at once
    assert "steady" not in found["load"]
    assert not [name for name in found["measured"] if name.endswith("_tok_s")]
    few = {**KNOWN, "engine": {"profile": "vllm", "max_num_seqs": 60}}
    assert read_one(TOOL, path, few)["load"]["steady"] is True


def test_a_warm_up_takes_the_first_burst_out_of_a_closed_load(tmp_path: Path) -> None:
    path = report(tmp_path, benchmark(CONCURRENT, config__warmup__percent=0.1))
    found = read_one(TOOL, path)
    assert found["load"]["steady"] is True
    assert set(found["measured"]) == {"tpot_mean_ms", "tpot_p50_ms", "output_tok_s", "total_tok_s"}


def test_a_request_that_does_not_stream_has_no_ttft(tmp_path: Path) -> None:
    none = by_status(NOTHING)
    path = report(tmp_path, benchmark(CONSTANT, metrics__time_to_first_token_ms=none))
    names = read_one(TOOL, path)["measured"]
    assert "e2e_p50_ms" in names
    assert not [name for name in names if name.startswith("ttft")]


def test_labels_of_the_report_speak_for_the_user(tmp_path: Path) -> None:
    labels = {"gpu": "b200-sxm", "tp": "2", "precision": "FP8", "engine": "sglang"}
    config = {
        "metadata": {"labels": labels | {"max_num_seqs": "512", "name": "Tuesday"}},
        "spec": {"backend": {"model": "/models/llama"}},
    }
    path = report(tmp_path, benchmark(CONSTANT), config=config)
    found = read_one(TOOL, path, {"model": "llama-3.1-8b"})
    assert (found["gpu"], found["precision"]) == ("b200-sxm", "fp8")
    assert found["engine"] == {"profile": "sglang", "max_num_seqs": 512}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"metadata": {"version": 1, "guidellm_version": "0.5.1"}},
            "benchmarks.json: metadata.version: must be 2, as GuideLLM 0.8 writes, not 1 (GuideLLM "
            "0.5.1); run the benchmark again with that version or later",
        ),
        (
            {"benchmarks": None},
            "benchmarks.json: is no report of GuideLLM, which holds a list of benchmarks",
        ),
        ({"benchmarks": []}, "benchmarks.json: benchmarks: the report holds no benchmark"),
    ],
)
def test_a_report_that_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    assert problems(TOOL, report(tmp_path, benchmark(CONSTANT), **changes)) == [problem]


@pytest.mark.parametrize(
    ("strategy", "changes", "problem"),
    [
        (
            CONSTANT,
            {
                "metrics__request_totals": {
                    "successful": 0,
                    "errored": 9,
                    "incomplete": 0,
                    "total": 9,
                }
            },
            "benchmarks.json: benchmarks.0: no request completed, of 9; nothing to compare",
        ),
        (
            CONSTANT,
            {"metrics__request_latency__successful__mean": float("nan")},
            "benchmarks.json: benchmarks.0.metrics.request_latency.successful.mean: is nan, which "
            "is no measurement",
        ),
        (
            CONSTANT,
            {"metrics__request_dispatch_delay": by_status(equal(0.4))},
            "benchmarks.json: benchmarks.0: requests were sent 400 ms late in the mean, with a "
            "mean latency of 1045 ms: the client did not keep its rate, and a simulation would; "
            "measure again with more client processes and no limit on requests in flight",
        ),
        (
            CONSTANT | {"rampup_duration": 5.0},
            {},
            "benchmarks.json: benchmarks.0.config.strategy.rampup_duration: a load that ramps up "
            "is none of a case; measure without it",
        ),
        (
            {"type_": "trace"},
            {},
            "benchmarks.json: benchmarks.0.config.strategy.type_: the strategy 'trace' is no load "
            "of a case; known are constant, poisson, concurrent, synchronous and throughput",
        ),
        (
            CONSTANT,
            {"requests__successful": [{**single(500, 100, 10.0), "info": {"turn_index": 2}}]},
            "benchmarks.json: benchmarks.0.requests.successful.0.info.turn_index: conversations of "
            "several turns are no load of a case",
        ),
    ],
)
def test_a_benchmark_that_cannot_be_used_is_named(
    tmp_path: Path, strategy: dict[str, Any], changes: dict[str, Any], problem: str
) -> None:
    assert problems(TOOL, report(tmp_path, benchmark(strategy, **changes))) == [problem]
