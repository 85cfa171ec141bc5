"""From raw values to requests: which rows can be one, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from factory_sim.scenario.workload import Columns
from factory_sim.units import parse
from factory_sim.workload.prefixes import HashReader, as_column
from factory_sim.workload.records import Record

FAILED = "failed in the trace"
LINES_SHOWN = 5
CHUNK = 65_536
MOST_TOKENS = 2**53
"""Beyond this a float no longer holds every whole number; no prompt comes near it."""

Floats = NDArray[np.float64]
Usable = dict[str, NDArray[np.float64] | NDArray[np.object_]]


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

    def skip(self, reason: str, lines: NDArray[np.int64]) -> None:
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
    rows: Iterator[Record], columns: Columns, zero_output_failed: bool, report: TraceReport
) -> Usable:
    """Return the rows that can be requests, in order of the file; count the others in `report`.

    By name of what they hold: arrival (seconds), prompt, output and cached as float64, session
    as the raw values, hashes as tuples of keys. zero_output_failed: an output of 0 tokens is a
    failure, not a fault.
    """
    reader = _Reader(columns, zero_output_failed, report)
    parts = [reader.check(lines, raw) for lines, raw in _chunks(rows, columns, report)]
    whole: Usable = {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        for name in used_columns(columns)
    }
    report.used = len(whole["prompt"])
    return whole


def _chunks(
    rows: Iterator[Record], columns: Columns, report: TraceReport
) -> Iterator[tuple[NDArray[np.int64], dict[str, list[object]]]]:
    """Yield line numbers and the raw values of the columns in use, some rows at a time."""
    named = used_columns(columns)
    lines: list[int] = []
    raw: dict[str, list[object]] = {key: [] for key in named}
    for line, row in rows:
        report.rows += 1
        if isinstance(row, str):
            report.skip(row, np.array([line]))
            continue
        lines.append(line)
        for key, column in named.items():
            raw[key].append(row.get(column))
        if len(lines) == CHUNK:
            yield np.array(lines), raw
            lines, raw = [], {key: [] for key in named}
    if lines:
        yield np.array(lines), raw


class _Reader:
    """Checks one chunk after another; a row is counted under the first fault found in it."""

    def __init__(self, columns: Columns, zero_output_failed: bool, report: TraceReport) -> None:
        self.columns, self.zero_output_failed, self.report = columns, zero_output_failed, report
        self.clock = _Clock(columns.time_unit)
        report.hash_tokens = columns.hash_tokens or 0 if columns.hashes else 0
        self.hashes = HashReader(report.hash_tokens)

    def check(self, lines: NDArray[np.int64], raw: Mapping[str, list[object]]) -> Usable:
        """Return the usable rows of the chunk."""
        names = used_columns(self.columns)
        found: Usable = {}
        good = np.ones(len(lines), dtype=np.bool_)

        def demand(fine: NDArray[np.bool_], reason: str) -> None:
            self.report.skip(reason, lines[good & ~fine])
            good[:] &= fine

        def whole(name: str, least: int) -> Floats:
            number = _numbers(raw[name])
            fits = np.isfinite(number) & (np.abs(number) <= MOST_TOKENS)
            demand(fits & (np.floor(number) == number), f"{names[name]} is not a whole number")
            demand(number >= least, f"{names[name]} is below {least}")
            found[name] = number
            return number

        if self.zero_output_failed:
            demand(_numbers(raw["output"]) != 0.0, FAILED)
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
        if "session" in raw:
            found["session"] = np.fromiter(raw["session"], dtype=object, count=len(lines))
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
        return {name: values[good] for name, values in found.items()}


class _Clock:
    """Reads arrival times of one unit into seconds; dates count from the first one read."""

    def __init__(self, unit: str) -> None:
        self.dates = unit == "timestamp"
        self.seconds = 1.0 if self.dates else parse(f"1 {unit}", "s", "1 ms")
        self.first: pd.Timestamp | None = None

    def read(self, raw: list[object]) -> Floats:
        """Return seconds, NaN for what is no time."""
        if not self.dates:
            return _numbers(raw) * self.seconds
        text = pd.Series([v if isinstance(v, str) else None for v in raw], dtype=object)
        dates = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
        # Years that nanoseconds since 1970 can hold; a trace of other years is a slip.
        dates = dates.where(dates.dt.year.between(1970, 2200)).astype("datetime64[ns, UTC]")
        if self.first is None and dates.notna().any():
            self.first = dates[dates.notna()].iloc[0]
        if self.first is None:
            return np.full(len(raw), np.nan)
        return np.asarray((dates - self.first).dt.total_seconds(), dtype=np.float64)


def _numbers(raw: list[object]) -> Floats:
    """Return floats, NaN for whatever is no number (a truth value, a list, other text)."""
    if set(map(type, raw)) <= {int, float, str}:
        try:
            return np.array(raw, dtype=np.float64)
        except (ValueError, OverflowError):
            pass  # some value is no number: find out which, one by one
    return np.array([_number(value) for value in raw], dtype=np.float64)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan
