"""EnergyPlus weather files (EPW): a typical year of hourly weather, as signals.

The format: eight header lines, the first with the place and its hours from UTC, then a line for
each hour of the year with dry bulb, humidity and pressure in columns 7, 9 and 10. A value is that
of the hour's end, in standard time all year.
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from factory_sim.scenario.signal import Linear, Signal

HOURS = (8760, 8784)
"""Of a year, and of a leap year."""

_COLUMNS = {
    "dry bulb": (6, -90.0, 70.0),
    "humidity": (8, 0.0, 110.0),
    "pressure": (9, 3e4, 1.2e5),
}
"""Where a figure stands in its line, and what it may be; 99.9 or 999 means that it is missing."""


def read_epw(path: Path, starts_at: datetime) -> tuple[Signal, Signal, Signal]:
    """Return dry bulb (C), relative humidity (0 to 1) and pressure (Pa) from `starts_at` on.

    starts_at: with its time zone; its year does not matter. After a year the file starts again.
    Raises ValueError for a file that is no EPW file or lacks hours.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(lines) < 9 or not lines[0] or lines[0][0].upper() != "LOCATION":
        raise ValueError(f"{path} is no EPW file: its first line must start with LOCATION")
    rows = [line for line in lines[8:] if line]
    if len(rows) not in HOURS:
        raise ValueError(
            f"{path} has {len(rows):,} hours of weather; an EPW file has 8,760, one a line"
        )
    try:
        ahead_h = float(lines[0][8])
    except (IndexError, ValueError):
        raise ValueError(
            f"{path} does not say its time zone in the 9th field of LOCATION"
        ) from None
    table = {name: _column(path, rows, name) for name in _COLUMNS}
    table["humidity"] = np.minimum(table["humidity"], 100.0) / 100.0
    local = starts_at.astimezone(timezone(timedelta(hours=ahead_h)))
    # By month and day: a year of the file has a 29th of February or has none.
    if len(rows) == HOURS[0] and (local.month, local.day) == (2, 29):
        local = local.replace(day=28)
    local = local.replace(year=2001 if len(rows) == HOURS[0] else 2000)
    new_year = local.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    started_s = (local - new_year).total_seconds()
    return tuple(_signal(values, started_s, path) for values in table.values())  # type: ignore[return-value]


def _column(path: Path, rows: list[list[str]], name: str) -> np.ndarray:
    column, low, high = _COLUMNS[name]
    values = np.empty(len(rows))
    for hour, row in enumerate(rows):
        try:
            values[hour] = float(row[column])
        except (IndexError, ValueError):
            raise ValueError(f"{path}, line {hour + 9}: no number for the {name}") from None
        if not low <= values[hour] <= high:
            raise ValueError(
                f"{path}, line {hour + 9}: a {name} of {values[hour]:g} is missing or impossible; "
                "mend the file or use another"
            )
    return values


def _signal(hourly: np.ndarray, started_s: float, path: Path) -> Signal:
    """Return two years of an hourly column, with time 0 at `started_s` of the first."""
    values = np.concatenate([hourly[-1:], hourly, hourly])
    times_s = 3600.0 * np.arange(len(values)) - started_s
    return Linear(tuple(times_s.tolist()), tuple(values.tolist()), {"epw": str(path)})
