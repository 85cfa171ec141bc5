"""How sure a run's figures are: intervals where few stand for many, bands of fitted parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import number, percent

Figures = Mapping[str, Any]

_NAMES = {
    "output_tokens_per_s": "output tokens/s",
    "goodput_output_tokens_per_s": "of which within promise",
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
    "e2e_ms": "end to end",
    "grid_power_mw": "drawn at the meter",
    "energy_per_output_token_j": "per output token",
    "output_tokens_per_s_per_utility_mw": "output tokens/s per utility MW",
}
_BIASES = {"routing": "routing_bias", "failures": "failure_bias"}
_UNITS = dict.fromkeys(_NAMES, "") | {
    "ttft_ms": "ms",
    "tpot_ms": "ms",
    "e2e_ms": "ms",
    "energy_per_output_token_j": "J",
}


def intervals(summary: Figures) -> Iterator[Block]:
    """Yield each headline figure and its interval, where a few replicas stand for many."""
    widths = summary.get("confidence", {}) if "represented_replicas" in summary else {}
    biases = {name: summary[key] for name, key in _BIASES.items() if key in summary}
    rows = [["", "value", "", "margin", *(f"of it {name}" for name in biases)]]
    for key in _NAMES:
        width = widths.get(key, {})
        parts = width if isinstance(width, Mapping) else {"": width}
        for part in ("", "mean", "p99"):
            if part in parts:
                figure = summary[key]
                value = figure[part or "mean"] if isinstance(figure, Mapping) else figure
                row = _row(key, part, value, [parts[part]])
                row[-1] = f"± {row[-1]}"
                row.append(f"± {percent(parts[part] / value)}" if value else "")
                for bias in biases.values():
                    of = bias.get(key, 0.0)
                    off = of.get(part) if isinstance(of, Mapping) else of
                    row.append(f"± {percent(off / value)}" if off and value else "")
                rows.append(row)
    if len(rows) > 1:
        yield Table(rows)
        yield Entry("half as wide", "with four times the replicas simulated (--sample)")
    yield from _sampled(summary)


def _sampled(summary: Figures) -> Iterator[Block]:
    """Yield how large a share it took, and what was left out."""
    if "replicas_away" in summary:
        away = summary["replicas_away"]
        said = f"left out: {percent(away['mean'])} of the replicas away in the mean, in 95 % of "
        yield Entry("failures", said + f"such runs at most {percent(away['p95'])}")
    if "sample" in summary:
        told = summary["sample"]
        said = f"{percent(told['share'])} of the replicas"
        if told["tried"]:
            wide = f"± {percent(told['precision'])}"
            small = ", ".join(percent(share) for share in told["tried"])
            said += f"; {small} gave wider intervals than {wide}"
        yield Entry("share it took", said)


def bands(summary: Figures) -> Iterator[Block]:
    """Yield each headline figure and its band as fitted parameters vary."""
    found = summary.get("uncertainty", {})
    rows = [["", "value", "low", "high", "margin"]]
    for path, (low, high) in found.items():
        key, _, part = path.partition(".")
        value = summary[key][part] if part else summary[key]
        rows.append([*_row(key, part, value, [low, high]), f"± {percent((high / value) - 1.0)}"])
    if found:
        yield Table(rows)


def _row(key: str, part: str, value: float, others: list[float]) -> list[str]:
    """Return the label of a figure, its value, and others in the same unit."""
    scale, unit = (1e3, "kW") if key.endswith("power_mw") else (1.0, _UNITS[key])
    label = f"{_NAMES[key]} {part}".rstrip() + (f", {unit}" if unit else "")
    return [label, *(number(scale * figure) for figure in (value, *others))]
