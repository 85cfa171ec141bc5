"""What does a faster token cost? Points of a plan, and the front of the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from factory_sim.experiments.planning.run import Planned
from factory_sim.experiments.planning.table import CARBON, COST, ENERGY, GOODPUT, INTERACTIVITY
from factory_sim.report.plots import style
from factory_sim.report.text import number

_DRAWN: Mapping[str, tuple[str, str, str]] = {
    "goodput": (
        GOODPUT,
        "How much does a site give, at the pace that users get?",
        "output tokens/s within their promise, per MW",
    ),
    "energy": (
        ENERGY,
        "How many joules is a token, at the pace that users get?",
        "J per output token at the meter",
    ),
    "cost": (
        COST,
        "What does a token cost, at the pace that users get?",
        "USD per million output tokens",
    ),
    "carbon": (
        CARBON,
        "How much carbon is a token, at the pace that users get?",
        "g CO2 per million output tokens",
    ),
}

_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def plots_of(planned: Planned) -> dict[str, Callable[[], Figure]]:
    """Return the front of each figure that the runs have, by name."""
    known = {objective: f"front_{objective}" for objective in _DRAWN}
    return {
        name: partial(draw, planned, objective)
        for objective, name in known.items()
        if name in planned.points
    }


def draw(planned: Planned, objective: str) -> Figure:
    """Return the points of one figure over interactivity; in colour those of the longest runs."""
    column, question, axis = _DRAWN[objective]
    points = planned.points[planned.points[column].notna()]
    figure = style.figure(11.0, 6.5)
    axes = figure.subplots()
    whole = points["duration_s"] == points["duration_s"].max()
    longest, early = points[whole], points[~whole]
    axes.plot(
        early[INTERACTIVITY],
        early[column],
        "o",
        color=style.PALE,
        markersize=4,
        label="shorter runs",
    )
    kinds = cycle(zip(_COLOURS, _MARKERS, strict=True))
    for (name, own), (colour, marker) in zip(
        longest.groupby("candidate", sort=False), kinds, strict=False
    ):
        line = own.sort_values(INTERACTIVITY)
        axes.plot(
            line[INTERACTIVITY],
            line[column],
            color=colour,
            marker=marker,
            alpha=0.85,
            label=str(name),
            linewidth=1.0,
        )
    front = points[points[f"front_{objective}"]].sort_values(INTERACTIVITY)
    axes.plot(
        front[INTERACTIVITY],
        front[column],
        color=style.BLACK,
        linewidth=2.4,
        alpha=0.35,
        label="the front",
        zorder=1,
    )
    axes.set_xlabel("interactivity: output tokens/s of a user, median")
    axes.set_ylabel(axis)
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value) if value else "0"))
    axes.legend(loc="best")
    style.ask(figure, question, _answer(front, column))
    return figure


def _answer(front: pd.DataFrame, column: str) -> str:
    """Say what the two ends of the front give, and by whom."""
    if front.empty:
        return "No run kept its promises."
    ends = front.iloc[[0, -1]]
    told = [
        f"{number(float(row[column]))} at {number(float(row[INTERACTIVITY]))} tokens/s a user "
        f"({row['candidate']})"
        for _, row in ends.iterrows()
    ]
    return f"From {told[0]} to {told[1]}."
