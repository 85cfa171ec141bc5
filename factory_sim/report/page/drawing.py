"""Drawing a plot as part of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from factory_sim.report.page.picture import Picture
from factory_sim.report.plots import style

_SIZE = re.compile(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"', re.S)


def picture(name: str, draw: Callable[[], Figure]) -> Picture:
    """Return a plot, drawn anew."""
    with style.applied(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure = draw()
        question, answer = (text.get_text() for text in figure.texts[:2])
        for text in figure.texts[:2]:  # said beside it
            text.set_visible(False)
        engine = figure.get_layout_engine()
        if isinstance(engine, ConstrainedLayoutEngine):
            engine.set(rect=(0.0, 0.0, 1.0, 1.0))
        file = io.StringIO()
        unsigned = {"Date": None, "Creator": None}
        figure.savefig(file, format="svg", metadata=unsigned, bbox_inches="tight")
    svg = file.getvalue()
    svg = _SIZE.sub(r"\1", svg[svg.index("<svg") :], count=1)
    return Picture(name, question, " ".join(answer.split()), svg)
