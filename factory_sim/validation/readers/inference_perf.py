"""Cases from inference-perf's reports: one for each stage_N_lifecycle_metrics.json.

Written by inference_perf/reportgen/base.py (`summarize_requests`) of
https://github.com/kubernetes-sigs/inference-perf; read of inference-perf 0.7.0. Latencies are in
seconds. A folder gives its stages; summary_lifecycle_metrics.json, which mixes them, is read
where the config.yaml beside it has a single one. That file also says the model.

Definitions are those of `vllm bench serve`: TPOT is (last token - first) / (tokens - 1) of a
request, ITL every gap. Tokens of one chunk come at once there, with gaps of 0 between: ITL is
taken where no more than a quarter of the gaps are 0. Tokens per second are recomputed from the
server's counts (`output_tokens.total` over the time), since its own `throughput` counts the
text anew. A request that was retried counts as lost: its latency has the failures in it.

Its load types `constant` and `poisson` both draw exponential gaps (loadgen/load_timer.py: the
first scales them to the stage's duration, the second to a Poisson count in each second), so
both are `poisson` here. A concurrent stage sends all its requests within a second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.validation.readers.conditions import conditions, model_stated
from factory_sim.validation.readers.document import Document, read_json, read_text
from factory_sim.validation.readers.lengths import Spread, lengths, of_percentiles
from factory_sim.validation.readers.readings import measured, note, on_schedule
from factory_sim.yaml_text import parse as parse_yaml

STAGE = re.compile(r"(.*)stage_(\d+)_lifecycle_metrics\.json")
SUMMARY = re.compile(r"(.*)summary_lifecycle_metrics\.json")
OPEN = ("constant", "poisson")


def read(path: Path, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one case for a stage's file, or for each stage of a folder."""
    if not path.is_dir():
        return [_case(path, known)]
    files = sorted(path.iterdir())
    stages = [file for file in files if STAGE.fullmatch(file.name)]
    chosen = stages or [file for file in files if SUMMARY.fullmatch(file.name)]
    if not chosen:
        raise InputError(
            Problem(str(path), "holds no stage_N_lifecycle_metrics.json of inference-perf")
        )
    return [_case(file, known) for file in chosen]


def _case(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    stage = read_json(path)
    done = stage.at("successes")
    if not isinstance(done.data, Mapping) or stage.get("load_summary") is None:
        raise InputError(
            Problem(
                stage.name,
                "is no report of inference-perf, which holds load_summary and successes",
            )
        )
    requests = stage.count("load_summary", "count")
    failed = stage.count("failures", "count")
    retried = int(stage.number("retries", "recovered") or 0)
    if requests > failed and done.get("output_tokens", "total") is None:
        raise done.error(
            ("output_tokens",), "is missing: written by an inference-perf older than 0.7"
        )
    config = _config(path)
    readings = _readings(stage) if requests > failed else {}
    kept = measured(stage, readings, requests, failed + retried)
    load, remark = _load(stage, config, requests)
    found = STAGE.fullmatch(path.name)
    folder = path.resolve().parent.name
    remarks = [*note(requests, failed + retried).values(), *remark]
    return {
        "id": f"{folder}-stage-{found[2]}" if found else folder,
        "source": f"{stage.short}: inference-perf",
        **conditions(stage.name, model_stated(config.get("server", "model_name")), known),
        "load": load,
        "lengths": lengths(
            stage.name,
            _spread(done, "prompt_tokens"),
            _spread(done, "output_tokens"),
            known.get("lengths"),
            cached=(done.number("prompt_tokens", "cached") or 0.0) / (requests - failed),
        ),
        "measured": kept,
        **({"note": "; ".join(remarks)} if remarks else {}),
    }


def _config(path: Path) -> Document:
    """Return the run's config.yaml beside a report; an empty one where there is none."""
    found = STAGE.fullmatch(path.name) or SUMMARY.fullmatch(path.name)
    beside = path.with_name(f"{found[1] if found else ''}config.yaml")
    if not beside.exists():
        return Document(str(beside), {})
    return Document(str(beside), parse_yaml(read_text(beside), str(beside)))


def _load(stage: Document, config: Document, requests: int) -> tuple[dict[str, Any], list[str]]:
    """Return the load, and what is to be said of it."""
    kind = config.get("load", "type")
    if kind is not None and kind not in (*OPEN, "concurrent"):
        raise config.error(
            ("load", "type"),
            f"{kind!r} is no load of a case; known are {', '.join(OPEN)} and concurrent",
        )
    rate = stage.number("load_summary", "requested_rate")
    clients = stage.number("load_summary", "concurrency")
    if rate is None:
        rate, clients = _of_the_only_stage(stage, config)
    if clients is not None:
        # The tool offers a concurrent stage at its number of requests in one second.
        if rate != requests:
            raise stage.error(
                ("load_summary", "requested_rate"),
                f"{requests} requests were sent of {rate:g} offered at once: a stage cut short, or "
                "one that replays sessions, is no load of a case",
            )
        if clients >= requests:
            return {"kind": "offline", "requests": requests}, []
        return {"kind": "closed", "concurrency": int(clients), "requests": requests}, []
    late_s = stage.number("load_summary", "schedule_delay", "mean")
    on_schedule(stage, late_s, stage.need("successes", "latency", "request_latency", "mean"))
    load = {"kind": "open", "arrivals": "poisson", "rate": f"{rate!r} /s", "requests": requests}
    guess = f"load taken to be constant or poisson: there is no {config.short}"
    return load, [guess] if kind is None else []


def _of_the_only_stage(stage: Document, config: Document) -> tuple[float, float | None]:
    """Return rate and concurrency of a run that the config says had a single stage."""
    stages = config.get("load", "stages")
    if not isinstance(stages, list) or len(stages) != 1:
        raise stage.error(
            ("load_summary", "requested_rate"),
            "is missing: a summary mixes the stages of a run; give the folder, or a "
            "stage_N_lifecycle_metrics.json",
        )
    only = config.at("load", "stages", 0)
    clients = only.number("concurrency_level")
    return only.need("rate" if clients is None else "num_requests"), clients


def _readings(stage: Document) -> dict[str, float | None]:
    latency = stage.at("successes", "latency")
    found: dict[str, float | None] = {}
    for metric, theirs in (
        ("ttft", "time_to_first_token"),
        ("tpot", "time_per_output_token"),
        ("e2e", "request_latency"),
    ):
        words = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
        for stat, word in words.items():
            value = latency.number(theirs, word)
            if value is not None and (metric != "tpot" or stat in ("mean", "p50")):
                found[f"{metric}_{stat}_ms"] = value * 1e3
    if latency.number("inter_token_latency", "p25"):
        found["itl_p50_ms"] = 1e3 * latency.need("inter_token_latency", "median")
    seconds = stage.need("benchmark_time_seconds")
    if seconds > 0.0:
        output = stage.need("successes", "output_tokens", "total")
        prompt = stage.need("successes", "prompt_tokens", "total")
        found |= {"output_tok_s": output / seconds, "total_tok_s": (output + prompt) / seconds}
    return found


def _spread(done: Document, name: str) -> Spread:
    stats = done.at(name)
    mean, low, high = stats.need("mean"), stats.number("min"), stats.number("max")
    inner = {0.5: stats.number("median")}
    inner |= {
        round(float(key[1:]) / 100, 6): stats.number(key)
        for key in stats.data
        if re.match(r"p\d", key)
    }
    points = {share: tokens for share, tokens in inner.items() if tokens is not None}
    if low is None or high is None or not points:
        return Spread(mean)
    return of_percentiles(mean, low, high, points)
