"""Power against the cap: what each level adds, over time, and the clock of the GPUs."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from factory_sim.app.charts.base import ink, paper
from factory_sim.report.plots.power import layers_of
from factory_sim.report.plots.scale import power_scale
from factory_sim.report.plots.time_axis import TimeAxis
from factory_sim.report.saved import SavedRun


def levels(run: SavedRun, dark: bool = False) -> go.Figure:
    """Return the stack of power by level, its highest values, and the cap."""
    figure = paper("Does the site stay under its power cap?", 420)
    time = TimeAxis(run.timeseries)
    limit, highest = time.mean("grid_limit_mw"), time.highest("grid_power_mw")
    layers = layers_of(time)
    scale, unit = power_scale(float(max(layers[-1].level.max(), highest.max(), limit.max())))
    said = "%{y:.3g} " + unit
    below = np.zeros_like(time.time)
    for level, label, colour in layers:
        if np.any(level > below):
            figure.add_scatter(
                x=time.time,
                y=(level - below) / scale,
                name=label,
                stackgroup="power",
                mode="lines",
                line={"width": 0, "color": colour},
                fillcolor=colour,
                hovertemplate=said,
            )
        below = level
    for values, label, dash in (
        (highest, "meter, highest", "solid"),
        (limit, "cap at the meter", "dash"),
    ):
        figure.add_scatter(
            x=time.time,
            y=values / scale,
            name=label,
            mode="lines",
            line={"color": ink(dark), "dash": dash, "width": 1.5, "shape": "hv"},
            hovertemplate=said,
        )
    figure.update_layout(hovermode="x unified")
    figure.update_xaxes(title=time.unit)
    figure.update_yaxes(title=f"power ({unit})", rangemode="tozero")
    return figure
