"""Cases from `vllm bench serve --save-result` (its definitions are those of a case).

Written by vllm/benchmarks/serve.py of https://github.com/vllm-project/vllm; read of vLLM 0.11
(commit 32f5573), later versions add keys. One JSON object a run; `--append-result` puts several
runs into one file, a line each. Latencies in ms: `mean_`, `median_` and, where asked for with
`--metric-percentiles`, `p90_` and `p99_` of ttft, tpot, itl and e2el. `--save-detailed` adds
what every request did; what the summary lacks is computed from it, as the tool does: the
latency of a request is its ttft and the sum of its gaps.

`median_itl_ms` is taken while a chunk is a token: its gaps are between chunks. Requests that a
limit (`--max-concurrency`) holds back wait in the client, unseen; with a rate it is refused
unless the peak of requests in flight (counted by whole seconds, too high rather than too low)
stays below it. The gamma's `burstiness` is the scenario's. `--metadata gpu=h100-sxm tp=4
precision=fp8 engine=vllm max_num_seqs=256` makes a file that needs no options here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.validation.readers.conditions import conditions, labels_stated, model_stated
from factory_sim.validation.readers.document import Document, parse, read_text
from factory_sim.validation.readers.lengths import (
    Spread,
    lengths,
    of_samples,
    rank_correlation,
)
from factory_sim.validation.readers.readings import (
    measured,
    note,
    of_single_tokens,
    refuse_speculation,
    uncapped,
)

REQUIRED = ("model_id", "num_prompts", "request_rate", "completed", "total_input_tokens")
SUMMARY = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}


def read(path: Path, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one case for each run in the file. Raises InputError."""
    runs = _runs(path)
    names = [path.stem if len(runs) == 1 else f"{path.stem}-{n}" for n in range(len(runs))]
    return [_case(run, name, known) for run, name in zip(runs, names, strict=True)]


def _runs(path: Path) -> list[Document]:
    text = read_text(path)
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return [parse(str(path), text)]
    except InputError:
        # Several runs, a line each; what is no JSON at all is reported by its first line.
        if len(lines) < 2 or not lines[0].rstrip().endswith("}"):
            raise
    return [parse(f"{path}, run {n}", line) for n, line in enumerate(lines)]


def _case(run: Document, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    absent = [key for key in REQUIRED if run.get(key) is None]
    if absent:
        raise InputError(
            Problem(
                run.name,
                f"is no result of `vllm bench serve`, which writes {', '.join(absent)} too",
            )
        )
    refuse_speculation(run, [key for key in run.data if key.startswith("spec_decode")])
    done = run.count("completed")
    failed = run.number("failed")
    requests = run.count("num_prompts") if failed is None else done + int(failed)
    singles = _singles(run)
    readings = _readings(run, singles)
    stated = model_stated(run.get("model_id")) | labels_stated(run.data)
    kept = measured(run, readings, requests, requests - done)
    prompt, output, correlation = _spreads(run, done, singles)
    return {
        "id": name,
        "source": f"{run.short}: vllm bench serve, {run.get('date') or 'undated'}",
        **conditions(run.name, stated, known),
        "load": _load(run, requests),
        "lengths": lengths(run.name, prompt, output, known.get("lengths"), correlation=correlation),
        "measured": kept,
        **note(requests, requests - done),
    }


def _load(run: Document, requests: int) -> dict[str, Any]:
    if run.get("ramp_up_strategy") is not None:
        raise run.error(
            ("ramp_up_strategy",), "a rate that ramps up is no load of a case; measure a fixed rate"
        )
    limit = run.number("max_concurrency")
    if run.get("request_rate") in ("inf", math.inf):
        if limit is None or limit >= requests:
            return {"kind": "offline", "requests": requests}
        return {"kind": "closed", "concurrency": int(limit), "requests": requests}
    rate = run.need("request_rate")
    uncapped(run, ("max_concurrency",), run.number("max_concurrent_requests"))
    load: dict[str, Any] = {"kind": "open", "rate": f"{rate!r} /s", "requests": requests}
    if run.get("burstiness") == math.inf:
        return load | {"arrivals": "constant"}
    burstiness = run.need("burstiness")
    if burstiness == 1.0:
        return load | {"arrivals": "poisson"}
    return load | {"arrivals": "gamma", "burstiness": burstiness}


class _Single(NamedTuple):
    """A completed request: its tokens, and in seconds its TTFT and the gaps after it."""

    prompt: float
    output: float
    ttft_s: float
    gaps_s: list[float]


def _singles(run: Document) -> list[_Single]:
    """Return every completed request; none without `--save-detailed`."""
    columns = [run.get(key) for key in ("input_lens", "output_lens", "ttfts", "itls")]
    if not all(isinstance(column, list) for column in columns):
        return []
    errors = run.get("errors") or [""] * len(columns[0])
    if len({len(column) for column in (*columns, errors)}) != 1:
        raise run.error(("input_lens",), "the lists of single requests differ in length")
    rows = [row for row, error in zip(zip(*columns, strict=True), errors, strict=True) if not error]
    try:
        found = [
            _Single(float(prompt), float(output), float(ttft), [float(gap) for gap in gaps])
            for prompt, output, ttft, gaps in rows
        ]
    except (TypeError, ValueError):
        raise run.error(("itls",), "a single request holds something that is no number") from None
    if not all(math.isfinite(sum(one[:3]) + sum(one.gaps_s)) for one in found):
        raise run.error(("ttfts",), "a single request holds a number that is not finite")
    return found


def _readings(run: Document, singles: Sequence[_Single]) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        f"{metric}_{stat}_ms": run.number(f"{word}_{theirs}_ms")
        for metric, theirs in (("ttft", "ttft"), ("tpot", "tpot"), ("e2e", "e2el"))
        for stat, word in SUMMARY.items()
        if metric != "tpot" or stat in ("mean", "p50")
    }
    itl_p50, itl_mean = run.number("median_itl_ms"), run.number("mean_itl_ms")
    if singles and all(one.ttft_s > 0.0 for one in singles):
        ttft_s = np.array([one.ttft_s for one in singles])
        decode_s = np.array([sum(one.gaps_s) for one in singles])
        output = np.array([one.output for one in singles])
        several = output > 1
        samples = {
            "ttft": ttft_s,
            "tpot": decode_s[several] / (output[several] - 1),
            "e2e": ttft_s + decode_s,
        }
        for name in [name for name, value in found.items() if value is None]:
            metric, stat, _ = name.split("_")
            if len(samples[metric]):
                found[name] = _statistic(samples[metric], stat) * 1e3
        gaps = [gap for one in singles for gap in one.gaps_s]
        if itl_p50 is None and gaps:
            itl_p50, itl_mean = float(np.median(gaps)) * 1e3, float(np.mean(gaps)) * 1e3
    found["itl_p50_ms"] = of_single_tokens(itl_p50, itl_mean, found["tpot_mean_ms"])
    found["output_tok_s"] = run.number("output_throughput")
    found["total_tok_s"] = run.number("total_token_throughput")
    return found


def _statistic(values: Any, stat: str) -> float:
    return float(values.mean() if stat == "mean" else np.percentile(values, int(stat[1:])))


def _spreads(run: Document, done: int, singles: Sequence[_Single]) -> tuple[Spread, Spread, float]:
    """Return the lengths of prompts and outputs, and their rank correlation."""
    if singles:
        prompts, outputs = [one.prompt for one in singles], [one.output for one in singles]
        return of_samples(prompts), of_samples(outputs), rank_correlation(prompts, outputs)
    prompt = Spread(run.need("total_input_tokens") / done)
    return prompt, Spread(run.need("total_output_tokens") / done), 0.0
