"""Do requests meet the promise? The distribution of each latency, with its limit."""

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
from factory_sim.report.saved import SavedRun, sampled
from factory_sim.report.summary import promises_of
from factory_sim.report.text import duration, percent

LATENCIES = {
    "ttft": "Time to first token",
    "tpot": "Time per output token",
    "e2e": "End to end",
}
_BINS = 60
_ROWS = 5
# From this ratio of longest to shortest a linear axis would hide the short ones.
_LOG_FROM = 6.0

Floats = NDArray[np.float64]


def applies(run: SavedRun) -> bool:
    """Tell whether any request has a row to draw."""
    return run.requests is not None


def draw(run: SavedRun) -> Figure:
    """Return one histogram per latency, a row per deployment (the busiest, if many)."""
    assert run.requests is not None
    measured = run.requests[run.requests["measured"]]
    busiest = list(measured["deployment"].value_counts().index[:_ROWS]) or [""]
    promises = promises_of(run.summary)
    drawn = sampled(run.record)
    share = "" if drawn is None else percent(drawn)
    figure = style.figure(12.0, 1.6 + 3.4 * len(busiest))
    grid = figure.subplots(len(busiest), len(LATENCIES), squeeze=False)
    for name, row in zip(busiest, grid, strict=True):
        own = measured[measured["deployment"] == name]
        promise = promises.get(name)
        for (key, title), axes in zip(LATENCIES.items(), row, strict=True):
            axes.set_title(f"{name}: {title.lower()}" if len(busiest) > 1 else title)
            _histogram(axes, finite(own[f"{key}_ms"]), limit_of(promise, key))
        row[0].set_ylabel("share of requests" + (f" ({share} sampled)" if share else ""))
    style.ask(figure, "Do requests meet the promise?", answer(promises))
    return figure


class Limit(NamedTuple):
    """What was promised of a latency, and the percentile it came to (None: never answered)."""

    limit_ms: float
    percentile: float
    value_ms: float | None


def limit_of(promise: Mapping[str, Any] | None, key: str) -> Limit | None:
    if promise is None or key not in promise:
        return None
    part = promise[key]
    return Limit(part["limit_ms"], promise["percentile"], part.get("value_ms"))


def finite(column: pd.Series[float]) -> Floats:
    values = np.asarray(column, dtype=np.float64)
    return values[np.isfinite(values)]


def _histogram(axes: Axes, values: Floats, promise: Limit | None) -> None:
    if not len(values):
        style.nothing(axes, "no request has one")
        return
    limit = None if promise is None else promise.limit_ms
    edges, shares, logarithmic = histogram(values, limit)
    colours = [
        style.BAD if limit is not None and left >= limit else style.GOOD for left in edges[:-1]
    ]
    axes.bar(edges[:-1], shares, np.diff(edges), align="edge", color=colours)
    if logarithmic:
        _logarithmic(axes, edges)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: duration(ms / 1e3) if ms else "0"))
    axes.yaxis.set_major_formatter(FuncFormatter(_share))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", visible=False)
    _marks(axes, float(shares.max()), values, promise)


def histogram(values: Floats, limit: float | None) -> tuple[Floats, Floats, bool]:
    """Return the edges of bins, the share of `values` in each, and whether the bins are log."""
    edges, logarithmic = _edges(values, limit)
    found = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return edges, found / len(values), logarithmic


def _share(share: float, _: int) -> str:
    return f"{100 * share:g} %" if share <= 1 else ""


def _edges(values: Floats, limit: float | None) -> tuple[Floats, bool]:
    """Return bin edges over all `values`, one of them at the limit, and whether they are log."""
    low, high = float(values.min()), float(values.max())
    if limit is not None:
        # The limit is in the picture, unless it is so far off that the data would vanish.
        low, high = min(low, max(limit, low / 10)), max(high, min(limit, high * 10))
    margin = 1.08
    low, high = low / margin, high * margin
    logarithmic = low > 0 and high / low > _LOG_FROM
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = (np.geomspace if logarithmic else np.linspace)(low, high, _BINS + 1)
    if limit is not None and low < limit < high:
        # A bin across the limit would mix the kept with the broken.
        edges[1 + np.argmin(np.abs(edges[1:-1] - limit))] = limit
    return edges, logarithmic


def _logarithmic(axes: Axes, edges: Floats) -> None:
    axes.set_xscale("log")
    decades = np.log10(edges[-1] / edges[0])
    subs = (1.0, 2.0, 5.0) if decades < 1.2 else (1.0, 3.0) if decades < 2.2 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.xaxis.set_minor_locator(LogLocator(subs=(1.0,), numticks=20))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def _marks(axes: Axes, highest: float, values: Floats, promise: Limit | None) -> None:
    """Draw the median, the tail and the limit, their labels stacked above the bars."""
    marks = [_at(50.0, float(np.percentile(values, 50.0)))]
    if promise is None:
        marks.append(_at(99.0, float(np.percentile(values, 99.0))))
    else:
        # The promise counts requests without an answer too, so its value is the summary's.
        if promise.value_ms is not None:
            marks.append(_at(promise.percentile, promise.value_ms))
        label = f"p{promise.percentile:g} limit {duration(promise.limit_ms / 1e3)}"
        marks.append((label, promise.limit_ms, style.LIMIT, "--"))
    step = 0.13
    room = 1.0 - step * len(marks)
    axes.set_ylim(0.0, highest / room)
    for index, (label, value, colour, line) in enumerate(marks):
        _mark(axes, label, value, room + step * (index + 0.6), colour, line)


def _at(percentile: float, value_ms: float) -> tuple[str, float, str, str]:
    return f"p{percentile:g} {duration(value_ms / 1e3)}", value_ms, style.GREY, "-"


def _mark(axes: Axes, label: str, value: float, level: float, colour: str, line: str) -> None:
    """Draw an upright line at `value` up to `level` (0 to 1), with its label on the roomy side."""
    left, right = axes.get_xlim()
    if not left <= value <= right:
        label, value = (f"{label} →", right) if value > right else (f"← {label}", left)
    scale = axes.get_xaxis_transform()
    axes.plot([value, value], [0, level], color=colour, linestyle=line, transform=scale)
    across = axes.transAxes.inverted().transform(axes.transData.transform((value, 0.0)))[0]
    axes.annotate(
        label,
        (value, level),
        xycoords=scale,
        xytext=(-5 if across > 0.5 else 5, 0),
        textcoords="offset points",
        ha="right" if across > 0.5 else "left",
        va="center",
        color=colour,
        fontsize=11,
        # Another mark may pass behind the label.
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        zorder=5,
    )


def answer(promises: Mapping[str, Mapping[str, Any]]) -> str:
    broken: list[str] = []
    kept: list[str] = []
    for name, promise in promises.items():
        for key, title in LATENCIES.items():
            if key in promise:
                part, at = promise[key], f"p{promise['percentile']:g} of {title.lower()}"
                value = duration(part["value_ms"] / 1e3) if "value_ms" in part else "unbounded"
                of = f"{name}: " if len(promises) > 1 else ""
                text = f"{of}{at} {value}, limit {duration(part['limit_ms'] / 1e3)}"
                (kept if part["met"] else broken).append(text)
    if broken:
        return "No. " + "; ".join(broken)
    if kept:
        return "Yes. " + "; ".join(kept)
    return "No promise was made for these latencies."
