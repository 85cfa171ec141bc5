"""How plots look: one palette that colour-blind readers can tell apart, type that survives halving.

Colours are those of Okabe and Ito, "Color Universal Design" (2008), named here by what they
stand for, so that a thing has one colour in every plot.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from factory_sim.report.layout import unbroken

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#666666", "#BBBBBB"

GOOD, BAD, LIMIT = BLUE, VERMILLION, BLACK

_PARAMETERS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 1.6,
    "figure.dpi": 160,
    "savefig.dpi": 160,
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Have figures made and saved inside look like ours, whatever the user's settings."""
    with matplotlib.rc_context():
        # Nothing of the user's own matplotlibrc leaks in: the same run gives the same picture.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PARAMETERS)
        yield


def png(draw: Callable[[], Figure]) -> bytes:
    """Return a figure, drawn anew, as a PNG file; the same one has the same bytes."""
    picture = io.BytesIO()
    with applied():
        # Without this matplotlib signs the file with its version.
        draw().savefig(picture, format="png", dpi=100, metadata={"Software": None})
    return picture.getvalue()


def figure(width_in: float = 11.0, height_in: float = 6.0) -> Figure:
    """Return an empty figure of that many inches whose parts keep clear of each other."""
    return Figure(figsize=(width_in, height_in), layout=ConstrainedLayoutEngine())


def ask(fig: Figure, question: str, answer: str = "") -> None:
    """Head `fig` with the question it answers and, beneath, the answer in a sentence."""
    width_in, height_in = fig.get_size_inches()
    wrapped = textwrap.wrap(unbroken(answer), int(width_in * 9), break_on_hyphens=False)
    top, line = 1 - 0.1 / height_in, 1.5 * 14 / 72 / height_in
    fig.text(0.01, top, question, ha="left", va="top", fontsize=14, fontweight="bold")
    fig.text(0.01, top - line, "\n".join(wrapped), ha="left", va="top", fontsize=13)
    engine = fig.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0.0, 0.0, 1.0, top - line * (1 + len(wrapped))))


def name(fig: Figure, of: str) -> None:
    """Say before the question that heads `fig` what it is asked of."""
    heading = fig.texts[0]
    heading.set_text(f"{of}: {heading.get_text()}")


def board(fig: Figure) -> Axes:
    """Return blank axes over all that `ask` has left of `fig`, one unit an inch.

    For what is drawn rather than plotted. Nothing in `fig` is moved any more.
    """
    width_in, height_in = (float(inches) for inches in fig.get_size_inches())
    engine = fig.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    share = float(engine.get()["rect"][3])
    fig.set_layout_engine("none")
    axes = fig.add_axes((0.0, 0.0, 1.0, share))
    axes.set_axis_off()
    axes.set_xlim(0.0, width_in)
    axes.set_ylim(0.0, height_in * share)
    return axes


def shade(axes: Axes, start: float, end: float) -> None:
    """Shade what is outside the measured window, on a time axis with its limits set."""
    low, high = axes.get_xlim()
    for left, right in ((low, min(start, high)), (end, high)):
        if right > left:
            axes.axvspan(left, right, color=PALE, alpha=0.35, linewidth=0, zorder=3)


def nothing(axes: Axes, reason: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color=GREY)
