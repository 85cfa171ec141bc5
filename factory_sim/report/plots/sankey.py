"""A flow drawn as bands whose widths are to scale: a trunk from the left that splits to the right.

A node has a slot of its own, high enough for its band, its label and everything it splits into.
So labels keep clear of each other however thin their bands are. Lengths are inches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

LINE = 0.25
"""Height of a line of text, with what keeps it from the next."""

_GAP = 0.09
_BAR = 0.16
_PAD = 0.07
_MARGIN = 0.12
_TEXT = 12


@dataclass(frozen=True)
class Node:
    """So much that arrives somewhere, and what it splits into, from top to bottom."""

    name: str
    size: float
    colour: str
    parts: tuple[Node, ...] = ()


def draw(
    axes: Axes,
    root: Node,
    sources: Sequence[Node],
    columns: Sequence[float],
    say: Callable[[Node], str],
) -> None:
    """Draw `root` and all it splits into; `sources`, if any, flow into it from the left.

    axes: with one unit an inch, from 0 at the bottom left. columns: where the bars of each depth
    stand, that of the sources first. say: the label of a node beneath its name.
    """
    high = axes.get_ylim()[1]
    scale = _scale(root, sources, high - _MARGIN)
    top, start = high - LINE, columns[1]
    _bar(axes, start, top, root.size * scale, root.colour)
    _text(axes, start, top + LINE / 2, f"{root.name} {say(root)}")
    _split(axes, root, top, columns[1:], scale, say)
    level, taken = top, 0.0
    for source in sources:
        width = source.size * scale
        slot = max(width, 2 * LINE)
        at = level - (slot - width) / 2
        _bar(axes, columns[0], at, width, source.colour)
        _band(axes, (columns[0] + _BAR, at), (start, top - taken), width, source.colour)
        # On its band: beside it the next one may rise.
        name = f"{source.name}\n{say(source)}"
        _text(axes, columns[0] + _BAR + _PAD, level - slot / 2, name)
        taken += width
        level -= slot + _GAP


def _split(
    axes: Axes,
    node: Node,
    top: float,
    columns: Sequence[float],
    scale: float,
    say: Callable[[Node], str],
) -> None:
    """Draw what a node splits into. top: of its band, which stands at the first column."""
    left, right = columns[:2] if len(columns) > 1 else (columns[0], columns[0])
    taken, level = 0.0, top
    for part in node.parts:
        width = part.size * scale
        if part.parts:
            at = level - LINE
            _text(axes, right, level - LINE / 2, f"{part.name} {say(part)}")
            _split(axes, part, at, columns[1:], scale, say)
        else:
            at = level - max(0.0, LINE - width) / 2
            _text(axes, right + _BAR + _PAD, at - width / 2, f"{part.name} {say(part)}")
        _bar(axes, right, at, width, part.colour)
        _band(axes, (left + _BAR, top - taken), (right, at), width, part.colour)
        taken += width
        level -= _slot(part, scale) + _GAP


def _scale(root: Node, sources: Sequence[Node], high: float) -> float:
    """Return the inches of a unit with which all slots together fill the height."""

    def filled(scale: float) -> float:
        left = sum(max(source.size * scale, 2 * LINE) + _GAP for source in sources)
        return max(_slot(root, scale), LINE + left)

    low, most = 0.0, high / root.size
    for _ in range(60):
        middle = (low + most) / 2
        low, most = (middle, most) if filled(middle) <= high else (low, middle)
    return low


def _slot(node: Node, scale: float) -> float:
    band = node.size * scale
    if not node.parts:
        return max(band, LINE)
    parts = sum(_slot(part, scale) for part in node.parts) + _GAP * (len(node.parts) - 1)
    return LINE + max(band, parts)


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all it splits into."""
    yield node
    for part in node.parts:
        yield from walk(part)


def _bar(axes: Axes, left: float, top: float, width: float, colour: str) -> None:
    axes.add_patch(
        Rectangle((left, top - width), _BAR, width, facecolor=colour, edgecolor=colour, zorder=3)
    )


def _band(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], width: float, colour: str
) -> None:
    """Draw a smooth band from one top left corner to another, both ends level."""
    (x0, y0), (x1, y1) = start, end
    middle = (x0 + x1) / 2
    corners = [
        (x0, y0),
        (middle, y0),
        (middle, y1),
        (x1, y1),
        (x1, y1 - width),
        (middle, y1 - width),
        (middle, y0 - width),
        (x0, y0 - width),
        (x0, y0),
    ]
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    # The edge keeps a band in sight that is thinner than a pixel.
    axes.add_patch(
        PathPatch(Path(corners, codes), facecolor=colour, edgecolor=colour, alpha=0.4, lw=0.6)
    )


def _text(axes: Axes, left: float, level: float, words: str) -> None:
    axes.text(left, level, words, ha="left", va="center", fontsize=_TEXT, zorder=4)
