"""What autoscaling did: replicas up in the mean, starts and how long they took, who waited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import duration, number

Figures = Mapping[str, Any]


def scaled(summary: Figures) -> dict[str, Figures]:
    """Return the deployments, or pools of them, that are scaled, by name."""
    found = {}
    for name, part in summary.get("deployments", {}).items():
        found[name] = part
        for role, pool in part.get("pools", {}).items():
            found[f"{name}/prefill" if role == "prefill" else name] = pool
    return {name: part for name, part in found.items() if "autoscaling" in part}


def autoscaling(summary: Figures) -> Iterator[Block]:
    """Yield a row for each deployment, or pool, that is scaled."""
    parts = scaled(summary)
    if not parts:
        return
    rows = [["", "up, mean", "placed", "starts", "took, mean", "stops", "waited"]]
    for name, part in parts.items():
        did = part["autoscaling"]
        took = duration(did["cold_start_s"]["mean"]) if "cold_start_s" in did else ""
        rows.append(
            [
                name,
                number(did["replicas_mean"]),
                f"{part['replicas']:,}",
                f"{did['starts']:,}",
                took,
                f"{did['stops']:,}",
                f"{did['requests_waited_for_start']:,}",
            ]
        )
    yield Table(rows)
    yield Entry("waited", "requests that found no replica open, and waited for one to start")
    resent = sum(part["autoscaling"].get("requests_resent", 0) for part in parts.values())
    if resent:
        yield Entry("sent again", f"{resent:,} requests, at the deadline of a drain")
