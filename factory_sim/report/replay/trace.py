"""A run as a trace: what chrome://tracing and ui.perfetto.dev open.

A process for each replica, with a lane for each place in its batch, and in each lane the requests
that took it: their prompt, then their answer. Who waits is in a track of its own; the counters are
those of the time series. The format is the Trace Event Format of Chromium.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from factory_sim.report.replay.stays import stays
from factory_sim.report.saved import SavedRun

COUNTERS = {
    "grid_power_mw": "power at the meter (MW)",
    "clock": "GPU clock (share of reference)",
    "queue_requests": "waiting requests",
    "running_requests": "running requests",
    "kv_use": "KV cache in use (share)",
    "output_tokens_per_s": "output tokens/s",
    "pue": "PUE",
}
"""Columns of the time series that a trace has, and what they are called there."""

SITE = 0
"""The process of the counters."""

Event = dict[str, Any]


def trace(run: SavedRun, start_s: float = 0.0, end_s: float = np.inf) -> bytes:
    """Return the trace of a part of a run as JSON, with gzip. The same run gives the same bytes."""
    file = io.BytesIO()
    # Without a time of day and a name in its head.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as zipped:
        zipped.write(b'{"displayTimeUnit":"ms","traceEvents":[\n')
        for index, event in enumerate(events(run, start_s, end_s)):
            text = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            zipped.write((b",\n" if index else b"") + text.encode())
        zipped.write(b"\n]}\n")
    return file.getvalue()


def events(run: SavedRun, start_s: float = 0.0, end_s: float = np.inf) -> Iterator[Event]:
    """Yield the events, times in microseconds. Raises InputError where nothing was there."""
    rows = stays(run, start_s, end_s)
    yield _called("process_name", SITE, "site")
    series = run.timeseries[run.timeseries["time_s"].between(start_s, end_s)]
    times = series["time_s"].tolist()
    for column, name in COUNTERS.items():
        if column in series:
            for at_s, value in zip(times, series[column].tolist(), strict=True):
                if np.isfinite(value):
                    yield {"ph": "C", "pid": SITE, "name": name, "ts": _us(at_s)} | {
                        "args": {"value": value}
                    }
    processes: dict[tuple[str, int], int] = {}
    lanes: set[tuple[int, int]] = set()
    for row in rows.to_dict("records"):
        who = (str(row["deployment"]), int(row["replica"]))
        if who not in processes:
            processes[who] = len(processes) + 1
            yield _called("process_name", processes[who], f"{who[0]}: replica {who[1]}")
        pid, lane = processes[who], int(row["lane"]) + 1
        if (pid, lane) not in lanes:
            lanes.add((pid, lane))
            yield _called("thread_name", pid, f"place {lane}", lane)
        yield from _request(row, pid, lane)


def _request(row: Mapping[Hashable, Any], pid: int, lane: int) -> Iterator[Event]:
    """Yield what a request did: waited, had its prompt computed, was answered."""
    number = int(row["request_id"])
    waits = {"cat": "waiting", "name": "waiting", "pid": pid, "id": number}
    if row["admitted_s"] > row["arrival_s"]:
        yield waits | {"ph": "b", "ts": _us(row["arrival_s"]), "args": {"request": number}}
        yield waits | {"ph": "e", "ts": _us(row["admitted_s"])}
    told = {
        "request": number,
        "workload": str(row["workload"]),
        "prompt_tokens": int(row["prompt_tokens"]),
        "output_tokens": int(row["output_tokens"]),
    }
    for name, start, end in (
        ("prefill", row["admitted_s"], row["first_s"]),
        ("decode", row["first_s"], row["end_s"]),
    ):
        if end > start:
            at = {"ph": "X", "pid": pid, "tid": lane, "name": name, "cat": name}
            yield at | {"ts": _us(start), "dur": round(1e6 * (end - start), 3), "args": told}


def _called(kind: str, pid: int, name: str, tid: int = 0) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {"name": name}}


def _us(seconds: float) -> float:
    return round(1e6 * seconds, 3)
