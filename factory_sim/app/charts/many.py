"""Many runs: variants side by side, a figure over what a sweep moves, throughput over pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import pandas as pd
import plotly.graph_objects as go

from factory_sim.app.charts.base import paper
from factory_sim.experiments.pace import INTERACTIVITY, THROUGHPUT
from factory_sim.report.plots import style
from factory_sim.report.sweep import LABELS
from factory_sim.report.text import number

COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE)
MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down")
"""Of variants, in their order, in every chart."""


def beside(label: str, values: Mapping[str, float]) -> go.Figure:
    """Return a bar for each variant, of one figure."""
    figure = paper(label, 110 + 40 * len(values), showlegend=False)
    figure.add_bar(
        x=list(values.values()),
        y=list(values),
        orientation="h",
        marker={"color": list(COLOURS[: len(values)])},
        text=[number(value) for value in values.values()],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(range=[0.0, 1.25 * max([0.0, *values.values()]) or 1.0], nticks=5)
    return figure


def curve(points: pd.DataFrame, axis: str, metric: str) -> go.Figure:
    """Return a line of a metric over the one field that a sweep moves."""
    label = LABELS.get(metric, metric)
    known = points[points[metric].notna()]
    figure = paper(f"What does {_named(axis)} make of {label}?", 420, showlegend=False)
    figure.add_scatter(
        x=known[axis],
        y=known[metric],
        mode="lines+markers",
        line={"color": style.BLUE},
        marker={"size": 9},
        hovertemplate=f"{axis}: %{{x}}<br>{label}: %{{y:,.4g}}<extra></extra>",
    )
    figure.update_xaxes(title=axis)
    figure.update_yaxes(title=label, rangemode="tozero")
    return figure


def heat_map(points: pd.DataFrame, axes: Sequence[str], metric: str) -> go.Figure:
    """Return a map of a metric over the two fields that a sweep moves."""
    label = LABELS.get(metric, metric)
    grid = points.pivot(index=axes[1], columns=axes[0], values=metric)
    figure = paper(f"What do {_named(axes[0])} and {_named(axes[1])} make of {label}?", 460)
    figure.add_heatmap(
        x=[str(value) for value in grid.columns],
        y=[str(value) for value in grid.index],
        z=grid.to_numpy(),
        colorscale="cividis",
        text=[
            ["failed" if value != value else number(float(value)) for value in row]
            for row in grid.to_numpy()
        ],
        texttemplate="%{text}",
        hovertemplate=f"{axes[0]}: %{{x}}<br>{axes[1]}: %{{y}}<br>"
        f"{label}: %{{z:,.4g}}<extra></extra>",
        showscale=False,
    )
    figure.update_xaxes(title=axes[0], type="category")
    figure.update_yaxes(title=axes[1], type="category")
    return figure


def front(points: pd.DataFrame) -> go.Figure:
    """Return throughput for each megawatt over the pace that users get, a curve a variant."""
    figure = paper("What does a megawatt give, at the pace that users get?", 460)
    kinds = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    for (name, own), (colour, marker) in zip(
        points.groupby("scenario", sort=False), kinds, strict=False
    ):
        ordered = own.sort_values("load")
        figure.add_scatter(
            x=ordered[INTERACTIVITY],
            y=ordered[THROUGHPUT],
            name=str(name),
            mode="lines+markers",
            line={"color": colour},
            marker={"symbol": marker, "size": 9},
            customdata=100.0 * ordered["load"],
            hovertemplate="%{x:.3g} tokens/s for a user, %{y:,.3g} for a MW<br>"
            "at %{customdata:.0f} % of a perfect system",
        )
    figure.update_xaxes(title="tokens/s that a user receives (median)", rangemode="tozero")
    figure.update_yaxes(title="output tokens/s per utility MW provisioned", rangemode="tozero")
    return figure


def _named(axis: str) -> str:
    return axis.partition(" [")[0].rpartition(".")[2]
