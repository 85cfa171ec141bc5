"""Classes of service on the terminal: who waited how long, and what each brought in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import duration, number, percent

Figures = Mapping[str, Any]

MOST = 6
"""Tenants that are shown, those with most tokens first; the run folder has all."""


def classes(summary: Figures) -> Iterator[Block]:
    """Yield a line for each class (of workloads without classes: each workload), and tenants."""
    found = summary.get("classes", {})
    paid = "revenue_usd" in summary
    rows = [["", "completed", "TTFT p50", "TTFT p99", "TPOT p50", "SLO met", *["USD"] * paid]]
    for name, part in found.items():
        row = [name, f"{part['requests_completed']:,}"]
        for key, place in (("ttft_ms", "p50"), ("ttft_ms", "p99"), ("tpot_ms", "p50")):
            row.append(duration(part[key][place] / 1e3) if key in part else "")
        kept = part.get("slo", {}).get("share_of_requests_met")
        row.append("" if kept is None else percent(kept))
        rows.append(row + ([number(part["revenue_usd"])] if paid else []))
    if found:
        yield Table(rows)
    if paid:
        dollars = number(summary["revenue_usd"])
        yield Entry("revenue", f"{dollars} USD, of requests that arrived in the window")
    yield from _tenants(summary.get("tenants", {}))


def _tokens(tenant: Figures) -> int:
    return int(tenant["input_tokens"] + tenant["output_tokens"])


def _tenants(tenants: Figures) -> Iterator[Block]:
    rows = [["tenant", "completed", "tokens", "TTFT p50", "TTFT p99"]]
    most = sorted(tenants, key=lambda name: -_tokens(tenants[name]))
    for name in most[:MOST]:
        part = tenants[name]
        waited = part.get("ttft_ms", {})
        rows.append(
            [
                name,
                f"{part['requests_completed']:,}",
                f"{_tokens(part):,}",
                *(duration(waited[p] / 1e3) if p in waited else "" for p in ("p50", "p99")),
            ]
        )
    if tenants:
        yield Table(rows)
    if len(tenants) > MOST:
        yield Entry("more tenants", f"{len(tenants) - MOST:,}, in summary.json")
