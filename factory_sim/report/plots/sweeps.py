"""How does a figure move with what a sweep moves? One plot for each metric.

Along one axis: a line with its 95 % interval. Over two: a heat map. Over more, or where points are
sampled: a panel for each axis, with a mark for each point. Along one axis of numbers also where
requests spend their time, of runs that have a board of stations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import from_parquet
from factory_sim.experiments.sweep.run import Swept
from factory_sim.experiments.sweep.table import HALF_WIDTH
from factory_sim.report.plots import stations, style
from factory_sim.report.sweep import LABELS, places, short
from factory_sim.report.text import number

_USUAL = (
    "goodput_output_tokens_per_s",
    "output_tokens_per_s",
    "ttft_ms.p99",
    "tpot_ms.p99",
    "grid_power_mw.mean",
    "energy_per_output_token_j",
)
"""Metrics that are drawn where a sweep names none."""

_MOST = 12
_MOST_CELLS = 80
_MOST_READ = 1_000
"""Runs whose stations are read: each has a file of its own."""

_LOG_FROM = 30.0
"""From this ratio of largest to smallest a linear axis would hide the small ones."""


def plots_of(swept: Swept) -> dict[str, Callable[[], Figure]]:
    """Return a plot of each metric that is drawn, by its name; and one of stations."""
    points = swept.points
    asked = swept.metrics if "metrics" in swept.sweep.model_fields_set else _USUAL
    known = [name for name in asked if name in points and points[name].notna().any()]
    found = {metric: partial(draw, swept, points, metric) for metric in known[:_MOST]}
    return found | stations_of(swept)


def stations_of(swept: Swept) -> dict[str, Callable[[], Figure]]:
    """Return the plot of stations along the one axis of a sweep, if it is one of numbers.

    Of many replications the first of each point are read.
    """
    if swept.sweep.design != "grid" or len(swept.axes) > 1:
        return {}
    axis = swept.fields[0]
    done = swept.runs[swept.runs["status"] == "done"]
    if not pd.api.types.is_numeric_dtype(done[axis]):
        return {}
    kept, places = Store(swept.folder), done[axis].unique().tolist()
    each = max(1, _MOST_READ // max(1, len(places)))
    keys = {at: done["run"][done[axis] == at].head(each) for at in places}
    levels = stations.levels(
        (at, [from_parquet(kept.path(key).read_bytes()) for key in own]) for at, own in keys.items()
    )
    name = short(axis, swept.fields)
    return {"stations": partial(stations.draw, levels, axis, name)} if len(levels) > 1 else {}


def draw(swept: Swept, points: pd.DataFrame, metric: str) -> Figure:
    """Return the plot of a metric over the points of a sweep."""
    known = points[points[metric].notna()]
    axes = [fields[0] for fields in swept.axes.values()]  # those that move with it say the same
    names = [short(axis, swept.fields) for axis in axes]
    figure = style.figure(11.0, 6.0)
    if swept.sweep.design == "grid" and len(axes) == 1:
        _line(figure.subplots(), known, axes[0], metric)
    elif swept.sweep.design == "grid" and len(axes) == 2:
        _heat_map(figure, known, axes, metric)
    else:
        _panels(figure, known, axes, names, metric)
    label = LABELS.get(metric, metric)
    verb = "do" if len(names) > 1 else "does"
    style.ask(
        figure, f"What {verb} {_listed(names)} make of {label}?", _answer(swept, known, metric)
    )
    return figure


def _line(axes: Axes, points: pd.DataFrame, axis: str, metric: str) -> None:
    places, mean = _places(axes, points[axis], axis), points[metric].to_numpy()
    half_width = points[metric + HALF_WIDTH].fillna(0.0).to_numpy()
    axes.plot(places, mean, color=style.BLUE, marker="o")
    axes.fill_between(
        places, mean - half_width, mean + half_width, color=style.SKY, alpha=0.4, linewidth=0
    )
    axes.set_xlabel(axis)
    _scale(axes, mean, metric)


def _heat_map(figure: Figure, points: pd.DataFrame, axes: Sequence[str], metric: str) -> None:
    across, up = (list(dict.fromkeys(points[axis])) for axis in axes)
    values = np.full((len(up), len(across)), np.nan)
    for x, y, value in zip(points[axes[0]], points[axes[1]], points[metric], strict=True):
        values[up.index(y), across.index(x)] = value
    panel = figure.subplots()
    mesh = panel.pcolormesh(values, cmap="cividis", edgecolors="white", linewidth=1.0)
    panel.set_xticks(np.arange(len(across)) + 0.5, [_said(value) for value in across])
    panel.set_yticks(np.arange(len(up)) + 0.5, [_said(value) for value in up])
    panel.grid(False)
    panel.set_xlabel(axes[0])
    panel.set_ylabel(axes[1])
    if values.size <= _MOST_CELLS:
        middle = (np.nanmin(values) + np.nanmax(values)) / 2.0
        for (row, column), value in np.ndenumerate(values):
            text = "failed" if math.isnan(value) else number(value)
            colour = "black" if value > middle or math.isnan(value) else "white"
            panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)
    bar = figure.colorbar(mesh, ax=panel, format=FuncFormatter(lambda value, _: number(value)))
    bar.set_label(LABELS.get(metric, metric))


def _panels(
    figure: Figure,
    points: pd.DataFrame,
    axes: Sequence[str],
    names: Sequence[str],
    metric: str,
) -> None:
    columns = min(len(axes), 3)
    rows = math.ceil(len(axes) / columns)
    figure.set_size_inches(11.0, 2.0 + 3.5 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for panel, axis, name in zip(panels, axes, names, strict=False):
        places = _places(panel, points[axis], axis)
        panel.plot(places, points[metric], "o", color=style.BLUE, alpha=0.7, markersize=4)
        panel.set_xlabel(name)
        _scale(panel, points[metric].to_numpy(), metric if panel is panels[0] else "")
    for panel in panels[len(axes) :]:
        panel.set_axis_off()


def _places(axes: Axes, values: pd.Series[Any], name: str) -> Any:
    """Return where values stand on an axis; what is no number stands in the order it comes."""
    if pd.api.types.is_numeric_dtype(values):
        low, high = float(values.min()), float(values.max())
        if low > 0.0 and high / low > _LOG_FROM:
            axes.set_xscale("log")
        return values.to_numpy()
    kinds = list(dict.fromkeys(values))
    axes.set_xticks(range(len(kinds)), kinds)
    return np.array([kinds.index(value) for value in values])


def _scale(axes: Axes, values: Any, metric: str) -> None:
    low, high = float(np.min(values)), float(np.max(values))
    if low > 0.0 and high / low > _LOG_FROM:
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    if metric:
        axes.set_ylabel(LABELS.get(metric, metric))


def _answer(swept: Swept, points: pd.DataFrame, metric: str) -> str:
    """Say between what a metric lies, and where."""
    ordered = points.sort_values(metric, kind="stable")
    ends = ordered.iloc[[0, -1]]
    low, high = (
        f"{number(float(value))} at {place}"
        for value, place in zip(ends[metric], places(ends, swept.fields), strict=True)
    )
    return f"From {low} to {high}."


def _said(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
