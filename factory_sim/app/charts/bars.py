"""Bars that lie: where GPU-seconds went, what a token costs; and bars that fall: what OEE lost."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from factory_sim.app.charts.base import ink, paper
from factory_sim.report.causes import words
from factory_sim.report.money import COMPONENTS
from factory_sim.report.plots import gpu_time, money, style, waterfall
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import number, percent


def time_lost(run: SavedRun) -> go.Figure:
    """Return a bar for each cause of a GPU-second."""
    shares = run.summary["time_lost"]
    causes = gpu_time.ordered(shares)
    return lying(
        "Where did the GPU-seconds go?",
        [words(cause) for cause in causes],
        [100.0 * shares[cause] for cause in causes],
        [gpu_time.COLOURS.get(cause, style.PALE) for cause in causes],
        [percent(shares[cause]) for cause in causes],
        "per cent of all GPU-seconds of the measured window",
    )


def costs(run: SavedRun) -> go.Figure:
    """Return a bar for each component of what a million output tokens cost."""
    parts = money.parts_of(run)
    whole = sum(parts.values())
    return lying(
        "What does a million output tokens cost?",
        [COMPONENTS[name] for name in parts],
        list(parts.values()),
        [money.COLOURS.get(name, style.BLUE) for name in parts],
        [f"{number(usd)} USD ({percent(usd / whole)})" for usd in parts.values()],
        "USD per million output tokens",
    )


def lying(
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    colours: Sequence[str],
    texts: Sequence[str],
    axis: str,
) -> go.Figure:
    """Return bars from top to bottom, each with its figure."""
    figure = paper(title, 130 + 32 * max(len(names), 3), showlegend=False)
    figure.add_bar(
        x=list(values),
        y=list(names),
        orientation="h",
        marker={"color": list(colours)},
        text=list(texts),
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    _from_the_top(figure, axis, max([0.0, *values]))
    return figure


def gpu_hours(run: SavedRun, dark: bool = False) -> go.Figure:
    """Return the waterfall of GPU-hours, from all there were down to those of useful tokens."""
    steps, useful = waterfall.hours_of(run)
    whole = useful + sum(step.amount for step in steps)
    rows = [("all GPU-hours", 0.0, whole, ink(dark))]
    right = whole
    for step in steps:
        right -= step.amount
        rows.append((step.name, right, step.amount, waterfall.COLOURS[step.group]))
    rows.append(("useful tokens", 0.0, useful, style.BLUE))
    names, lefts, widths, colours = zip(*rows, strict=True)
    title = "Where did the GPU-hours go?"
    figure = lying(
        title,
        names,
        widths,
        colours,
        [f"{number(width)} ({percent(width / whole)})" if whole else "" for width in widths],
        "GPU-hours of the window",
    )
    figure.update_traces(base=lefts)
    figure.update_xaxes(range=[0.0, 1.35 * whole])
    return figure


def _from_the_top(figure: go.Figure, axis: str, highest: float) -> None:
    figure.update_yaxes(autorange="reversed", title=None)
    figure.update_xaxes(title=axis, range=[0.0, 1.3 * highest or 1.0], nticks=6)
