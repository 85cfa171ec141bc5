"""The stations of a request, and Little's law at each: how many are there, how fast, how long.

A request goes through the factory as a car body through a plant: over the road to it, into the
queue, to the press that takes its prompt, over the crane to the line, down the line token by token,
and home. At every station WIP = throughput x cycle time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Stay(NamedTuple):
    """When requests came to a station and left it, seconds; one value a request."""

    came_s: Floats
    left_s: Floats


def stays_of(
    table: pd.DataFrame, ways_s: Mapping[str, float], withheld: Collection[str] = ()
) -> dict[str, list[Stay]]:
    """Return the stays of completed requests by station.

    table: as `request_table` makes it, without front doors. ways_s: from client to replica, and as
    long back, by workload. withheld: deployments whose first token the decoding replica emits, so
    that TTFT has the transfer in it. What a request waits at the replica that decodes is decoding.
    """
    done = those(table, table["outcome"] == "completed")
    sent: Floats = done["arrival_s"].to_numpy(np.float64)
    way: Floats = done["workload"].map(ways_s).to_numpy(np.float64)
    first = sent + _span_s(done, "ttft_ms") - way
    end = sent + _span_s(done, "e2e_ms") - way
    arrived, admitted = sent + way, done["admitted_s"].to_numpy(np.float64)
    found: dict[str, list[Stay]] = {}
    if way.any():
        found["network"] = [Stay(sent, arrived), Stay(end, end + way)]
    queued = arrived
    if "encoding_ms" in done:
        encoded = _span_s(done, "encoding_ms")
        queued = np.minimum(arrived + encoded, admitted)
        found["encode"] = [Stay(arrived, queued)]
    found["queue"] = [Stay(queued, admitted)]
    prefilled = first
    begun = first
    if "transfer_ms" in done:
        moved = _span_s(done, "transfer_ms")
        inside = done["deployment"].isin(list(withheld)).to_numpy()
        prefilled = np.where(inside, np.maximum(first - moved, admitted), first)
        begun = np.minimum(prefilled + moved, end)
        found["transfer"] = [Stay(prefilled, begun)]
    found["prefill"] = [Stay(admitted, prefilled)]
    found["decode"] = [Stay(begun, end)]
    return {name: found[name] for name in STATIONS if name in found}


def those(table: pd.DataFrame, wanted: pd.Series[bool]) -> pd.DataFrame:
    """Return the wanted rows: the table itself, and no copy, where these are all."""
    return table if wanted.all() else table[wanted]


STATIONS = ("network", "encode", "queue", "prefill", "transfer", "decode")
"""In the order of a request's way; the network is its first and its last."""


ASKED = (
    *("arrival_s", "workload", "deployment", "ttft_ms", "e2e_ms", "admitted_s", "encoding_ms"),
    *("transfer_ms", "outcome"),
)
"""Columns of the table of requests that say where they were when."""


def _span_s(table: pd.DataFrame, column: str) -> Floats:
    """Return a latency in seconds, nothing for who never had it."""
    found: Floats = np.nan_to_num(table[column].to_numpy(np.float64)) / 1e3
    return found


def little(stays: list[Stay], start_s: float, end_s: float, scale: float = 1.0) -> dict[str, float]:
    """Return WIP, throughput and cycle time of a station in a window.

    wip: the mean number there. throughput_per_s: that left it within the window, once for all its
    parts; cycle_time_s: the mean time that they spent there, in all. Over a window from before the
    first came until after the last left, the first is the product of the others. scale: how many
    a request stands for.
    """
    seconds = end_s - start_s
    inside = sum(
        float(np.maximum(np.minimum(s.left_s, end_s) - np.maximum(s.came_s, start_s), 0.0).sum())
        for s in stays
    )
    left_s = stays[-1].left_s
    out = (left_s > start_s) & (left_s <= end_s)
    found = {
        "wip": scale * inside / seconds,
        "throughput_per_s": scale * float(np.count_nonzero(out)) / seconds,
    }
    if out.any():
        spent = sum((s.left_s - s.came_s for s in stays), start=np.zeros(len(left_s)))
        found["cycle_time_s"] = float(spent[out].mean())
    return found


def board(
    table: pd.DataFrame,
    ways_s: Mapping[str, float],
    withheld: Collection[str],
    window: tuple[float, float],
    scale: float,
) -> dict[str, dict[str, float]]:
    """Return the figures of each station that requests of a deployment spent any time at."""
    found = {
        name: little(stays, *window, scale)
        for name, stays in stays_of(table, ways_s, withheld).items()
    }
    return {name: figures for name, figures in found.items() if figures["wip"] > 0.0}
