"""Results of `vllm bench serve` as cases."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.validation.readers.making import KNOWN, metrics_of, problems, read, read_one, write

TOOL = "vllm-bench"

# 200 requests of 1024 and 128 tokens at 8/s: 25 s of arrivals and the last answer after 1.6 s.
SUMMARY: dict[str, Any] = {
    "date": "20250930-101500",
    "endpoint_type": "vllm",
    "backend": "vllm",
    "label": None,
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 200,
    "request_rate": 8.0,
    "burstiness": 1.0,
    "max_concurrency": None,
    "duration": 26.6,
    "completed": 200,
    "failed": 0,
    "total_input_tokens": 204800,
    "total_output_tokens": 25600,
    "request_throughput": 7.518797,
    "request_goodput": None,
    "output_throughput": 962.406015,
    "total_token_throughput": 8661.654135,
    "max_output_tokens_per_s": 1310.0,
    "max_concurrent_requests": 22,
    "mean_ttft_ms": 52.4,
    "median_ttft_ms": 48.1,
    "std_ttft_ms": 18.0,
    "p99_ttft_ms": 121.7,
    "mean_tpot_ms": 12.2,
    "median_tpot_ms": 12.1,
    "std_tpot_ms": 1.1,
    "p99_tpot_ms": 15.9,
    "mean_itl_ms": 12.2,
    "median_itl_ms": 9.8,
    "std_itl_ms": 8.7,
    "p99_itl_ms": 51.2,
}

# Four requests and what each did, in seconds.
DETAILS: dict[str, Any] = {
    "input_lens": [100, 200, 300, 400],
    "output_lens": [2, 3, 3, 5],
    "ttfts": [0.040, 0.060, 0.050, 0.090],
    "itls": [[0.010], [0.010, 0.020], [0.012, 0.010], [0.010, 0.014, 0.010, 0.018]],
    "generated_texts": ["", "", "", ""],
    "errors": ["", "", "", ""],
}


def result(tmp_path: Path, **changes: Any) -> Path:
    return write(tmp_path / "result.json", SUMMARY | changes)


def detailed(tmp_path: Path, **changes: Any) -> Path:
    counts = {
        "num_prompts": 4,
        "completed": 4,
        "total_input_tokens": 1000,
        "total_output_tokens": 13,
    }
    return result(tmp_path, **{**counts, **DETAILS, **changes})


def test_a_rate_is_an_open_load(tmp_path: Path) -> None:
    assert read_one(TOOL, result(tmp_path)) == {
        "id": "result",
        "source": "result.json: vllm bench serve, 20250930-101500",
        "gpu": "h100-sxm",
        "model": "llama-3.1-8b",
        "precision": "bf16",
        "parallelism": {"tp": 1},
        "engine": {"profile": "vllm", "max_num_seqs": 256},
        "load": {"kind": "open", "arrivals": "poisson", "rate": "8.0 /s", "requests": 200},
        "lengths": {"prompt": 1024, "output": 128},
        "measured": {
            "ttft_mean_ms": 52.4,
            "ttft_p50_ms": 48.1,
            "ttft_p99_ms": 121.7,
            "tpot_mean_ms": 12.2,
            "tpot_p50_ms": 12.1,
            "itl_p50_ms": 9.8,
            "output_tok_s": 962.406015,
            "total_tok_s": 8661.654135,
        },
    }


@pytest.mark.parametrize(
    ("traffic", "load"),
    [
        ({"burstiness": 0.5}, {"kind": "open", "arrivals": "gamma", "burstiness": 0.5}),
        ({"burstiness": math.inf}, {"kind": "open", "arrivals": "constant"}),
        (
            {"request_rate": "inf", "max_concurrency": 64},
            {"kind": "closed", "concurrency": 64},
        ),
        ({"request_rate": "inf"}, {"kind": "offline"}),
        ({"request_rate": "inf", "max_concurrency": 200}, {"kind": "offline"}),
        # A limit that was never reached held nobody back.
        ({"max_concurrency": 64}, {"kind": "open", "arrivals": "poisson"}),
    ],
)
def test_the_traffic_makes_the_load(
    tmp_path: Path, traffic: dict[str, Any], load: dict[str, Any]
) -> None:
    rate = {"rate": "8.0 /s"} if load["kind"] == "open" else {}
    found = read_one(TOOL, result(tmp_path, **traffic))["load"]
    assert found == {**load, **rate, "requests": 200}


@pytest.mark.parametrize(("peak", "seen"), [(64, "64 were"), (None, "nobody knows how many were")])
def test_a_limit_that_may_have_held_requests_back_is_refused(
    tmp_path: Path, peak: int | None, seen: str
) -> None:
    path = result(tmp_path, max_concurrency=64, max_concurrent_requests=peak)
    assert problems(TOOL, path) == [
        f"result.json: max_concurrency: at most 64 requests in flight, {seen}, and a rate too: "
        "requests may have waited in the client, which a case cannot describe; measure with a "
        "rate or a limit alone"
    ]


def test_single_requests_fill_in_what_the_summary_lacks(tmp_path: Path) -> None:
    path = detailed(tmp_path, median_ttft_ms=None, p99_ttft_ms=None, mean_tpot_ms=None)
    found = metrics_of(read_one(TOOL, path))
    # Latencies 50, 90, 72 and 142 ms; times per token 10, 15, 11 and 13 ms.
    assert found["e2e_mean_ms"] == 88.5
    assert found["e2e_p50_ms"] == 81.0
    assert found["e2e_p90_ms"] == 126.4
    assert found["ttft_p50_ms"] == 55.0
    assert found["ttft_p99_ms"] == 89.1
    assert found["tpot_mean_ms"] == 12.25
    assert found["ttft_mean_ms"] == 52.4  # the summary's own


def test_single_lengths_make_a_distribution(tmp_path: Path) -> None:
    found = read_one(TOOL, detailed(tmp_path))["lengths"]
    assert found["prompt"]["quantiles"][0] == [0.0, 100.0]
    assert [0.5, 250.0] in found["prompt"]["quantiles"]
    assert found["prompt"]["quantiles"][-1] == [1.0, 400.0]
    assert found["rank_correlation"] == 0.949
    equal = detailed(tmp_path, input_lens=[250] * 4)
    assert read_one(TOOL, equal)["lengths"]["prompt"] == 250


def test_failed_requests_are_left_out_and_said(tmp_path: Path) -> None:
    path = detailed(
        tmp_path,
        completed=3,
        failed=1,
        errors=["", "", "", "timeout"],
        output_lens=[2, 3, 3, 0],
        ttfts=[0.040, 0.060, 0.050, 0.0],
        itls=[*DETAILS["itls"][:3], []],
    )
    found = read_one(TOOL, path)
    assert found["note"] == "1 of 4 requests did not complete"
    assert found["load"]["requests"] == 4
    assert found["lengths"]["prompt"]["quantiles"][-1] == [1.0, 300.0]
    # A quarter is lost: medians stand, a mean, a tail or a rate of the rest does not.
    assert set(found["measured"]) == {"ttft_p50_ms", "tpot_p50_ms", "e2e_p50_ms", "itl_p50_ms"}


def test_gaps_between_chunks_of_several_tokens_are_no_itl(tmp_path: Path) -> None:
    path = result(tmp_path, mean_itl_ms=24.4, median_itl_ms=19.6)
    assert "itl_p50_ms" not in read_one(TOOL, path)["measured"]


def test_a_server_that_does_not_stream_has_no_ttft(tmp_path: Path) -> None:
    path = result(tmp_path, mean_ttft_ms=0.0, median_ttft_ms=0.0, p99_ttft_ms=0.0)
    assert not [name for name in read_one(TOOL, path)["measured"] if name.startswith("ttft")]


def test_appended_runs_are_a_case_each(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    lines = [json.dumps(SUMMARY | {"request_rate": rate}) for rate in (1.0, 2.5)]
    path.write_text("\n".join(lines))
    found = read(TOOL, path)
    assert [(case["id"], case["load"]["rate"]) for case in found] == [
        ("runs-0", "1.0 /s"),
        ("runs-1", "2.5 /s"),
    ]
    path.write_text(f"{lines[0]}\n{{")
    assert problems(TOOL, path) == ["runs.json, run 1, line 1: is not valid JSON"]


def test_metadata_of_the_run_says_what_a_client_cannot_see(tmp_path: Path) -> None:
    labels = {
        "gpu": "h100-sxm",
        "tp": "4",
        "precision": "fp8",
        "engine": "vllm",
        "max_num_seqs": "128",
        "version": "0.11",
    }
    found = read_one(TOOL, result(tmp_path, **labels), known={})
    assert found["precision"] == "fp8"
    assert found["parallelism"] == {"tp": 4}
    assert found["engine"] == {"profile": "vllm", "max_num_seqs": 128}
    assert problems(TOOL, result(tmp_path, **labels), known={"parallelism": {"tp": 8}}) == [
        "parallelism.tp: result.json says 4, and you say 8; leave yours out, or give the result of "
        "the run you mean"
    ]


def test_a_result_without_a_metric_is_named(tmp_path: Path) -> None:
    silent = {key: None for key in SUMMARY if key.endswith(("_ms", "_throughput"))}
    assert problems(TOOL, result(tmp_path, **silent)) == [
        "result.json: holds no metric of a case: no latency, no rate of tokens"
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"completed": 0, "failed": 200},
            "result.json: no request completed, of 200; nothing to compare",
        ),
        (
            {"median_ttft_ms": math.nan},
            "result.json: median_ttft_ms: is nan, which is no measurement",
        ),
        (
            {"median_tpot_ms": "fast"},
            "result.json: median_tpot_ms: must be a number, not 'fast'",
        ),
        (
            {"mean_ttft_ms": -3.0},
            "result.json: ttft_mean_ms comes to -3, which nobody measures",
        ),
        (
            {"ramp_up_strategy": "linear", "request_rate": "inf"},
            "result.json: ramp_up_strategy: a rate that ramps up is no load of a case; measure a "
            "fixed rate",
        ),
        (
            {"spec_decode_acceptance_rate": 0.7},
            "result.json: spec_decode_acceptance_rate: this run used speculative decoding, which a "
            "case cannot describe",
        ),
        (
            {**DETAILS, "ttfts": [0.04, 0.06, math.nan, 0.09]},
            "result.json: ttfts: a single request holds a number that is not finite",
        ),
        (
            {"model_id": None},
            "result.json: is no result of `vllm bench serve`, which writes model_id too",
        ),
        (
            {"input_lens": [1], "output_lens": [1, 2], "ttfts": [0.1], "itls": [[]]},
            "result.json: input_lens: the lists of single requests differ in length",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    assert problems(TOOL, result(tmp_path, **changes)) == [problem]


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert problems(TOOL, path) == ["result.json: there is no such file"]
    path.write_text('{"date": 1,\n "model_id" 2}')
    assert problems(TOOL, path) == ["result.json, line 2: is not valid JSON"]
    path.write_text("[1]")
    assert problems(TOOL, path) == ["result.json: must hold a JSON object, {...}"]


def test_the_name_of_the_model_speaks_of_its_precision(tmp_path: Path) -> None:
    path = result(tmp_path, model_id="RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8")
    known = {**KNOWN, "model": None, "precision": None}
    found = read_one(TOOL, path, known)
    assert (found["model"], found["precision"]) == ("llama-3.1-8b", "fp8")
    assert problems(TOOL, path) == [
        "precision: result.json says 'fp8', and you say 'bf16'; leave yours out, or give the "
        "result of the run you mean"
    ]
