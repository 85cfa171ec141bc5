"""From raw values to requests: which rows can be one, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from factory_sim.scenario.lengths import MOST_TOKENS
from factory_sim.scenario.trace_file import Columns
from factory_sim.workload.csvs import Record, Rows
from factory_sim.workload.prefixes import HashReader, as_column
from factory_sim.workload.values import Clock, Raw, numbers

FAILED = "failed in the trace"
LINES_SHOWN = 5
CHUNK = 65_536

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Usable = dict[str, NDArray[Any]]


@dataclass
class TraceReport:
    """What reading a trace found: for the record of a run.

    hash_tokens: prompt tokens that each hash covers; 0 where prompts carry none.
    """

    path: str
    format: str
    counted_in: str = "line"
    rows: int = 0
    used: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    first_lines: dict[str, list[int]] = field(default_factory=dict)
    span_s: float = 0.0
    out_of_order: int = 0
    hash_tokens: int = 0

    def skip(self, reason: str, lines: Whole) -> None:
        """Count rows skipped for `reason`, keeping the numbers of the first few lines."""
        if len(lines):
            self.skipped[reason] = self.skipped.get(reason, 0) + len(lines)
            shown = self.first_lines.setdefault(reason, [])
            shown.extend(lines[: LINES_SHOWN - len(shown)].tolist())

    @property
    def malformed(self) -> int:
        """Rows skipped for a fault of the file; a request that failed in the trace is none."""
        return sum(count for reason, count in self.skipped.items() if reason != FAILED)

    def faults(self) -> str:
        """Say what was skipped, why, and on which lines."""
        return "; ".join(f"{n} {self._named(reason)}" for reason, n in self.skipped.items())

    def __str__(self) -> str:
        notes = [f"{self.used} of {self.rows} requests of {self.path} ({self.format})"]
        if self.skipped:
            notes.append(f"skipped: {self.faults()}")
        if self.out_of_order:
            notes.append(f"{self.out_of_order} arrived before the row above them; sorted")
        return "; ".join(notes)

    def _named(self, reason: str) -> str:
        lines = self.first_lines[reason]
        more = ", ..." if self.skipped[reason] > len(lines) else ""
        word = self.counted_in + ("" if self.skipped[reason] == 1 else "s")
        return f"{reason} ({word} {', '.join(map(str, lines))}{more})"


def used_columns(columns: Columns) -> dict[str, str]:
    """Return what each column in use holds -> its name in the file."""
    named: dict[str, str] = columns.model_dump(
        exclude={"time_unit", "hash_tokens"}, exclude_none=True
    )
    return named


def usable(
    rows: Iterator[Record | Rows], columns: Columns, zero_output_failed: bool, report: TraceReport
) -> Usable:
    """Return the rows that can be requests, in order of the file; count the others in `report`.

    By name of what they hold: arrival (seconds) as float64; prompt, output, cached (below prompt)
    and session (from 0 in order of appearance, -1 for none) as int64; hashes as tuples of keys.
    zero_output_failed: an output of 0 tokens is a failure, not a fault.
    """
    reader = _Reader(columns, zero_output_failed, report)
    whole: dict[str, _Column] = {}
    for lines, raw in _chunks(rows, columns, report):
        for name, values in reader.check(lines, raw).items():
            whole.setdefault(name, _Column(values.dtype)).extend(values)
    named = used_columns(columns)
    found: Usable = {name: whole[name].close() if whole else np.empty(0) for name in named}
    report.used = len(found["prompt"])
    return found


class _Column:
    """An array that grows by an eighth at a time.

    The system moves large arrays by changing where their pages are found, so that there is no
    moment in which two of them are filled.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._values, self._n = np.empty(0, dtype), 0

    def extend(self, part: NDArray[Any]) -> None:
        n = self._n + len(part)
        if n > len(self._values):
            self._values.resize(n + n // 8, refcheck=False)
        self._values[self._n : n] = part
        self._n = n

    def close(self) -> NDArray[Any]:
        """Return the column, of no more than its length; it grows no more."""
        self._values.resize(self._n, refcheck=False)
        return self._values


def _chunks(
    rows: Iterator[Record | Rows], columns: Columns, report: TraceReport
) -> Iterator[tuple[Whole, Mapping[str, Raw]]]:
    """Yield line numbers and the raw values of the columns in use, some rows at a time."""
    named = used_columns(columns)
    lines: list[int] = []
    raw: dict[str, list[object]] = {key: [] for key in named}
    for row in rows:
        if lines and (isinstance(row, Rows) or len(lines) == CHUNK):
            yield np.array(lines), raw
            lines, raw = [], {key: [] for key in named}
        if isinstance(row, Rows):
            report.rows += row.many
            texts = {key: row.columns[column] for key, column in named.items()}
            yield np.arange(row.first, row.first + row.many), texts
            continue
        line, values = row
        report.rows += 1
        if isinstance(values, str):
            report.skip(values, np.array([line]))
            continue
        lines.append(line)
        for key, column in named.items():
            raw[key].append(values.get(column))
    if lines:
        yield np.array(lines), raw


class _Reader:
    """Checks one chunk after another; a row is counted under the first fault found in it."""

    def __init__(self, columns: Columns, zero_output_failed: bool, report: TraceReport) -> None:
        self.columns, self.zero_output_failed, self.report = columns, zero_output_failed, report
        self.clock = Clock(columns.time_unit)
        self.sessions: dict[str, int] = {}
        report.hash_tokens = columns.hash_tokens or 0 if columns.hashes else 0
        self.hashes = HashReader(report.hash_tokens)

    def check(self, lines: Whole, raw: Mapping[str, Raw]) -> Usable:
        """Return the usable rows of the chunk."""
        names = used_columns(self.columns)
        found: Usable = {}
        tokens: dict[str, Floats] = {}
        good = np.ones(len(lines), dtype=np.bool_)

        def demand(fine: NDArray[np.bool_], reason: str) -> None:
            self.report.skip(reason, lines[good & ~fine])
            good[:] &= fine

        def whole(name: str, least: int) -> Floats:
            number = numbers(raw[name])
            fits = np.isfinite(number) & (np.floor(number) == number)
            demand(fits, f"{names[name]} is not a whole number")
            demand(number >= least, f"{names[name]} is below {least}")
            demand(number <= MOST_TOKENS, f"{names[name]} is above {MOST_TOKENS}")
            tokens[name] = number
            return number

        if self.zero_output_failed:
            demand(numbers(raw["output"]) != 0.0, FAILED)
        if "arrival" in raw:
            time = self.clock.read(raw["arrival"])
            demand(np.isfinite(time), f"{names['arrival']} is not a time")
            if not self.clock.dates:
                demand(time >= 0.0, f"{names['arrival']} is negative")
            found["arrival"] = time
        prompt = whole("prompt", 1)
        whole("output", 1)
        if "cached" in raw:
            fits = whole("cached", 0) <= prompt
            demand(fits, f"{names['cached']} is more than {names['prompt']}")
            # An engine computes at least the last prompt token, however much it finds cached.
            tokens["cached"] = np.minimum(tokens["cached"], prompt - 1)
        if "hashes" in raw:
            found["hashes"] = as_column([()] * len(lines))
            read = self.hashes.read
            for row in np.flatnonzero(good):
                keys = read(raw["hashes"][row], int(prompt[row]))
                if isinstance(keys, str):
                    self.report.skip(f"{names['hashes']} {keys}", lines[row : row + 1])
                    good[row] = False
                else:
                    found["hashes"][row] = keys
        usable = {name: values[good] for name, values in found.items()}
        usable |= {name: values[good].astype(np.int64) for name, values in tokens.items()}
        if "session" in raw:
            usable["session"] = self._numbered(raw["session"], good)
        return usable

    def _numbered(self, raw: Raw, good: NDArray[np.bool_]) -> Whole:
        """Return the sessions of the good rows, numbered as they appear."""
        if isinstance(raw, list):
            text = [None if v is None or v == "" else str(v) for v in raw]
            codes, names = pd.factorize(np.array(text, dtype=object)[good])
        else:
            found = raw.filter(pa.array(good)).combine_chunks().dictionary_encode()
            codes, names = found.indices.to_numpy(), found.dictionary.to_pylist()
        known = self.sessions
        own = [known.setdefault(name, len(known)) if name else -1 for name in names]
        return np.array([*own, -1], dtype=np.int64)[codes]
