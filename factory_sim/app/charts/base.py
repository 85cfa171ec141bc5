"""How charts look: the palette of the report's plots, on a page that is light or dark."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from factory_sim.report.plots import style


def ink(dark: bool) -> str:
    """Return the colour of lines that are black on paper."""
    return "#FAFAFA" if dark else style.BLACK


def paper(title: str, height: int = 380, **layout: Any) -> go.Figure:
    """Return an empty chart that asks a question, with room for its legend beneath."""
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "x": 0.0, "font": {"size": 16}},
        height=height,
        margin={"l": 10, "r": 10, "t": 50, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0.0},
        hoverlabel={"namelength": -1},
        dragmode=False,
        **layout,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure
