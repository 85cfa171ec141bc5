"""How fast do answers arrive in each region? What servers give, and what users have of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from factory_sim.report.plots import style
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import duration, number, percent

_ROWS = 12
_LOG_FROM = 6.0
"""From this ratio of largest to smallest a linear axis would hide the small ones."""

_OFFSET = 0.17
_USER, _SERVER = style.BLUE, style.ORANGE

Floats = NDArray[np.float64]


class _Panel(NamedTuple):
    """One figure of a request: its title, and how a value reads."""

    title: str
    is_time: bool

    def text(self, value: float) -> str:
        """Return a value as it stands at its mark."""
        return duration(value) if self.is_time else number(value)

    def tick(self, value: float) -> str:
        """Return a round value for the axis."""
        return f"{value:,g}" if not (self.is_time and value) else duration(value)


_TTFT = _Panel("Time to first token", True)
_PACE = _Panel("Tokens/s of an answer, from sending on", False)
_GAP = _Panel("Longest gap between two tokens", True)


def applies(run: SavedRun) -> bool:
    """Say whether users come from regions."""
    return bool(run.summary.get("regions"))


def draw(run: SavedRun) -> Figure:
    """Return a panel each for first tokens, pace and gaps, with a row for each region."""
    names = list(run.summary.get("regions", {}))[:_ROWS]
    figure = style.figure(12.0, 2.6 + 1.0 * max(2, len(names)))
    panels = figure.subplots(1, 3, sharey=True)
    assert run.requests is not None  # a row of each, where there are regions
    measured = run.requests[run.requests["measured"]]
    parts = {name: _figures(measured[measured["region"] == name]) for name in names}
    for axes, panel in zip(panels, (_TTFT, _PACE, _GAP), strict=True):
        axes.set_title(panel.title)
        rows = {name: part[panel] for name, part in parts.items()}
        if any(len(values) for sides in rows.values() for values in sides.values()):
            _ranges(axes, panel, rows)
        else:
            style.nothing(axes, "no request has one")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.45, -0.55)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    style.ask(figure, "How fast do answers arrive in each region?", _answer(run.summary))
    return figure


def _figures(own: pd.DataFrame) -> dict[_Panel, dict[str, Floats]]:
    """Return for each panel what users see, and what servers give, of one region's requests."""
    done = own[own["outcome"] == "completed"]
    found: dict[_Panel, dict[str, Floats]] = {_TTFT: {}, _PACE: {}, _GAP: {}}
    for side, prefix in (("user", ""), ("server", "server_")):
        found[_TTFT][side] = _finite(own[f"{prefix}ttft_ms"]) / 1e3
        pace = 1e3 * done["output_tokens"] / done[f"{prefix}e2e_ms"]
        found[_PACE][side] = _finite(pace)
    found[_GAP]["user"] = _finite(done.loc[done["output_tokens"] > 1, "longest_gap_ms"]) / 1e3
    return found


def _finite(column: pd.Series[float]) -> Floats:
    values = np.asarray(column, dtype=np.float64)
    return values[np.isfinite(values)]


_SIDES = {
    "server": ("at the server (median; bar from p5 to p95)", _SERVER, "s", -_OFFSET),
    "user": ("at the user", _USER, "o", _OFFSET),
}


def _ranges(axes: Axes, panel: _Panel, rows: Mapping[str, Mapping[str, Floats]]) -> None:
    """Draw a bar from p5 to p95 and the median for each region, and above them those at servers."""
    seen: list[float] = []
    for row, sides in enumerate(rows.values()):
        for side, (label, colour, marker, offset) in _SIDES.items():
            values = sides.get(side, np.empty(0))
            if not len(values):
                continue
            low, middle, high = np.percentile(values, (5.0, 50.0, 95.0)).tolist()
            seen += [low, high]
            at = row + (offset if len(sides) > 1 else 0.0)
            axes.plot([low, high], [at, at], color=colour, linewidth=5, alpha=0.45)
            first = f"_{label}" if row else label
            axes.plot([middle], [at], marker, color=colour, markersize=9, label=first)
            above = offset < 0.0
            axes.annotate(
                panel.text(middle),
                (middle, at),
                xytext=(0, 6 if above else -6),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=11,
            )
    low, high = min(seen), max(seen)
    if low > 0.0 and high / low > _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.5, 1.5 * high)
        decades = np.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 1.2 else (1.0, 3.0) if decades < 2.2 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    else:
        axes.set_xlim(left=0.0, right=1.12 * high)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: panel.tick(value)))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _answer(summary: Mapping[str, Any]) -> str:
    """Return where answers arrive fastest and slowest, beside what the servers give there."""
    paces = {
        name: (part["answer_tokens_per_s"]["p50"], part["server_answer_tokens_per_s"]["p50"])
        for name, part in summary.get("regions", {}).items()
        if "answer_tokens_per_s" in part
    }
    if not paces:
        return "No answer was completed."
    ranked = sorted(paces, key=lambda name: -paces[name][0])
    ends = {"Fastest": ranked[0], "Slowest": ranked[-1]} if len(ranked) > 1 else {"All": ranked[0]}
    told = []
    for which, name in ends.items():
        user, server = paces[name]
        lost = f", {percent(1.0 - user / server)} less than servers give" if user < server else ""
        told.append(f"{which}: {name}, {number(user)} tokens/s{lost}.")
    return " ".join([*told, "Medians of answers."])
