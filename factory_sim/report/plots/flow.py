"""Does work pile up? Tokens made, requests waiting and running, and the KV cache, over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter

from factory_sim.report.plots import style
from factory_sim.report.plots.time_axis import TimeAxis, window_of
from factory_sim.report.saved import SavedRun

_PANELS = ("tokens/s", "waiting\nrequests", "running\nrequests", "KV cache\nin use")


def draw(run: SavedRun) -> Figure:
    """Return four panels on one time axis: throughput, queue, batch, KV use."""
    figure = style.figure(12.0, 8.0)
    panels = figure.subplots(len(_PANELS), 1, sharex=True, height_ratios=(1.6, 1, 1, 1))
    style.ask(figure, "Does work pile up?", _answer(run))
    for axes, label in zip(panels, _PANELS, strict=True):
        axes.set_ylabel(label)
    if not len(run.timeseries):
        for axes in panels:
            style.nothing(axes, "nothing was recorded")
        return figure
    time = TimeAxis(run.timeseries)
    tokens, queue, running, kv = panels
    tokens.plot(time.time, time.mean("prompt_tokens_per_s"), color=style.SKY, label="prompt")
    tokens.plot(time.time, time.mean("output_tokens_per_s"), color=style.BLUE, label="output")
    tokens.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _level(queue, time, "queue_requests", style.VERMILLION)
    _level(running, time, "running_requests", style.GREEN)
    _level(kv, time, "kv_use", style.PURPLE)
    for axes in (tokens, queue, running):
        axes.set_ylim(bottom=0.0)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    kv.set_ylim(0.0, 1.05)
    kv.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    kv.set_xlabel(f"{time.unit} (shaded: outside the measured window)")
    for axes in panels:
        time.finish(axes, window_of(run.summary))
    return figure


def _level(axes: Axes, time: TimeAxis, column: str, colour: str) -> None:
    mean = time.mean(column)
    axes.fill_between(time.time, 0.0, mean, color=colour, alpha=0.3, linewidth=0)
    axes.plot(time.time, mean, color=colour)


def _answer(run: SavedRun) -> str:
    window: Mapping[str, Any] | None = window_of(run.summary)
    series = run.timeseries
    if window is not None:
        # A row is the mean of the period that ends at its time.
        series = series[series["time_s"].between(window["start"], window["end"], "right")]
    if not len(series):
        return ""
    queue = series["queue_requests"]
    # No mean: of moments it would be another than that of all time, which the stations tell.
    return f"Waiting: {queue.max():,.0f} requests at most, {queue.iloc[-1]:,.0f} at the end"
