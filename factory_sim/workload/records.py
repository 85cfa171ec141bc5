"""Records of a file, whatever it is written in: CSV, JSON lines, a JSON list, conversations.

A record is a mapping of column (or key) to raw value, or the reason why it is none; rows of a CSV
file may come many at once.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO, cast

from factory_sim.scenario.trace_file import Columns
from factory_sim.workload.csvs import Record, Rows, open_csv

QUESTION = ("human", "user", "system", "tool")
ANSWER = ("gpt", "assistant", "chatgpt", "bing", "bard")
_GZIP = b"\x1f\x8b"
"""How a gzipped file begins, whatever it is called."""

TOKEN_COUNTS = ("tokens", "num_tokens", "n_tokens", "token_count")


class Records(NamedTuple):
    """A file opened: its format, its columns, what its records are counted in, and the records."""

    format: str
    names: list[str]
    counted_in: str
    rows: Iterator[Record | Rows]


def open_records(
    path: Path, name: str, columns: Columns | None, known: Mapping[str, Columns]
) -> Records:
    """Open `path`, gzipped or not, as format `name` (or `auto`).

    known: the columns of each known format, by which `auto` tells them apart. Raises ValueError
    for an empty file or one of no known format, OSError and others as reading does.
    """
    with _text(path) as file:
        first = _first_character(file)
    if not first:
        raise ValueError(f"{path} is empty")
    if name in ("mooncake", "jsonl", "sharegpt") or (name == "auto" and first in "{["):
        file = _text(path)
        records = _json_list(file, path) if first == "[" else _json_lines(file)
        counted_in = "record" if first == "[" else "line"
        head, records = _peek(records)
        if name == "sharegpt" or (name == "auto" and columns is None and "conversations" in head):
            head, records = _peek(_answers(records))
            return Records("sharegpt", head, counted_in, records)
        kind = "jsonl"
        rows: Iterator[Record | Rows] = records
    else:
        head, rows = open_csv(_bytes(path), path)
        kind, counted_in = "csv", "line"
    if name == "auto":
        name = kind if columns is not None else _recognised(head, known, path)
    return Records(name, head, counted_in, rows)


def _recognised(head: list[str], known: Mapping[str, Columns], path: Path) -> str:
    for name, columns in known.items():
        if {columns.prompt, columns.output} <= set(head):
            return name
    if any("\0" in column or "\ufffd" in column for column in head):
        raise ValueError(f"{path} is no text; give it as CSV or JSON lines in UTF-8")
    if len(head) == 1 and (parted := next((mark for mark in ";\t|" if mark in head[0]), "")):
        raise ValueError(f"{path} has its fields parted by {parted!r}; part them by commas")
    raise ValueError(
        f"{path} is in no known format ({', '.join(known)}); name its columns, for example "
        "{arrival: time, prompt: input_tokens, output: output_tokens, time_unit: ms}. "
        f"It has: {', '.join(head) or 'none'}"
    )


def _bytes(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        gzipped = file.read(len(_GZIP)) == _GZIP
    return cast(BinaryIO, gzip.open(path) if gzipped else path.open("rb"))


def _text(path: Path) -> TextIO:
    # A byte that is no UTF-8 spoils its row, not the run: the row is then counted as malformed.
    return io.TextIOWrapper(_bytes(path), encoding="utf-8-sig", errors="replace", newline="")


def _first_character(file: TextIO) -> str:
    """Return the first character that is no space; nothing where there is none."""
    while (text := file.read(4096)) and not text.strip():
        pass
    return text.strip()[:1]


def _json_lines(file: TextIO) -> Iterator[Record]:
    with file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                yield number, _mapping(text)


def _mapping(text: str) -> Mapping[str, object] | str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    return value if isinstance(value, dict) else "not a JSON object"


def _json_list(file: TextIO, path: Path) -> Iterator[Record]:
    with file:
        try:
            values = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not JSON: {error}") from None
    for number, value in enumerate(values, start=1):
        yield number, value if isinstance(value, dict) else "not a JSON object"


def _peek(rows: Iterator[Record]) -> tuple[list[str], Iterator[Record]]:
    """Return the keys of the first record that has any, and all the records."""
    seen: list[Record] = []
    head: list[str] = []
    for row in rows:
        seen.append(row)
        if not isinstance(row[1], str):
            head = list(row[1])
            break

    def again() -> Iterator[Record]:
        yield from seen
        yield from rows

    return head, again()


def _answers(rows: Iterator[Record]) -> Iterator[Record]:
    """Yield one record per answer of each conversation; its prompt is every turn before it."""
    for number, row in rows:
        if isinstance(row, str):
            yield number, row
        else:
            for answer in _turns(row.get("conversations"), number):
                yield number, answer


def _turns(turns: object, number: int) -> Iterator[Mapping[str, object] | str]:
    if not isinstance(turns, list) or not turns:
        yield "no conversations"
        return
    before, pending = 0, False
    for turn in turns:
        role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        counts = [turn[key] for key in TOKEN_COUNTS if key in turn] if role is not None else []
        if role not in QUESTION + ANSWER:
            yield f"a turn from neither {'/'.join(QUESTION)} nor {'/'.join(ANSWER)}"
            return
        if not counts or isinstance(counts[0], bool) or not isinstance(counts[0], int):
            yield f"a turn without its whole number of tokens ({' or '.join(TOKEN_COUNTS)})"
            return
        if role in ANSWER and pending:
            answer = {"prompt": before, "output": counts[0], "session": number}
            if "timestamp" in turn:
                answer["timestamp"] = turn["timestamp"]
            yield answer
        pending = role in QUESTION
        before += counts[0]
