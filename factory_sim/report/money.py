"""Money on the terminal: what a GPU-hour and a million tokens cost, and what sales leave of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import number, percent

Figures = Mapping[str, Any]

COMPONENTS = {
    "equipment": "equipment",
    "facility": "building and plant",
    "colocation": "colocation",
    "maintenance": "maintenance",
    "spares": "spares",
    "staff": "staff",
    "electricity": "electricity",
    "demand": "charge on peaks",
    "rent": "rent of GPUs, all in",
}
"""What a site costs, in a planner's words."""

_BASES = {"total": "prompt + output", "input": "prompt", "output": "output"}
_KINDS = {
    "input": "prompt",
    "computed_input": "prompt, computed",
    "cached_input": "prompt, cached",
    "output": "output",
}


def money(summary: Figures) -> Iterator[Block]:
    """Yield the costs by component and by token, the sales, and the same by who was served."""
    if "costs_usd" in summary:
        yield from _costs(summary)
        yield from _tokens(summary)
    yield from _sales(summary)
    yield from _parts(summary)


def _costs(summary: Figures) -> Iterator[Block]:
    paid, whole = summary["costs_usd"], summary["cost_usd"]
    window = summary["window_s"]
    hours = (window["end"] - window["start"]) / 3600.0
    rows = [["", "USD/h", "share"]]
    for name, usd in paid.items():
        share = percent(usd / whole) if whole else ""
        rows.append([COMPONENTS[name], number(usd / hours), share])
    yield Table(rows)
    if "usd_per_gpu_h" in summary:
        text = f"{number(summary['usd_per_gpu_h'])} USD{_band(summary, 'usd_per_gpu_h')}"
        yield Entry("a GPU-hour", text)


def _tokens(summary: Figures) -> Iterator[Block]:
    bands = summary.get("cost_band", {})
    rows = [["USD a million tokens", "all costs", *["5 %", "95 %"] * bool(bands), "energy alone"]]
    for base, label in _BASES.items():
        key = f"usd_per_million_{base}_tokens"
        if key in summary:
            energy = summary.get(f"energy_{key}")
            figures = [summary[key], *bands.get(key, [])]
            rows.append(
                [
                    f"by {label}",
                    *map(number, figures),
                    "" if energy is None else number(energy),
                ]
            )
    if len(rows) > 1:
        yield Table(rows)
    kinds = summary.get("usd_per_million_by_kind", {})
    if kinds:
        told = ", ".join(f"{_KINDS[kind]} {number(usd)}" for kind, usd in kinds.items())
        yield Entry("split by work", f"USD a million: {told}")


def _band(summary: Figures, key: str) -> str:
    ends = summary.get("cost_band", {}).get(key)
    return "" if ends is None else f" ({number(ends[0])} to {number(ends[1])})"


def _sales(summary: Figures) -> Iterator[Block]:
    if "revenue_usd_per_h" in summary:
        earned = number(summary["revenue_usd_per_h"])
        yield Entry("revenue", f"{earned} USD/h, of tokens made in the window")
    if "profit_usd_per_h" in summary:
        text = f"{number(summary['profit_usd_per_h'])} USD/h"
        key = "profit_usd_per_mw_year"
        if key in summary:
            text += f", {_millions(summary[key])} a year for each utility MW provisioned"
            ends = summary.get("cost_band", {}).get(key)
            if ends is not None:
                text += f" ({_millions(ends[0])} to {_millions(ends[1])})"
        yield Entry("profit", text)
    if "breakeven_utilisation" in summary:
        share = percent(summary["breakeven_utilisation"])
        yield Entry("breaks even", f"at {share} of these tokens sold")
    if "contribution_usd_per_mw_year" in summary:
        one = _millions(summary["contribution_usd_per_mw_year"])
        yield Entry("one more MW", f"of the same earns {one} a year after electricity")
        hour = number(summary["downtime_usd_per_h"])
        yield Entry("an hour of downtime", f"loses {hour} USD")
    if "revenue_usd_per_h_held_back_by_cap" in summary:
        held = number(summary["revenue_usd_per_h_held_back_by_cap"])
        told = f"up to {held} USD/h of sales: an estimate, of the time that lower clocks took"
        yield Entry("held back by the cap", told)


def _millions(usd: float) -> str:
    return f"{number(usd / 1e6)} MUSD"


def _parts(summary: Figures) -> Iterator[Block]:
    """Yield a row for each deployment, model and class, where there are several."""
    keys = {
        "usd_per_million_output_tokens": "USD/M output",
        "usd_per_million_total_tokens": "USD/M in all",
        "revenue_usd_per_h": "revenue/h",
        "profit_usd_per_h": "profit/h",
    }
    rows = []
    for of in ("deployments", "models", "classes"):
        parts = {n: p for n, p in summary.get(of, {}).items() if keys.keys() & p.keys()}
        if len(parts) > 1:
            rows += list(parts.items())
    shown = [key for key in keys if any(key in part for _, part in rows)]
    if rows:
        yield Table(
            [
                ["", *(keys[key] for key in shown)],
                *(
                    [name, *(number(part[key]) if key in part else "" for key in shown)]
                    for name, part in rows
                ),
            ]
        )
