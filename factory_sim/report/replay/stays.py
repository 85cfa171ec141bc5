"""Who was in which batch, when: requests with a lane of their own while they are in one.

Made from the table of requests, so as clients saw it: a lane is taken from admission to the last
token, and a request that was preempted keeps its own in between.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
import pandas as pd

from factory_sim.errors import InputError, Problem
from factory_sim.report.saved import SavedRun

COLUMNS = ("arrival_s", "admitted_s", "first_s", "end_s")
"""When a request came to its deployment, was admitted, and had its first and its last token."""


def stays(run: SavedRun, start_s: float = 0.0, end_s: float = np.inf) -> pd.DataFrame:
    """Return the completed requests that were in a batch within [start_s, end_s), by admission.

    Columns: deployment, replica, lane (from 0, the lowest that is free when the request is
    admitted), times by COLUMNS, prompt_tokens, output_tokens, workload, request_id.
    Raises InputError for a run without rows, or with none then.
    """
    if run.requests is None:
        said = "keeps no row of any request; run it with 'recording: full' or 'sample'"
        raise InputError(Problem("recording", said))
    rows = run.requests
    rows = rows[(rows["outcome"] == "completed") & rows["admitted_s"].notna()]
    server = "server_" if "server_ttft_ms" in rows else ""
    came_s = rows["arrival_s"]
    if server:  # latencies there are from when the request reached the deployment
        came_s = came_s + (rows["e2e_ms"] - rows["server_e2e_ms"]) / 2e3
    found = rows[["deployment", "replica", "workload", "request_id"]].copy()
    found["arrival_s"], found["admitted_s"] = came_s, np.maximum(rows["admitted_s"], came_s)
    found["first_s"] = came_s + rows[f"{server}ttft_ms"] / 1e3
    found["end_s"] = came_s + rows[f"{server}e2e_ms"] / 1e3
    found[["prompt_tokens", "output_tokens"]] = rows[["prompt_tokens", "output_tokens"]]
    found = found.sort_values(["admitted_s", "request_id"], kind="stable", ignore_index=True)
    found["lane"] = _lanes(found)
    found = found[(found["end_s"] >= start_s) & (found["arrival_s"] < end_s)]
    if not len(found):
        said = f"no request was there between {start_s:g} s and {end_s:g} s"
        raise InputError(Problem("--from", f"{said}; name another time"))
    return found.reset_index(drop=True)


def _lanes(rows: pd.DataFrame) -> np.ndarray:
    """Return the lane of each request among those of its replica; rows: by admission."""
    lanes = np.zeros(len(rows), np.int64)
    groups = rows.groupby(["deployment", "replica"], observed=True, sort=False)
    for own in groups.indices.values():
        places = np.asarray(own)
        free: list[int] = []
        busy: list[tuple[float, int]] = []
        opened = 0
        came, left = (rows[name].to_numpy()[places].tolist() for name in ("admitted_s", "end_s"))
        for place, at_s, until_s in zip(places.tolist(), came, left, strict=True):
            while busy and busy[0][0] <= at_s:
                heappush(free, heappop(busy)[1])
            if free:
                lane = heappop(free)
            else:
                lane, opened = opened, opened + 1
            lanes[place] = lane
            heappush(busy, (until_s, lane))
    return lanes
