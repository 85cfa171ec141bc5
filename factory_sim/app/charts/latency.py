"""Do requests meet the promise? The distribution of a latency of one deployment, with its limit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from factory_sim.app.charts.base import ink, paper
from factory_sim.report.plots import style
from factory_sim.report.plots.latency import LATENCIES, finite, histogram, limit_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.summary import promises_of
from factory_sim.report.text import duration


def distribution(run: SavedRun, deployment: str, key: str, dark: bool = False) -> go.Figure:
    """Return the histogram of a latency: what is over its limit in another colour."""
    figure = paper(LATENCIES[key], 320, showlegend=False, bargap=0.0)
    assert run.requests is not None
    rows = run.requests[run.requests["measured"] & (run.requests["deployment"] == deployment)]
    values = finite(rows[f"{key}_ms"])
    if not len(values):
        return figure
    promise = limit_of(promises_of(run.summary).get(deployment), key)
    limit = None if promise is None else promise.limit_ms
    edges, shares, logarithmic = histogram(values, limit)
    if logarithmic:
        ends = np.log10(edges[[0, -1]]).tolist()
        figure.update_xaxes(type="log", range=ends)
    middles = np.sqrt(edges[:-1] * edges[1:]) if logarithmic else (edges[:-1] + edges[1:]) / 2.0
    spans = [f"{duration(a / 1e3)} to {duration(b / 1e3)}" for a, b in pairwise(edges.tolist())]
    figure.add_bar(
        x=middles,
        y=shares,
        width=np.diff(edges),
        customdata=spans,
        marker={
            "color": [
                style.BAD if limit is not None and left >= limit else style.GOOD
                for left in edges[:-1]
            ],
            "line": {"width": 0},
        },
        hovertemplate="%{customdata}: %{y:.2%} of requests<extra></extra>",
    )
    marks = [(float(np.percentile(values, 50.0)), "p50", style.GREY, "solid")]
    marks += [(at, label, style.GREY, "solid") for at, label in _tail(promise, values)]
    if limit is not None:
        marks.append((limit, "limit", ink(dark), "dash"))
    middle = float(np.sqrt(edges[0] * edges[-1]) if logarithmic else edges[[0, -1]].mean())
    for level, (at, label, colour, dash) in enumerate(marks):
        if edges[0] <= at <= edges[-1]:
            figure.add_vline(x=at, line={"color": colour, "dash": dash, "width": 1.5})
            figure.add_annotation(
                x=np.log10(at) if logarithmic else at,
                y=1.0 - 0.1 * level,
                yref="paper",
                text=f"{label} {duration(at / 1e3)}",
                showarrow=False,
                xanchor="right" if at > middle else "left",
                xshift=-4 if at > middle else 4,
                font={"color": colour if colour != style.GREY or not dark else style.PALE},
            )
    ticks = _ticks(edges, logarithmic)
    figure.update_xaxes(tickvals=ticks, ticktext=[duration(ms / 1e3) for ms in ticks])
    figure.update_yaxes(tickformat=".0%", title="share of requests")
    return figure


def _tail(promise: object, values: np.ndarray) -> list[tuple[float, str]]:
    """Return the percentile that was promised, else p99."""
    value = getattr(promise, "value_ms", None)
    if value is not None:
        return [(value, f"p{getattr(promise, 'percentile', 99):g}")]
    return [(float(np.percentile(values, 99.0)), "p99")]


def _ticks(edges: np.ndarray, logarithmic: bool) -> list[float]:
    if not logarithmic:
        return [float(at) for at in np.linspace(edges[0], edges[-1], 5)]
    decades = np.arange(np.floor(np.log10(edges[0])), np.ceil(np.log10(edges[-1])) + 1)
    found = [m * 10.0**d for d in decades for m in (1.0, 3.0)]
    return [at for at in found if edges[0] <= at <= edges[-1]]
