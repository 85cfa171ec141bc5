"""Lines of text in 80 columns: labelled sentences, and tables aligned by their widest cell.

Plain text with no padding at the end of a line, so that a pipe gets what the eye gets.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

COLUMNS = 80
_INDENT = "  "
_LABEL_COLUMNS = 22
_NO_BREAK = "\N{NO-BREAK SPACE}"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|[kMGTmµn]?[WJ]|ms|s|min|h)(?!\w))")


class Entry(NamedTuple):
    """A label, and a sentence in a column of its own."""

    label: str
    text: str

    def lines(self) -> Iterator[str]:
        """Yield it as text, wrapped under itself. A figure and its unit stay on one line."""
        first = f"{_INDENT}{self.label:<{_LABEL_COLUMNS}} "
        wrapped = textwrap.wrap(
            unbroken(self.text),
            COLUMNS,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_on_hyphens=False,
            break_long_words=False,
        )
        yield from (line.replace(_NO_BREAK, " ") for line in wrapped)


class Table(NamedTuple):
    """Rows of cells, those of the columns in `left` set left, others right.

    headed: whether the first row says what the columns are.
    """

    rows: Sequence[Sequence[str]]
    left: Sequence[int] = (0,)
    headed: bool = True

    def lines(self) -> Iterator[str]:
        """Yield it as text, columns two blanks apart.

        The first column is as wide as the labels of entries, so that both line up.
        """
        widths = [max(len(cell) for cell in column) for column in zip(*self.rows, strict=True)]
        widths[0] = max(widths[0], _LABEL_COLUMNS)
        for row in self.rows:
            cells = (
                f"{cell:<{width}}" if index in self.left else f"{cell:>{width}}"
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield (_INDENT + "  ".join(cells)).rstrip()


Block = str | Entry | Table
"""What reports are made of; a string is a line of its own, as it stands."""


def rendered(blocks: Iterable[Block]) -> Iterator[str]:
    """Yield blocks as lines of text."""
    for block in blocks:
        if isinstance(block, str):
            yield block
        else:
            yield from block.lines()


def unbroken(text: str) -> str:
    """Return `text` with a no-break space between each figure and its unit."""
    return _BEFORE_UNIT.sub(_NO_BREAK, text)


def width(columns: Sequence[Sequence[str]]) -> int:
    """Return how many columns of a terminal a table takes, given by its own columns."""
    widths = [max(map(len, column)) for column in columns]
    return len(_INDENT) + max(widths[0], _LABEL_COLUMNS) + sum(each + 2 for each in widths[1:])
