"""From raw values to numbers and times, column by column."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from factory_sim.units import span

NO_DATE = np.iinfo(np.int64).min
"""What stands among nanoseconds for no date, as in NumPy."""
YEARS = (1970, 2200)
"""Nanoseconds since 1970 hold years up to 2262; a trace of other years is a slip."""

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Raw: TypeAlias = list[object] | pa.ChunkedArray
"""The values of a column, whatever they are, or its text.

Text that Arrow can read is the same number or date to Python; what it cannot, Python looks at.
"""


class Clock:
    """Reads arrival times of one unit into seconds; dates count from the first one read."""

    def __init__(self, unit: str) -> None:
        self.dates = unit == "timestamp"
        self.seconds = 1.0 if self.dates else span(unit)
        self.first: int | None = None

    def read(self, raw: Raw) -> Floats:
        """Return seconds, NaN for what is no time."""
        if not self.dates:
            return numbers(raw) * self.seconds
        dates = _dates(raw)
        fine = dates != NO_DATE
        if self.first is None and fine.any():
            self.first = int(dates[fine][0])
        # Whole numbers divided once: the float nearest to the time that was written.
        return np.where(fine, (dates - (self.first or 0)) / 1e9, np.nan)


def _dates(raw: Raw) -> Whole:
    """Return nanoseconds since 1970 UTC, `NO_DATE` for what is no date."""
    if isinstance(raw, pa.ChunkedArray):
        bounds = pc.min_max(raw).as_py()
        # A year further inside, so that no time zone makes it another that is a slip.
        if f"{YEARS[0] + 1}" <= bounds["min"] and bounds["max"] < f"{YEARS[1]}":
            for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
                try:
                    pc.cast(raw.slice(0, 1), kind)  # to fail on all takes long
                    return np.asarray(pc.cast(raw, kind).cast(pa.int64()))
                except pa.ArrowInvalid:
                    continue
        raw = raw.to_pylist()
    text = pd.Series([v if isinstance(v, str) else None for v in raw], dtype=object)
    dates = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
    dates = dates.where(dates.dt.year.between(*YEARS)).dt.tz_localize(None)
    return dates.to_numpy("datetime64[ns]").view(np.int64)


def numbers(raw: Raw) -> Floats:
    """Return floats, NaN for whatever is no number (a truth value, a list, other text)."""
    if isinstance(raw, pa.ChunkedArray):
        try:
            return np.asarray(pc.cast(raw, pa.float64()))
        except pa.ArrowInvalid:
            raw = raw.to_pylist()
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
