"""Results of AIPerf as cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.validation.readers.making import metrics_of, problems, read_one, write

TOOL = "aiperf"


def record(unit: str, avg: float, low: float, p50: float, p90: float, high: float) -> Any:
    return {
        "unit": unit,
        "avg": avg,
        **dict.fromkeys(("p1", "p5", "p10", "p25"), low),
        "p50": p50,
        "p75": p50,
        "p90": p90,
        "p95": p90,
        "p99": high,
        "min": low,
        "max": high,
        "std": 1.0,
        "count": 100,
    }


def tokens(value: float) -> Any:
    return record("tokens", value, value, value, value, value)


# 100 requests of 512 and 128 tokens, one at a time.
RUN: dict[str, Any] = {
    "schema_version": "1.4",
    "aiperf_version": "0.13.0",
    "request_throughput": {"unit": "requests/sec", "avg": 0.5},
    "request_latency": record("ms", 2000.0, 1900.0, 1990.0, 2100.0, 2200.0),
    "request_count": {"unit": "requests", "avg": 100.0},
    "time_to_first_token": record("ms", 95.0, 80.0, 92.0, 120.0, 140.0),
    "inter_token_latency": record("ms", 15.0, 14.0, 14.9, 16.0, 17.0),
    "inter_chunk_latency": record("ms", 15.0, 9.0, 14.2, 20.0, 60.0),
    "output_token_throughput": {"unit": "tokens/sec", "avg": 64.0},
    "total_token_throughput": {"unit": "tokens/sec", "avg": 320.0},
    "input_sequence_length": tokens(512.0),
    "output_sequence_length": tokens(128.0),
    "input_config": {
        "models": {"items": [{"name": "meta-llama/Llama-3.1-8B-Instruct"}]},
        "endpoint": {"urls": ["http://localhost:8000"], "type": "chat", "streaming": True},
        "datasets": [{"name": "default", "type": "synthetic"}],
    },
    "was_cancelled": False,
}
WARMUP = {"name": "warmup", "kind": "warmup", "type": "concurrency", "requests": 10}


def export(tmp_path: Path, phase: dict[str, Any] | None = None, **changes: Any) -> Path:
    run = {**RUN, **changes}
    profiling = {"name": "profiling", "kind": "profiling", "requests": 100}
    phases = [WARMUP, profiling | (phase or {"type": "concurrency"})]
    if "input_config" not in changes:
        run["input_config"] = RUN["input_config"] | {"phases": phases}
    return write(tmp_path / "night" / "profile_export_aiperf.json", run)


def test_a_closed_load_of_one_client(tmp_path: Path) -> None:
    path = export(tmp_path)
    found = read_one(TOOL, path.parent)  # the folder will do
    assert found["id"] == "night"
    assert found["source"] == "profile_export_aiperf.json: AIPerf 0.13.0"
    assert found["load"] == {"kind": "closed", "concurrency": 1, "requests": 100}
    assert found["lengths"] == {"prompt": 512, "output": 128}
    assert metrics_of(found) == {
        "ttft_mean_ms": 95.0,
        "ttft_p50_ms": 92.0,
        "ttft_p90_ms": 120.0,
        "ttft_p99_ms": 140.0,
        "e2e_mean_ms": 2000.0,
        "e2e_p50_ms": 1990.0,
        "e2e_p90_ms": 2100.0,
        "e2e_p99_ms": 2200.0,
        # What it calls ITL is a mean over each request; the gaps are between its chunks.
        "tpot_mean_ms": 15.0,
        "tpot_p50_ms": 14.9,
        "itl_p50_ms": 14.2,
        "output_tok_s": 64.0,
        "total_tok_s": 320.0,
    }


@pytest.mark.parametrize(
    ("phase", "load"),
    [
        ({"type": "concurrency", "concurrency": 8}, {"kind": "closed", "concurrency": 8}),
        ({"type": "concurrency", "concurrency": 100}, {"kind": "offline"}),
        ({"type": "poisson", "rate": 2.5}, {"kind": "open", "arrivals": "poisson"}),
        ({"type": "constant", "rate": 2.5}, {"kind": "open", "arrivals": "constant"}),
        (
            {"type": "gamma", "rate": 2.5, "smoothness": 4.0},
            {"kind": "open", "arrivals": "gamma", "burstiness": 4.0},
        ),
        (
            {"type": "gamma", "rate": 2.5},
            {"kind": "open", "arrivals": "gamma", "burstiness": 1.0},
        ),
    ],
)
def test_the_phase_makes_the_load(
    tmp_path: Path, phase: dict[str, Any], load: dict[str, Any]
) -> None:
    rate = {"rate": "2.5 /s"} if load["kind"] == "open" else {}
    found = read_one(TOOL, export(tmp_path, phase))["load"]
    assert found == {**load, **rate, "requests": 100}


def test_the_unit_is_obeyed(tmp_path: Path) -> None:
    seconds = record("sec", 2.0, 1.9, 1.99, 2.1, 2.2)
    found = metrics_of(read_one(TOOL, export(tmp_path, request_latency=seconds)))
    assert (found["e2e_mean_ms"], found["e2e_p90_ms"]) == (2000.0, 2100.0)
    path = export(tmp_path, request_latency={**seconds, "unit": "fortnights"})
    assert problems(TOOL, path) == [
        "profile_export_aiperf.json: request_latency.unit: must be one of ns, us, ms, sec, not "
        "'fortnights'"
    ]


def test_chunks_of_several_tokens_are_no_itl(tmp_path: Path) -> None:
    path = export(tmp_path, inter_chunk_latency=record("ms", 60.0, 50.0, 59.0, 70.0, 80.0))
    assert "itl_p50_ms" not in read_one(TOOL, path)["measured"]


def test_lengths_that_vary_are_a_distribution_with_the_mean_measured(tmp_path: Path) -> None:
    path = export(
        tmp_path,
        input_sequence_length=record("tokens", 300.0, 100.0, 250.0, 500.0, 2000.0),
        usage_prompt_cache_read_tokens=record("tokens", 96.0, 0.0, 96.0, 192.0, 192.0),
    )
    found = read_one(TOOL, path)["lengths"]
    assert found["cached"] == 96
    points = found["prompt"]["quantiles"]
    assert points[0] == [0.0, 100.0]
    assert [0.9, 500.0] in points
    assert points[-1] == [1.0, 2000.0]


def test_a_limit_is_no_matter_where_it_was_never_reached(tmp_path: Path) -> None:
    phase = {"type": "poisson", "rate": 2.5, "concurrency": 16}
    below = {"unit": "requests", "avg": 5.0, "max": 11.0}
    found = read_one(TOOL, export(tmp_path, phase, effective_concurrency=below))
    assert found["load"]["kind"] == "open"
    reached = {"unit": "requests", "avg": 15.0, "max": 16.0}
    assert problems(TOOL, export(tmp_path, phase, effective_concurrency=reached)) == [
        "profile_export_aiperf.json: input_config.phases.1.concurrency: at most 16 requests in "
        "flight, 16 were, and a rate too: requests may have waited in the client, which a case "
        "cannot describe; measure with a rate or a limit alone"
    ]


def test_failed_requests_count_as_sent(tmp_path: Path) -> None:
    path = export(tmp_path, error_request_count={"unit": "requests", "avg": 25.0})
    found = read_one(TOOL, path)
    assert found["load"]["requests"] == 125
    assert found["note"] == "25 of 125 requests did not complete"
    assert set(found["measured"]) == {"ttft_p50_ms", "e2e_p50_ms", "tpot_p50_ms", "itl_p50_ms"}


NAME = "profile_export_aiperf.json"


@pytest.mark.parametrize(
    ("phase", "changes", "problem"),
    [
        (
            {"type": "fixed_schedule"},
            {},
            f"{NAME}: input_config.phases.1.type: 'fixed_schedule' is no load of a case; known are "
            "concurrency, constant, poisson and gamma",
        ),
        (
            {"type": "concurrency", "concurrency": 8, "concurrency_ramp": 30},
            {},
            f"{NAME}: input_config.phases.1.concurrency_ramp: shapes the load in a way that a case "
            "cannot describe",
        ),
        (
            {"type": "concurrency"},
            {"was_cancelled": True},
            f"{NAME}: this run was broken off; give one that ended",
        ),
        (
            {"type": "concurrency"},
            {"request_count": None, "error_request_count": {"unit": "requests", "avg": 7.0}},
            f"{NAME}: no request completed, of 7; nothing to compare",
        ),
        (
            {"type": "concurrency"},
            {"request_latency": {"unit": "ms", "avg": float("inf")}},
            f"{NAME}: request_latency.avg: is inf, which is no measurement",
        ),
        (
            {"type": "concurrency"},
            {"total_spec_decode_steps": {"unit": "count", "avg": 9.0}},
            f"{NAME}: total_spec_decode_steps: this run used speculative decoding, which a case "
            "cannot describe",
        ),
        (
            {"type": "concurrency"},
            {"input_config": {"loadgen": {"concurrency": 8}}, "aiperf_version": "0.2.0"},
            f"{NAME}: input_config.phases: is missing: this file is of AIPerf 0.2.0; 0.13 writes "
            "what can be read here",
        ),
        (
            {"type": "concurrency"},
            {"input_config": None},
            f"{NAME}: is no profile_export_aiperf.json, which holds input_config",
        ),
        (
            {"type": "concurrency"},
            {
                "input_config": {
                    "datasets": [{"turns": {"mean": 3.0}}],
                    "phases": [{"name": "profiling", "type": "concurrency"}],
                }
            },
            f"{NAME}: input_config.datasets.0.turns: conversations of several turns are no load of "
            "a case",
        ),
        (
            {"type": "concurrency"},
            {"input_config": {"phases": [WARMUP]}},
            f"{NAME}: input_config.phases: must hold one phase of kind profiling, not 0",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, phase: dict[str, Any], changes: dict[str, Any], problem: str
) -> None:
    assert problems(TOOL, export(tmp_path, phase, **changes)) == [problem]


def test_the_csv_is_refused_since_it_does_not_say_the_load(tmp_path: Path) -> None:
    assert problems(TOOL, tmp_path / "profile_export_aiperf.csv") == [
        "profile_export_aiperf.csv: does not say the load; give profile_export_aiperf.json beside "
        "it"
    ]
