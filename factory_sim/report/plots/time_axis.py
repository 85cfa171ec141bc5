"""Time series on paper: as many points as the eye can see, the time axis, and the window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from factory_sim.report.plots import style

POINTS = 600

Floats = NDArray[np.float64]


class TimeAxis:
    """The time of a run's series, in the unit that suits its span and at most 600 bins.

    A month of seconds and a minute of seconds take as long to draw. `mean` and `highest`
    reduce a column of the series to those bins: a peak inside a bin is lost to the mean but
    not to the highest, so whatever is compared with a limit needs both.
    """

    def __init__(self, series: pd.DataFrame) -> None:
        self._series = series
        time_s = series["time_s"].to_numpy(dtype=float)
        span_s = float(time_s[-1] - time_s[0]) if len(time_s) > 1 else 0.0
        self.unit, self._unit_s = unit_of(span_s)
        self._starts = np.unique(np.linspace(0, len(time_s), POINTS, endpoint=False).astype(int))
        self.time: Floats = time_s[self._starts[self._starts < len(time_s)]] / self._unit_s

    def has(self, column: str) -> bool:
        """Say whether the series has a column: what a site lacks is absent."""
        return column in self._series

    def mean(self, column: str) -> Floats:
        """Return the mean of a column in each bin."""
        counts = np.diff([*self._starts, len(self._series)])
        return np.add.reduceat(self._values(column), self._starts) / counts

    def highest(self, column: str) -> Floats:
        """Return the highest value of a column in each bin."""
        return np.maximum.reduceat(self._values(column), self._starts)

    def finish(self, axes: Axes, window_s: Mapping[str, float] | None) -> None:
        """Have `axes` start at 0 as runs do, and shade what is outside the measured window."""
        high = float(self._series["time_s"].iloc[-1]) / self._unit_s or 1.0
        axes.set_xlim(0.0, high)
        if window_s is not None:
            start, end = window_s["start"] / self._unit_s, window_s["end"] / self._unit_s
            style.shade(axes, start, end)

    def _values(self, column: str) -> Floats:
        return self._series[column].to_numpy(dtype=float)


_UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def unit_of(span_s: float) -> tuple[str, float]:
    """Return the unit in which a span of time is told, and its seconds."""
    return next((name, size) for name, size in _UNITS if span_s >= 3 * size or size == 1.0)


def window_of(summary: Mapping[str, Any]) -> Mapping[str, float] | None:
    """Return the measured window of a run, {start, end} in seconds."""
    window: Mapping[str, float] | None = summary.get("window_s")
    return window
