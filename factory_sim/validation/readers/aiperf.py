"""Cases from AIPerf's profile_export_aiperf.json: one a file.

Written by src/aiperf/exporters/metrics_json_exporter.py of https://github.com/ai-dynamo/aiperf
(docs/reference/json-export-schema.md); read of AIPerf 0.13.0, schema 1.4; 1.5 changes nothing
that is read here. Every metric carries its unit, which is obeyed. The CSV export does not say
the load; it is refused.

Converted: its `inter_token_latency` is (latency - TTFT) / (tokens - 1) of a request, the TPOT
of `vllm bench serve`, and is read as that. Its `inter_chunk_latency` is the gap between chunks,
that tool's ITL, and is taken while a chunk is a token. `usage_prompt_cache_read_tokens`, where
the server reports it, is the cached length.

Refused: several phases that count, conversations of several turns, and whatever shapes a phase
beyond its rate or concurrency (ramps, schedules, cancellation). A concurrency beside a rate
limits the requests in flight and must not have been reached (`effective_concurrency`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.validation.readers.conditions import conditions, model_stated
from factory_sim.validation.readers.document import Document, in_folder, read_json
from factory_sim.validation.readers.lengths import Spread, lengths, of_percentiles
from factory_sim.validation.readers.readings import (
    measured,
    note,
    of_single_tokens,
    refuse_speculation,
    uncapped,
)

TO_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "sec": 1e3}
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
SHAPE = {"type", "rate", "smoothness", "concurrency"}
ELSE = {
    "name",
    "kind",
    "requests",
    "duration",
    "sessions",
    "grace_period",
    "exclude_from_results",
    "failed_request_threshold",
    "sla",
}
"""What a phase may say beyond its shape: how long it lasts, and what is made of its results."""


def read(path: Path, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the case of a run (or of the folder it wrote into), in a list."""
    path = in_folder(path, "profile_export_aiperf.json")
    if path.suffix == ".csv":
        raise InputError(
            Problem(str(path), "does not say the load; give profile_export_aiperf.json beside it")
        )
    run = read_json(path)
    if run.get("input_config") is None:
        raise InputError(
            Problem(run.name, "is no profile_export_aiperf.json, which holds input_config")
        )
    if run.get("input_config", "phases") is None:
        wrote = run.get("aiperf_version") or "of unknown version"
        raise run.error(
            ("input_config", "phases"),
            f"is missing: this file is of AIPerf {wrote}; 0.13 writes what can be read here",
        )
    return [_case(run, path.resolve().parent.name, known)]


def _case(run: Document, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    if run.get("was_cancelled") or run.get("is_complete") is False:
        raise run.error((), "this run was broken off; give one that ended")
    refuse_speculation(run, [key for key in run.data if "spec_decode" in key])
    done = int(run.number("request_count", "avg") or 0)
    failed = int(run.number("error_request_count", "avg") or 0)
    models = run.get("input_config", "models", "items") or []
    if len(models) > 1:
        raise run.error(("input_config", "models", "items"), "a case has one model, not several")
    stated = model_stated(run.get("input_config", "models", "items", 0, "name"))
    kept = measured(run, _readings(run), done + failed, failed)
    return {
        "id": name,
        "source": f"{run.short}: AIPerf {run.get('aiperf_version') or ''}".rstrip(),
        **conditions(run.name, stated, known),
        "load": _load(run, done + failed),
        "lengths": lengths(
            run.name,
            _spread(run, "input_sequence_length"),
            _spread(run, "output_sequence_length"),
            known.get("lengths"),
            cached=run.number("usage_prompt_cache_read_tokens", "avg") or 0.0,
        ),
        "measured": kept,
        **note(done + failed, failed),
    }


def _load(run: Document, requests: int) -> dict[str, Any]:
    phase = _phase(run)
    kind = phase.get("type")
    shaped = [key for key, value in phase.data.items() if value and key not in SHAPE | ELSE]
    if shaped:
        raise phase.error((shaped[0],), "shapes the load in a way that a case cannot describe")
    if kind == "concurrency":
        clients = int(phase.number("concurrency") or 1)
        if clients >= requests:
            return {"kind": "offline", "requests": requests}
        return {"kind": "closed", "concurrency": clients, "requests": requests}
    if kind not in ("constant", "poisson", "gamma"):
        raise phase.error(
            ("type",),
            f"{kind!r} is no load of a case; known are concurrency, constant, poisson and gamma",
        )
    uncapped(phase, ("concurrency",), run.number("effective_concurrency", "max"))
    load = {
        "kind": "open",
        "arrivals": kind,
        "rate": f"{phase.need('rate')!r} /s",
        "requests": requests,
    }
    # The gamma's shape, where none is given, is 1: timing/intervals.py.
    return load | ({"burstiness": phase.number("smoothness") or 1.0} if kind == "gamma" else {})


def _phase(run: Document) -> Document:
    """Return the one phase that the results are of."""
    where = ("input_config", "phases")
    phases = run.get(*where)
    counted = [
        n
        for n, phase in enumerate(phases if isinstance(phases, list) else [])
        if isinstance(phase, Mapping) and (phase.get("kind") or phase.get("name")) == "profiling"
    ]
    if len(counted) != 1:
        raise run.error(where, f"must hold one phase of kind profiling, not {len(counted)}")
    turns = run.at("input_config", "datasets", 0, "turns")
    if (turns.number("value") or turns.number("mean") or 1.0) > 1.0:
        raise turns.error((), "conversations of several turns are no load of a case")
    return run.at(*where, counted[0])


def _readings(run: Document) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for metric, theirs in (("ttft", "time_to_first_token"), ("e2e", "request_latency")):
        found[f"{metric}_mean_ms"] = _ms(run, theirs, "avg")
        for share in (50, 90, 99):
            found[f"{metric}_p{share}_ms"] = _ms(run, theirs, f"p{share}")
    tpot = _ms(run, "inter_token_latency", "avg")
    found["tpot_mean_ms"] = tpot
    found["tpot_p50_ms"] = _ms(run, "inter_token_latency", "p50")
    gaps = _ms(run, "inter_chunk_latency", "p50"), _ms(run, "inter_chunk_latency", "avg")
    found["itl_p50_ms"] = of_single_tokens(*gaps, tpot)
    for metric, theirs in (("output", "output_token"), ("total", "total_token")):
        rate = run.at(f"{theirs}_throughput")
        if rate.get("unit") not in (None, "tokens/sec"):
            raise rate.error(("unit",), f"must be tokens/sec, not {rate.get('unit')!r}")
        found[f"{metric}_tok_s"] = rate.number("avg")
    return found


def _ms(run: Document, tag: str, stat: str) -> float | None:
    block = run.at(tag)
    value = block.number(stat)
    if value is None:
        return None
    unit = block.get("unit")
    if unit not in TO_MS:
        raise block.error(("unit",), f"must be one of {', '.join(TO_MS)}, not {unit!r}")
    return value * TO_MS[unit]


def _spread(run: Document, tag: str) -> Spread:
    block = run.at(tag)
    mean, low, high = block.need("avg"), block.number("min"), block.number("max")
    inner = {share / 100: block.number(f"p{share}") for share in PERCENTILES}
    points = {share: tokens for share, tokens in inner.items() if tokens is not None}
    if low is None or high is None or not points:
        return Spread(mean)
    return of_percentiles(mean, low, high, points)
