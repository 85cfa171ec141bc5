"""Reading recorded requests: CSV and JSON lines, each known format a naming of columns.

Every row is used or counted: a row that cannot be a request is skipped under a reason with its
line numbers, and more of them than the user allows stop the run.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from factory_sim.errors import InputError, Problem
from factory_sim.scenario.workload import Columns, TraceFile
from factory_sim.units import parse
from factory_sim.workload.records import Record, Records, open_records

FAILED = "failed in the trace"
LINES_SHOWN = 5
CHUNK = 65_536
MOST_TOKENS = 2**53
"""Beyond this a float no longer holds every whole number; no prompt comes near it."""


class Format(NamedTuple):
    """A published format: its columns, and those that a file may lack."""

    columns: Columns
    optional: frozenset[str] = frozenset()
    zero_output_failed: bool = False


FORMATS: Mapping[str, Format] = {
    # github.com/Azure/AzurePublicDataset, LLM inference traces of 2023 and 2024
    "azure": Format(
        Columns(
            arrival="TIMESTAMP",
            prompt="ContextTokens",
            output="GeneratedTokens",
            time_unit="timestamp",
        )
    ),
    "factory": Format(
        Columns(
            arrival="arrival_s",
            prompt="input_toks",
            output="output_toks",
            cached="cached_toks",
            session="session",
        ),
        frozenset({"arrival", "cached", "session"}),
    ),
    # github.com/kvcache-ai/Mooncake, FAST '25 traces
    "mooncake": Format(
        Columns(
            arrival="timestamp",
            prompt="input_length",
            output="output_length",
            session="session_id",
            time_unit="ms",
        ),
        frozenset({"session"}),
    ),
    # github.com/HPMLL/BurstGPT: a response of 0 tokens is a failure; sessions came with v2
    "burstgpt": Format(
        Columns(
            arrival="Timestamp",
            prompt="Request tokens",
            output="Response tokens",
            session="Session ID",
        ),
        frozenset({"session"}),
        zero_output_failed=True,
    ),
    # one record per answered turn, as `factory_sim.workload.records` flattens conversations
    "sharegpt": Format(
        Columns(arrival="timestamp", prompt="prompt", output="output", session="session"),
        frozenset({"arrival", "session"}),
    ),
}

_BY_COLUMNS = {name: known.columns for name, known in FORMATS.items() if name != "sharegpt"}


class Trace(NamedTuple):
    """Recorded requests in order of arrival, the first at time 0.

    arrival_s: float64[n], empty when the file has no times. prompt, output, session: int64[n]
    (session -1 where there is none). cached: int64[n] below prompt, or None.
    """

    arrival_s: NDArray[np.float64]
    prompt: NDArray[np.int64]
    output: NDArray[np.int64]
    cached: NDArray[np.int64] | None
    session: NDArray[np.int64]


@dataclass
class TraceReport:
    """What reading a trace found: for the record of a run."""

    path: str
    format: str
    counted_in: str = "line"
    rows: int = 0
    used: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    first_lines: dict[str, list[int]] = field(default_factory=dict)
    span_s: float = 0.0
    out_of_order: int = 0

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


def read_trace(
    file: TraceFile, base: Path, where: str, needs_times: bool = True
) -> tuple[Trace, TraceReport]:
    """Return the requests of `file` and what reading it found.

    base: the folder that a relative path starts from. where: path of the field that names the
    file, for errors. Raises InputError when the file cannot be read, is in no known format,
    lacks a column (or arrival times, where `needs_times`), holds no request, or has more
    malformed rows than `allow_malformed`.
    """
    path = base / file.path
    try:
        found = path.stat()
        stamp = (found.st_mtime_ns, found.st_size)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Problem(f"{where}.path", f"cannot read {path}: {reason}")) from None
    try:
        trace, report = _read(path, file.format, file.columns, stamp)
    except ValueError as error:
        raise InputError(Problem(f"{where}.path", str(error))) from None
    if report.malformed > file.allow_malformed * report.rows:
        raise InputError(Problem(f"{where}.path", _too_many(report, file.allow_malformed)))
    if not report.used:
        faults = f": {report.faults()}" if report.rows else ""
        raise InputError(Problem(f"{where}.path", f"{path} holds no request{faults}"))
    if needs_times and not len(trace.arrival_s):
        raise InputError(
            Problem(
                f"{where}.path",
                f"{path} has no arrival times; take arrivals from a process such as poisson and "
                f"write lengths: {{trace: {{path: {file.path}}}}}",
            )
        )
    return trace, report


def _too_many(report: TraceReport, allowed: float) -> str:
    share = report.malformed / report.rows
    enough = np.ceil(share * 1000.0) / 10.0
    return (
        f"{report.malformed} of {report.rows} rows of {report.path} are malformed "
        f"({share:.2%}; allowed: {allowed:.2%}): {report.faults()}. Mend the file, or "
        f"skip them with allow_malformed: {enough:g} %"
    )


@lru_cache(maxsize=4)
def _read(
    path: Path, name: str, columns: Columns | None, stamp: tuple[int, int]
) -> tuple[Trace, TraceReport]:
    """Read a file once per content: `stamp` is its time of change and size."""
    try:
        records = open_records(path, name, columns, _BY_COLUMNS)
        format_ = Format(columns) if columns is not None else FORMATS[records.format]
        columns = _present(format_, records, path)
        report = TraceReport(str(path), records.format, records.counted_in)
        clock = Clock(columns.time_unit)
        parts = [
            _usable(chunk, columns, clock, format_.zero_output_failed, report)
            for chunk in _chunks(records.rows, columns, report)
        ]
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    return _ordered(parts, columns, report), report


def _fields(columns: Columns) -> dict[str, str]:
    """Return what each column in use holds -> its name in the file."""
    named: dict[str, str] = columns.model_dump(exclude={"time_unit"}, exclude_none=True)
    return named


def _present(known: Format, records: Records, path: Path) -> Columns:
    """Return the columns in use: those of the format less the optional ones not there."""
    fields = _fields(known.columns)
    if not records.names:  # no record could be read at all: the report says why
        return known.columns
    missing = {key: column for key, column in fields.items() if column not in records.names}
    wanted = [column for key, column in missing.items() if key not in known.optional]
    if wanted:
        has = ", ".join(records.names) or "none"
        raise ValueError(f"{path} has no column {', '.join(wanted)}; it has: {has}")
    return known.columns.model_copy(update=dict.fromkeys(missing))


def _chunks(
    rows: Iterator[Record], columns: Columns, report: TraceReport
) -> Iterator[pd.DataFrame]:
    """Yield the raw values of the columns in use, with line numbers, a chunk at a time."""
    fields = _fields(columns)
    lines: list[int] = []
    values: list[tuple[object, ...]] = []
    for line, row in rows:
        report.rows += 1
        if isinstance(row, str):
            report.skip(row, np.array([line]))
            continue
        lines.append(line)
        values.append(tuple(row.get(column) for column in fields.values()))
        if len(values) == CHUNK:
            yield pd.DataFrame(values, index=lines, columns=list(fields), dtype=object)
            lines, values = [], []
    if values:
        yield pd.DataFrame(values, index=lines, columns=list(fields), dtype=object)


def _usable(
    chunk: pd.DataFrame, columns: Columns, clock: Clock, zero_failed: bool, report: TraceReport
) -> pd.DataFrame:
    """Return the rows that can be requests, as numbers; count the others."""

    def keep(good: NDArray[np.bool_], reason: str) -> None:
        nonlocal chunk
        report.skip(reason, chunk.index.to_numpy()[~good].astype(np.int64))
        chunk = chunk[good]

    def whole(name: str, column: str, least: int) -> None:
        nonlocal chunk
        number = _numbers(chunk[name])
        chunk = chunk.assign(**{name: number})
        fits = np.isfinite(number) & (np.abs(number) <= MOST_TOKENS)
        keep(fits & (np.floor(number) == number), f"{column} is not a whole number")
        keep(chunk[name].to_numpy(np.float64) >= least, f"{column} is below {least}")

    if zero_failed:
        keep(_numbers(chunk["output"]) != 0.0, FAILED)
    if columns.arrival is not None:
        time = clock.read(chunk["arrival"])
        chunk = chunk.assign(arrival=time)
        keep(np.isfinite(time), f"{columns.arrival} is not a time")
        if not clock.dates:
            keep(chunk["arrival"].to_numpy(np.float64) >= 0.0, f"{columns.arrival} is negative")
    whole("prompt", columns.prompt, 1)
    whole("output", columns.output, 1)
    if columns.cached is not None:
        whole("cached", columns.cached, 0)
        fits = chunk["cached"].to_numpy(np.float64) <= chunk["prompt"].to_numpy(np.float64)
        keep(fits, f"{columns.cached} is more than {columns.prompt}")
    return chunk


def _numbers(raw: pd.Series) -> NDArray[np.float64]:
    """Return floats, NaN for whatever is no number (a truth value, a list, other text)."""
    return np.array([_number(value) for value in raw], dtype=np.float64)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan


class Clock:
    """Reads arrival times of one unit into seconds; dates count from the first one read."""

    def __init__(self, unit: str) -> None:
        self.dates = unit == "timestamp"
        self.seconds = 1.0 if self.dates else parse(f"1 {unit}", "s", "1 ms")
        self.first: pd.Timestamp | None = None

    def read(self, raw: pd.Series) -> NDArray[np.float64]:
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


def _ordered(parts: list[pd.DataFrame], columns: Columns, report: TraceReport) -> Trace:
    """Join the chunks and sort them by arrival; equal times keep the order of the file."""
    rows = pd.concat(parts) if parts else pd.DataFrame(columns=list(_fields(columns)))
    report.used = len(rows)
    arrival = np.empty(0)
    if columns.arrival is not None:
        arrival = rows["arrival"].to_numpy(np.float64)
        report.out_of_order = int(np.count_nonzero(np.diff(arrival) < 0.0))
        order = np.argsort(arrival, kind="stable")
        rows, arrival = rows.iloc[order], arrival[order]
        if len(arrival):
            arrival = arrival - arrival[0]
            report.span_s = float(arrival[-1])
    prompt = rows["prompt"].to_numpy(np.float64).astype(np.int64)
    cached = None
    if columns.cached is not None:
        # An engine computes at least the last prompt token, however much it finds cached.
        found = rows["cached"].to_numpy(np.float64).astype(np.int64)
        cached = np.minimum(found, prompt - 1)
    session = np.full(len(rows), -1, dtype=np.int64)
    if columns.session is not None:
        names = [None if v is None or v == "" else str(v) for v in rows["session"]]
        session = pd.factorize(np.array(names, dtype=object))[0].astype(np.int64)
    output = rows["output"].to_numpy(np.float64).astype(np.int64)
    for shared in (arrival, prompt, output, cached, session):
        if shared is not None:
            shared.flags.writeable = False
    return Trace(arrival, prompt, output, cached, session)
