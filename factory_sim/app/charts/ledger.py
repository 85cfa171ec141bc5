"""Where do the megawatts go? From the meter through the building to the GPUs, widths to scale."""

from __future__ import annotations

import plotly.graph_objects as go

from factory_sim.app.charts.base import ink, paper
from factory_sim.report.plots.sankey import Node
from factory_sim.report.text import megawatts, percent


def flow(site: Node, dark: bool = False) -> go.Figure:
    """Return the flow of mean power from the meter to where it ends."""
    labels: list[str] = []
    sizes: list[str] = []
    colours: list[str] = []
    sources: list[int] = []
    targets: list[int] = []
    values: list[float] = []

    def add(node: Node) -> int:
        own = len(labels)
        labels.append(f"{node.name} {percent(node.size / site.size)}")
        sizes.append(megawatts(node.size))
        colours.append(node.colour)
        for part in node.parts:
            child = add(part)
            sources.append(own)
            targets.append(child)
            values.append(part.size)
        return own

    add(site)
    figure = paper("Where do the megawatts go?", 460)
    figure.add_sankey(
        textfont={"color": ink(dark), "shadow": "none", "size": 12},
        node={
            "label": labels,
            "color": colours,
            "pad": 14,
            "thickness": 14,
            "customdata": sizes,
            "hovertemplate": "%{label}, %{customdata}<extra></extra>",
        },
        link={
            "source": sources,
            "target": targets,
            "value": values,
            "color": [_pale(colours[target]) for target in targets],
            "hovertemplate": "%{target.label}<extra></extra>",
        },
    )
    return figure


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.35)"
