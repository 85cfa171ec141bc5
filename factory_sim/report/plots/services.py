"""Who answered? Requests of each service over time, by the deployment that answered them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from factory_sim.report.plots import style
from factory_sim.report.plots.time_axis import unit_of, window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import percent

_BINS = 60
_COLOURS = (style.BLUE, style.SKY, style.GREEN, style.YELLOW, style.PURPLE, style.ORANGE)
_NOBODY = "nobody"


def applies(run: SavedRun) -> bool:
    """Say whether several deployments stand behind one name."""
    return bool(run.summary.get("services"))


def draw(run: SavedRun) -> Figure:
    """Return a panel for each service: requests sent, stacked by who answered them."""
    services, requests = run.summary.get("services", {}), run.requests
    assert requests is not None  # a row of each, where there are services
    figure = style.figure(12.0, 1.8 + 3.2 * max(1, len(services)))
    panels = figure.subplots(max(1, len(services)), 1, sharex=True, squeeze=False)[:, 0]
    style.ask(figure, "Who answered?", _answer(services))
    if not services or not len(requests):
        for axes in panels:
            style.nothing(axes, "nobody sent a request" if services else "this run has no services")
        return figure
    end_s = float(requests["arrival_s"].max()) or 1.0
    unit, unit_s = unit_of(end_s)
    edges = np.linspace(0.0, end_s, _BINS + 1)
    for axes, (name, part) in zip(panels, services.items(), strict=False):
        _stack(
            axes,
            requests[requests["workload"].isin(_users_of(run, name))],
            list(part["deployments"]),
            edges,
            unit_s,
        )
        of = f"{name}: " if len(services) > 1 else ""
        axes.set_ylabel(f"{of}requests/s\nby who answered")
        axes.set_xlim(0.0, end_s / unit_s)
        window = window_of(run.summary)
        if window is not None:
            style.shade(axes, window["start"] / unit_s, window["end"] / unit_s)
    panels[-1].set_xlabel(f"{unit} at which it was sent (shaded: outside the measured window)")
    return figure


def _users_of(run: SavedRun, service: str) -> list[str]:
    """Return the workloads that send to a service."""
    workloads = run.scenario.get("workload", {})
    return [name for name, spec in workloads.items() if spec["deployment"] == service]


def _stack(
    axes: Axes, own: pd.DataFrame, names: list[str], edges: np.ndarray, unit_s: float
) -> None:
    """Draw requests/s by deployment that completed them; above all, those that nobody did."""
    done = own["outcome"] == "completed"
    width_s = edges[1] - edges[0]
    base = np.zeros(len(edges) - 1)
    rows: list[tuple[str, pd.DataFrame, dict[str, Any]]]
    rows = [(name, own[done & (own["deployment"] == name)], {}) for name in names]
    rows.append((_NOBODY, own[~done], {"hatch": "///", "edgecolor": "white", "linewidth": 0.0}))
    for number, (name, part, look) in enumerate(rows):
        rate = np.histogram(part["arrival_s"], edges)[0] / width_s
        if name == _NOBODY and not rate.any():
            continue
        colour = style.BAD if name == _NOBODY else _COLOURS[number % len(_COLOURS)]
        left = edges[:-1] / unit_s
        axes.bar(left, rate, width_s / unit_s, base, align="edge", color=colour, label=name, **look)
        base += rate
    axes.set_ylim(0.0, 1.08 * (base.max() or 1.0))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", visible=False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))


def _answer(services: Mapping[str, Mapping[str, Any]]) -> str:
    told = []
    for name, part in services.items():
        arrived = part["requests_arrived"]
        if not arrived:
            told.append(f"{name}: nobody asked")
            continue
        answered = {who: counts["answered"] for who, counts in part["deployments"].items()}
        nobody = arrived - part["requests_completed"]
        if nobody:
            answered[_NOBODY] = nobody
        shares = [f"{who} {percent(many / arrived)}" for who, many in answered.items()]
        text = f"{name}: of {arrived:,} requests {', '.join(shares)}"
        if part["requests_sent_on"]:
            text += f"; sent on {part['requests_sent_on']:,} times"
        told.append(text)
    return ". ".join(told)
