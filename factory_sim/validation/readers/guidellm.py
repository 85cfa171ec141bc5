"""Cases from GuideLLM's benchmarks.json: one for each benchmark of the report.

Written by guidellm/benchmark/schemas/report.py of https://github.com/vllm-project/guidellm;
read of GuideLLM 0.8.1, whose report says `metadata.version: 2`; others are refused. Statistics
of the successful requests: `time_to_first_token_ms` and, in seconds, `request_latency`.

Left out or converted: its `time_per_output_token_ms` counts the first token in, and is not
read. Its `inter_token_latency_ms` is a request's mean gap without the first token, the TPOT of
`vllm bench serve`, weighted by tokens; it is read as TPOT from the single requests, or from
the summary where all outputs are equally long and the weights therefore equal. Single gaps are
not kept, so no ITL. Tokens per second are the rate's mean over the measuring window.

A run that its duration cuts off counts the tokens of the requests in flight too, and its load
is `steady` (rates while it is held), if it is long enough to have a state after its ramp; else
the rates are left out. With a warm-up or cool-down set aside the same holds, and a closed load
then has no TTFT and latency: the burst of the first requests, which a case simulates, is not
in them. Labels of the report (`gpu`, `precision`, `tp`, `engine`,
`max_num_seqs` ...) speak for the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.validation.readers.conditions import conditions, labels_stated, model_stated
from factory_sim.validation.readers.document import Document, in_folder, read_json
from factory_sim.validation.readers.lengths import (
    Spread,
    lengths,
    of_percentiles,
    of_samples,
    rank_correlation,
)
from factory_sim.validation.readers.readings import measured, note, on_schedule

VERSION = 2
RAMPS = 2
"""A load is steady if it sends this many times what runs at once: half is ramp. A judgement."""

PERCENTILES = {
    "p001": 0.001,
    "p01": 0.01,
    "p05": 0.05,
    "p10": 0.1,
    "p25": 0.25,
    "p50": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
}


def read(path: Path, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one case for each benchmark of a report (or of the folder it lies in)."""
    path = in_folder(path, "benchmarks.json")
    report = read_json(path)
    benchmarks = report.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise InputError(
            Problem(report.name, "is no report of GuideLLM, which holds a list of benchmarks")
        )
    version = report.get("metadata", "version")
    if version != VERSION:
        wrote = report.get("metadata", "guidellm_version") or "of no version"
        raise report.error(
            ("metadata", "version"),
            f"must be {VERSION}, as GuideLLM 0.8 writes, not {version!r} (GuideLLM {wrote}); run "
            "the benchmark again with that version or later",
        )
    if not benchmarks:
        raise report.error(("benchmarks",), "the report holds no benchmark")
    stated = model_stated(report.get("config", "spec", "backend", "model"))
    stated |= labels_stated(report.get("config", "metadata", "labels"))
    told = conditions(report.name, stated, known)
    parts = [report.at("benchmarks", n) for n in range(len(benchmarks))]
    cases: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for n, part in enumerate(parts):
        try:
            cases.append(_case(part, f"{path.resolve().parent.name}-{n}", told, known))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return cases


def _case(
    part: Document, name: str, told: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    requests = part.count("scheduler_metrics", "requests_made", "total")
    seen, done = (part.count("metrics", "request_totals", key) for key in ("total", "successful"))
    cut_off = part.count("metrics", "request_totals", "incomplete") > 0
    trimmed = any(
        part.get("config", phase, key)
        for phase in ("warmup", "cooldown")
        for key in ("percent", "value")
    )
    load = _load(part, requests)
    held = load.get("concurrency") or told["engine"]["max_num_seqs"]
    steady = (cut_off or trimmed) and requests >= RAMPS * held
    if load["kind"] == "open" and done:
        late_s = part.number("metrics", "request_dispatch_delay", "successful", "mean")
        on_schedule(part, late_s, part.need("metrics", "request_latency", "successful", "mean"))
    singles = _singles(part, done)
    readings = _readings(part, singles, "total" if cut_off else "successful")
    if trimmed and load["kind"] != "open":
        readings = {k: v for k, v in readings.items() if not k.startswith(("ttft", "e2e"))}
    if (cut_off or trimmed) and not steady:
        readings = {k: v for k, v in readings.items() if not k.endswith("_tok_s")}
    kept = measured(part, readings, seen, seen - done, rates_hold=cut_off)
    prompt, output, cached, correlation = _spreads(part, singles)
    return {
        "id": f"{name}-{part.get('config', 'strategy', 'type_')}",
        "source": f"{part.short}: GuideLLM, benchmark {part.get('config', 'id_') or name}",
        **told,
        "load": load | ({"steady": True} if steady else {}),
        "lengths": lengths(part.name, prompt, output, known.get("lengths"), cached, correlation),
        "measured": kept,
        **note(seen, seen - done),
    }


def _load(part: Document, requests: int) -> dict[str, Any]:
    where = ("config", "strategy")
    strategy = part.at(*where)
    if strategy.number("rampup_duration"):
        raise strategy.error(
            ("rampup_duration",), "a load that ramps up is none of a case; measure without it"
        )
    kind = strategy.get("type_")
    if kind in ("constant", "poisson"):
        rate = strategy.need("rate")
        return {"kind": "open", "arrivals": kind, "rate": f"{rate!r} /s", "requests": requests}
    if kind == "synchronous":
        return {"kind": "closed", "concurrency": 1, "requests": requests}
    if kind == "concurrent":
        return {"kind": "closed", "concurrency": strategy.count("streams"), "requests": requests}
    if kind == "throughput":
        limit = strategy.number("max_concurrency")
        if limit is None or limit >= requests:
            return {"kind": "offline", "requests": requests}
        return {"kind": "closed", "concurrency": int(limit), "requests": requests}
    raise part.error(
        (*where, "type_"),
        f"the strategy {kind!r} is no load of a case; known are constant, poisson, concurrent, "
        "synchronous and throughput",
    )


def _singles(part: Document, done: int) -> list[Document]:
    """Return the successful requests, where the report holds each that its statistics count."""
    held = part.get("requests", "successful")
    if not isinstance(held, list):
        return []
    singles = [part.at("requests", "successful", n) for n in range(len(held))]
    turns = [single for single in singles if single.number("info", "turn_index")]
    if turns:
        raise turns[0].error(
            ("info", "turn_index"), "conversations of several turns are no load of a case"
        )
    return singles if len(singles) == done else []


def _readings(part: Document, singles: Sequence[Document], counted: str) -> dict[str, float | None]:
    """Return the readings. counted: whose tokens make the rates, `total` or `successful`."""
    found: dict[str, float | None] = {}
    for metric, theirs, to_ms in (
        ("ttft", "time_to_first_token_ms", 1.0),
        ("e2e", "request_latency", 1e3),
    ):
        stats = part.at("metrics", theirs, "successful")
        # A request that did not stream counts as a TTFT of 0: then none of them is one.
        if not stats.number("min"):
            continue
        found[f"{metric}_mean_ms"] = stats.need("mean") * to_ms
        for share in (50, 90, 99):
            found[f"{metric}_p{share}_ms"] = stats.need("percentiles", f"p{share}") * to_ms
    gaps = [gap for single in singles if (gap := single.number("inter_token_latency_ms"))]
    output = part.at("metrics", "output_token_count", "successful")
    if gaps:
        found |= {"tpot_mean_ms": float(np.mean(gaps)), "tpot_p50_ms": float(np.median(gaps))}
    elif output.number("min") == output.number("max"):
        equal = part.at("metrics", "inter_token_latency_ms", "successful")
        found |= {"tpot_mean_ms": equal.number("mean"), "tpot_p50_ms": equal.number("median")}
    found["output_tok_s"] = part.number("metrics", "output_tokens_per_second", counted, "mean")
    found["total_tok_s"] = part.number("metrics", "tokens_per_second", counted, "mean")
    return found


def _spreads(part: Document, singles: Sequence[Document]) -> tuple[Spread, Spread, float, float]:
    """Return lengths of prompts and outputs, mean prompt tokens cached, and the correlation."""
    if not singles:
        return _summary(part, "prompt"), _summary(part, "output"), 0.0, 0.0
    prompts = [single.need("prompt_tokens") for single in singles]
    outputs = [single.need("output_tokens") for single in singles]
    cached = float(np.mean([single.number("cached_tokens") or 0.0 for single in singles]))
    correlation = rank_correlation(prompts, outputs)
    return of_samples(prompts), of_samples(outputs), cached, correlation


def _summary(part: Document, name: str) -> Spread:
    stats = part.at("metrics", f"{name}_token_count", "successful")
    inner = {share: stats.need("percentiles", key) for key, share in PERCENTILES.items()}
    return of_percentiles(stats.need("mean"), stats.need("min"), stats.need("max"), inner)
