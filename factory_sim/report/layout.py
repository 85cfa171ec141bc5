"""Lines of text in 80 columns: labelled sentences, and tables aligned by their widest cell.

Plain text with no padding at the end of a line, so that a pipe gets what the eye gets.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

COLUMNS = 80
_INDENT = "  "
_LABEL_COLUMNS = 22
_NO_BREAK = "\N{NO-BREAK SPACE}"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|[kMGTmµn]?[WJ]|ms|s|min|h)(?!\w))")


def entry(label: str, text: str) -> Iterator[str]:
    """Yield `label`, then `text` in a column of its own, wrapped under itself.

    A figure and its unit stay on one line.
    """
    first = f"{_INDENT}{label:<{_LABEL_COLUMNS}} "
    wrapped = textwrap.wrap(
        unbroken(text),
        COLUMNS,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
        break_long_words=False,
    )
    yield from (line.replace(_NO_BREAK, " ") for line in wrapped)


def unbroken(text: str) -> str:
    """Return `text` with a no-break space between each figure and its unit."""
    return _BEFORE_UNIT.sub(_NO_BREAK, text)


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Yield `rows` as lines, columns two blanks apart and set right, those in `left` set left.

    The first column is as wide as the labels of `entry`, so that both line up.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    widths[0] = max(widths[0], _LABEL_COLUMNS)
    for row in rows:
        cells = (
            f"{cell:<{width}}" if index in left else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield (_INDENT + "  ".join(cells)).rstrip()
