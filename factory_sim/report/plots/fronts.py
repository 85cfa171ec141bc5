"""What does each design of a claim yield, at the pace that users want?"""

from __future__ import annotations

import io
from itertools import cycle

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from factory_sim.experiments.claims import Result
from factory_sim.report.plots import style
from factory_sim.report.text import number

_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE)  # of a front
_MARKERS = ("o", "s", "^", "D")  # of its designs


def png(result: Result) -> bytes:
    """Return `draw` as a PNG file."""
    picture = io.BytesIO()
    with style.applied():
        # Without this matplotlib signs the file with its version.
        draw(result).savefig(picture, format="png", dpi=100, metadata={"Software": None})
    return picture.getvalue()


def draw(result: Result) -> Figure:
    """Return the points of every design, those of one front in one colour, on logarithmic axes."""
    claim, curve = result.claim, result.claim.curve
    assert curve is not None
    figure = style.figure(11.0, 6.5)
    told = [
        f"{found.figure.what}: {number(found.simulated)} {found.figure.unit}".rstrip()
        for found in result.found
        if found.figure.unit == "times" and found.simulated == found.simulated
    ]
    style.ask(
        figure, f"{claim.title}: what does each yield at the pace users want?", "; ".join(told)
    )
    axes = figure.subplots()
    for front, colour in zip(result.fronts.values(), _COLOURS, strict=False):
        for design, marker in zip(front.designs, cycle(_MARKERS), strict=False):
            x, y = zip(*front.line(design, curve.y[1]), strict=True)
            axes.plot(x, y, color=colour, marker=marker, label=design.replace("_", " "), alpha=0.9)
    for found in result.found:
        if isinstance(found.figure.at, float):
            axes.axvline(found.figure.at, color=style.GREY, linewidth=1.0, linestyle=":")
    axes.set_xlim(left=0.0)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(curve.x[0])
    axes.set_ylabel(curve.y[0])
    axes.legend(loc="lower left")
    return figure
