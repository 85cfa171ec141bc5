"""Rows of a CSV file: many at once where every one of them is plain, one by one where not.

Python's csv reader says what a row is. Arrow is ten times as fast and sees the same rows
wherever there is nothing to argue about: no quotes, no empty lines, as many fields in each line as
in the header. Chunks of which that is not known are read with care.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow

Record = tuple[int, Mapping[str, object] | str]
"""Its number in the file, and its values or the reason why it has none."""

MARK = b"\xef\xbb\xbf"
"""What some programs begin UTF-8 files with."""


class Rows(NamedTuple):
    """Rows in a line: the number of the first, how many, and each column's text."""

    first: int
    many: int
    columns: Mapping[str, pa.ChunkedArray]


def open_csv(
    file: BinaryIO, path: Path, start: int = 4096, size: int = 2**21
) -> tuple[list[str], Iterator[Record | Rows]]:
    """Return the names of the columns and the rows.

    The header, and what else lies in the first `start` bytes, is read with care; then come chunks
    of about `size` bytes. Raises ValueError for a name that occurs twice; csv.Error and OSError as
    reading does.
    """
    lines = _Lines(_chunks(file, start, size))
    reader = csv.reader(lines)
    head = [name.strip() for name in next((row for row in reader if row), [])]
    twice = sorted({name for name in head if name and head.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has the column {', '.join(twice)} twice")

    def rows() -> Iterator[Record | Rows]:
        passed = 0  # lines that the reader has not seen
        with file:
            while True:
                while lines.left:
                    row = next(reader)
                    number = passed + reader.line_num
                    if len(row) == len(head):
                        yield number, dict(zip(head, row, strict=True))
                    elif row:
                        few = "few" if len(row) < len(head) else "many"
                        yield number, f"too {few} fields"
                chunk = next(lines.chunks, None)
                if chunk is None:
                    return
                table = plain(chunk, len(head))
                if table is None:
                    lines.take(chunk)
                else:
                    columns = dict(zip(head, table.columns, strict=True))
                    yield Rows(passed + reader.line_num + 1, table.num_rows, columns)
                    passed += table.num_rows

    return head, rows()


def plain(chunk: bytes, width: int) -> pa.Table | None:
    """Return the text of a chunk's columns if each of its lines is a row of `width` fields."""
    if b'"' in chunk or (b"\r" in chunk and chunk.count(b"\r") != chunk.count(b"\r\n")):
        return None
    ends = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n"))
    edges = np.concatenate(([-1], ends, [] if chunk.endswith(b"\n") else [len(chunk)]))
    if np.diff(edges).max() > csv.field_size_limit():
        return None
    names = [str(number) for number in range(width)]
    try:
        table = arrow.read_csv(
            pa.BufferReader(chunk),
            arrow.ReadOptions(column_names=names, block_size=len(chunk), use_threads=False),
            arrow.ParseOptions(quote_char=False),
            arrow.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:  # lines of other lengths, or bytes that are no UTF-8
        return None
    return table if table.num_rows == len(edges) - 1 else None  # else some line is empty


def _chunks(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    """Yield whole lines, at first as many as `start` bytes hold, then `size`; or one longer one."""
    held: list[bytes] = []
    while block := file.read(size if held else start):
        # A \r at the very end may be the first half of \r\n.
        end = max(block.rfind(b"\n"), block.rfind(b"\r", 0, -1)) + 1
        if end:
            yield b"".join([*held, block[:end]])
            held = []
        held.append(block[end:])
    if rest := b"".join(held):
        yield rest


class _Lines:
    """The lines of a file as text, chunk by chunk; the next chunk too where a record needs it.

    A byte that is no UTF-8 spoils its row, not the run: the row is then counted as malformed.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.left = 0
        self._lines: Iterator[str] = iter(())
        self.take(next(chunks, b"").removeprefix(MARK))

    def take(self, chunk: bytes) -> None:
        """Give the lines of this chunk next."""
        lines = list(io.StringIO(chunk.decode("utf-8", "replace"), newline=""))
        self.left, self._lines = len(lines), iter(lines)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if not self.left:
            self.take(next(self.chunks))
        self.left -= 1
        return next(self._lines)
