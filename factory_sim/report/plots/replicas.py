"""Do the replicas follow the load? Replicas up, starting and draining, over requests and watts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from factory_sim.report.plots import style
from factory_sim.report.plots.time_axis import TimeAxis, window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.scaling import scaled
from factory_sim.report.text import duration, number

_STATES = (
    ("replicas_up", "up", style.BLUE),
    ("replicas_draining", "draining", style.ORANGE),
    ("replicas_starting", "starting", style.PALE),
)
_REQUESTS = (
    ("running_requests", "running", style.GREEN),
    ("queue_requests", "waiting", style.VERMILLION),
)


def applies(run: SavedRun) -> bool:
    """Say whether the run scaled anything."""
    return bool(scaled(run.summary))


def draw(run: SavedRun) -> Figure:
    """Return two panels for each deployment that is scaled, replicas over requests, and power."""
    parts = scaled(run.summary)
    figure = style.figure(12.0, 2.6 + 4.2 * max(1, len(parts)))
    panels = figure.subplots(2 * len(parts) + 1, 1, sharex=True, squeeze=False)[:, 0]
    style.ask(figure, "Do the replicas follow the load?", _answer(parts))
    if not parts or not len(run.timeseries):
        for axes in panels:
            style.nothing(axes, "nothing was scaled" if not parts else "nothing was recorded")
        return figure
    time = TimeAxis(run.timeseries)
    for row, (name, part) in enumerate(parts.items()):
        of = f"{name}:\n" if len(parts) > 1 else ""
        above, below = panels[2 * row : 2 * row + 2]
        _stack(above, time, name, _STATES)
        above.axhline(part["replicas"], color=style.BLACK, linestyle="--", label="placed")
        above.set_ylabel(f"{of}replicas")
        _stack(below, time, name, _REQUESTS)
        below.set_ylabel(f"{of}requests")
        for axes in (above, below):
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    power = panels[-1]
    power.plot(time.time, 1e3 * time.mean("grid_power_mw"), color=style.BLACK)
    power.set_ylabel("power at the\nmeter, kW")
    power.set_xlabel(f"{time.unit} (shaded: outside the measured window)")
    for axes in panels:
        axes.set_ylim(bottom=0.0)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        time.finish(axes, window_of(run.summary))
    return figure


def _stack(axes: Axes, time: TimeAxis, name: str, rows: tuple[tuple[str, str, str], ...]) -> None:
    columns = [time.mean(f"{name}.{column}") for column, _, _ in rows]
    colours, labels = [row[2] for row in rows], [row[1] for row in rows]
    axes.stackplot(time.time, *columns, labels=labels, colors=colours, linewidth=0)


def _answer(parts: Mapping[str, Mapping[str, Any]]) -> str:
    told = []
    for name, part in parts.items():
        did = part["autoscaling"]
        took = ""
        if "cold_start_s" in did:
            took = f" of {duration(did['cold_start_s']['mean'])} each"
        told.append(
            f"{name}: {number(did['replicas_mean'])} of {part['replicas']:,} replicas up in the "
            f"mean; {did['starts']:,} starts{took}; {did['requests_waited_for_start']:,} requests "
            "waited for one"
        )
    return ". ".join(told)
