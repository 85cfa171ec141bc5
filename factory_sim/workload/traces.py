"""Reading recorded requests: CSV and JSON lines, each known format a naming of columns.

Every row is used or counted: a row that cannot be a request is skipped under a reason with its
line numbers, and more of them than the user allows stop the run.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from factory_sim.errors import InputError, Problem
from factory_sim.scenario.trace_file import Columns, TraceFile
from factory_sim.workload.prefixes import Keys
from factory_sim.workload.records import Records, open_records
from factory_sim.workload.rows import TraceReport, Usable, usable, used_columns


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
            hashes="hash_ids",
            hash_tokens=512,
            time_unit="ms",
        ),
        frozenset({"session", "hashes"}),
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
    (session -1 where there is none). cached: int64[n] below prompt, or None. hashes: object[n],
    the keys of each prompt's whole hashes, equal where prompts begin alike, or None. None of them
    can be written to. A request takes 24 bytes, 8 more where the file has sessions and 8 where it
    has cached tokens.
    """

    arrival_s: NDArray[np.float64]
    prompt: NDArray[np.int64]
    output: NDArray[np.int64]
    cached: NDArray[np.int64] | None
    session: NDArray[np.int64]
    hashes: Keys | None


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
    except InputError as error:
        raise InputError(Problem(f"{where}.{p.path}", p.message) for p in error.problems) from None
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
        known = Format(columns) if columns is not None else FORMATS[records.format]
        columns = _present(known, records, path)
        report = TraceReport(str(path), records.format, records.counted_in)
        rows = usable(records.rows, columns, known.zero_output_failed, report)
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    return _ordered(rows, report), report


def _present(known: Format, records: Records, path: Path) -> Columns:
    """Return the columns in use: those of the format less the optional ones not there."""
    fields = used_columns(known.columns)
    if not records.names:  # no record could be read at all: the report says why
        return known.columns
    missing = {key: column for key, column in fields.items() if column not in records.names}
    wanted = [column for key, column in missing.items() if key not in known.optional]
    if wanted:
        has = ", ".join(records.names) or "none"
        if known not in FORMATS.values():
            raise InputError(
                Problem(f"columns.{key}", f"{path} has no column {column}; it has: {has}")
                for key, column in missing.items()
            )
        raise ValueError(f"{path} has no column {', '.join(wanted)}; it has: {has}")
    return known.columns.model_copy(update=dict.fromkeys(missing))


def _ordered(rows: Usable, report: TraceReport) -> Trace:
    """Sort the rows by arrival, if they are not; equal times keep the order of the file."""
    n = report.used
    arrival = rows.get("arrival", np.empty(0))
    report.out_of_order = int(np.count_nonzero(arrival[1:] < arrival[:-1]))
    if report.out_of_order:
        order = np.argsort(arrival, kind="stable")
        for name in list(rows):  # one at a time: two of each need not be there at once
            rows[name] = rows[name][order]
        arrival = rows["arrival"]
        if "session" in rows:  # numbered as they appeared in the file
            session = rows["session"]
            session[session >= 0] = pd.factorize(session[session >= 0])[0]
    if len(arrival):
        arrival -= arrival[0]
        report.span_s = float(arrival[-1])
    nobody = np.broadcast_to(np.int64(-1), n)
    trace = Trace(
        arrival,
        rows["prompt"],
        rows["output"],
        rows.get("cached"),
        rows.get("session", nobody),
        rows.get("hashes"),
    )
    for shared in trace:
        if shared is not None:
            shared.flags.writeable = False
    return trace
