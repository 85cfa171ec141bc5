"""A plot as part of a page: drawn as SVG, with its question and answer as text beside it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from factory_sim.report.plots import style
from factory_sim.report.saved import SavedRun

_NAMED = re.compile(r'\b(id="|href="#|url\(#)')
_SIZE = re.compile(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"', re.S)


class Picture(NamedTuple):
    """name: of its file, without an end. question, answer: what it is asked, and what it shows.
    svg: an element, with a size by its view box only."""

    name: str
    question: str
    answer: str
    svg: str


def picture(name: str, draw: Callable[[SavedRun], Figure], run: SavedRun, page: str) -> Picture:
    """Draw a plot of a run. page: tells its ids from those of others on the page."""
    with style.applied(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure = draw(run)
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
    svg = _NAMED.sub(rf"\g<1>{page}-{name}-", svg)
    return Picture(name, question, " ".join(answer.split()), svg)
