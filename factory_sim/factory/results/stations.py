"""The board of stations of a run: of each deployment, and of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from factory_sim.metrics.share import Share
from factory_sim.metrics.stations import ASKED, STATIONS, board, those
from factory_sim.scenario.scenario import Scenario

Summary = dict[str, Any]


def with_stations(
    summary: Summary, scenario: Scenario, table: pd.DataFrame, shares: Sequence[Share]
) -> Summary:
    """Return a summary with Little's law at every station. table: of every request, none of which
    came through a front door."""
    ways = {name: spec.round_trip / 2.0 for name, spec in scenario.workload.items()}
    window, scales = (scenario.warmup, scenario.duration), {s.deployment: s.scale for s in shares}
    seconds, measured = window[1] - window[0], table["measured"]
    told_of = table[[name for name in ASKED if name in table]]
    boards: dict[str, dict[str, dict[str, float]]] = {}
    deployments = dict(summary["deployments"])
    for name, part in deployments.items():
        prefill = scenario.deployments[name].prefill
        withheld = [name] if prefill is not None and prefill.first_token == "decode" else []
        here = table["deployment"] == name
        boards[name] = board(those(told_of, here), ways, withheld, window, scales[name])
        add: Summary = {"stations": boards[name]} if boards[name] else {}
        asked = scales[name] * int((measured & here).sum())
        if asked:
            add["takt_time_s"] = seconds / asked
        deployments[name] = part | add
    told = summary | {"deployments": deployments}
    found = {s: _together([b[s] for b in boards.values() if s in b]) for s in STATIONS}
    found = {name: figures for name, figures in found.items() if figures}
    asked = sum(
        seconds / part["takt_time_s"] for part in deployments.values() if "takt_time_s" in part
    )
    if found:
        told["stations"] = found
    if asked:
        told["takt_time_s"] = seconds / asked
    return told


def _together(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the figures of several stations as one: of a cycle the mean of who left."""
    if not parts:
        return {}
    rates = [part["throughput_per_s"] for part in parts]
    found = {"wip": sum(part["wip"] for part in parts), "throughput_per_s": sum(rates)}
    if sum(rates):
        spent = sum(r * part.get("cycle_time_s", 0.0) for r, part in zip(rates, parts, strict=True))
        found["cycle_time_s"] = spent / sum(rates)
    return found
