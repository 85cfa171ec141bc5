"""What moves a figure most? A bar for each lever, the longest on top: a tornado."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from factory_sim.experiments.sensitivity.run import GOODPUT, Sensed
from factory_sim.report.plots import style
from factory_sim.report.sensitivity import label, share

_QUESTIONS: Mapping[str, tuple[str, str, float]] = {
    f"capacity.{GOODPUT}": (
        "What moves the most goodput that this site can give?",
        "change of the most output tokens/s within every promise",
        1.0,
    ),
    "traffic.ttft_ms.p99": (
        "What moves the time to first token, at the traffic that is given?",
        "change of TTFT p99",
        -1.0,
    ),
    "traffic.tpot_ms.p99": (
        "What moves the time per output token, at the traffic that is given?",
        "change of TPOT p99",
        -1.0,
    ),
    "traffic.energy_per_output_token_j": (
        "What moves the energy of a token, at the traffic that is given?",
        "change of J per output token at the meter",
        -1.0,
    ),
    "traffic.usd_per_million_output_tokens": (
        "What moves the cost of a token, at the traffic that is given?",
        "change of USD per million output tokens",
        -1.0,
    ),
}
"""By column: the question, what the axis says, and the sign of what is better."""

_MOST = 14


def plots_of(sensed: Sensed) -> dict[str, Callable[[], Figure]]:
    """Return the tornado of each figure that the runs have, by its column."""
    known = [column for column in _QUESTIONS if column in sensed.table]
    return {column: partial(draw, sensed, column) for column in known if len(sensed.table) > 1}


def draw(sensed: Sensed, column: str) -> Figure:
    """Return the tornado of a figure: changes as shares of it, with their 95 % intervals."""
    question, axis, better = _QUESTIONS[column]
    base = sensed.table.iloc[0]
    moved = [(label(row), *share(row, base, column)) for _, row in sensed.table.iloc[1:].iterrows()]
    moved = sorted((each for each in moved if each[1] == each[1]), key=lambda each: -abs(each[1]))
    shown = [each for each in moved if abs(each[1]) >= 5e-4][:_MOST]
    figure = style.figure(11.0, 2.2 + 0.42 * max(len(shown), 2))
    axes = figure.subplots()
    if not shown:
        style.ask(figure, question, "Nothing that was tried moves it.")
        style.nothing(axes, "no lever moves it by 0.05 %")
        return figure
    names, values, widths = (list(part) for part in zip(*shown, strict=True))
    colours = [style.GOOD if value * better > 0.0 else style.BAD for value in values]
    places = np.arange(len(shown))
    axes.barh(places, values, color=colours, height=0.62)
    errors = [0.0 if width != width else width for width in widths]
    axes.errorbar(
        values, places, xerr=errors, fmt="none", ecolor=style.BLACK, elinewidth=1.2, capsize=3
    )
    axes.axvline(0.0, color=style.BLACK, linewidth=1.0)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100.0 * value:+.3g} %"))
    axes.set_xlabel(f"{axis} (line: 95 % interval)" if sensed.replications > 1 else axis)
    rest = len(moved) - len(shown)
    told = f"{names[0]}: {100.0 * values[0]:+.1f} %."
    if rest:
        told += f" {rest} more {'levers move' if rest > 1 else 'lever moves'} it less, or not."
    style.ask(figure, question, told)
    return figure
