"""Pareto fronts: what the best of several designs yields at each operating point.

A design is run at several loads; each run is a point, and along a design points are joined by
straight lines. The front is the best design at each place or beyond it: who is promised less than
a design gives is content with it. Nothing is extrapolated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from math import exp, inf, log, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory_sim.experiments.formula import figure

Points = Sequence[Mapping[str, Any]]

_PLACES = 400
"""Places at which a crossing is looked for, evenly spread in the logarithm."""


class Front:
    """Designs, each with the summaries of its runs; x: path of the figure points are placed by."""

    def __init__(self, designs: Mapping[str, Points], x: str) -> None:
        self._x = x
        self.designs = designs

    def places(self) -> tuple[float, float]:
        """Return the lowest and the highest place at which a design has a value."""
        found = [place for line in self._lines(self._x) for place, _ in line]
        return min(found), max(found)

    def value(self, path: str, place: float) -> float:
        """Return the highest value of a figure at a place or beyond; nan if none lies there."""
        found = max(_from(line, place) for line in self._lines(path))
        return found if found > -inf else nan

    def highest(self, path: str) -> float:
        """Return the highest value of a figure anywhere."""
        return max(value for line in self._lines(path) for _, value in line)

    def line(self, design: str, path: str) -> list[tuple[float, float]]:
        """Return place and value of each run of a design, by place.

        A run in which nobody got far enough to be placed is left out; ValueError if all are.
        """
        runs = [run for run in self.designs[design] if self._x.partition(".")[0] in run]
        if not runs:
            raise ValueError(f"no run of {design!r} has a figure '{self._x}'")
        return sorted((figure(design, run, self._x), figure(design, run, path)) for run in runs)

    def _lines(self, path: str) -> list[list[tuple[float, float]]]:
        return [self.line(design, path) for design in self.designs]


def crossing(value: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Return the lowest place between `low` and `high` where `value` reaches `target`, else nan."""
    step = (log(high) - log(low)) / _PLACES
    last, last_gap = low, value(low) - target
    for number in range(1, _PLACES + 1):
        place = low * exp(step * number)
        gap = value(place) - target
        if last_gap == 0.0 or last_gap * gap < 0.0:
            # Straight between two places, which are a per cent apart.
            return last + (place - last) * last_gap / (last_gap - gap) if gap != last_gap else last
        last, last_gap = place, gap
    return nan


def _from(line: list[tuple[float, float]], place: float) -> float:
    """Return the highest value of a design at a place or beyond; minus infinity if none is."""
    index = bisect_left(line, (place, -inf))
    beyond = max((value for _, value in line[index:]), default=-inf)
    if not 0 < index < len(line):
        return beyond
    (x0, y0), (x1, y1) = line[index - 1], line[index]
    return max(beyond, y0 + (y1 - y0) * (place - x0) / (x1 - x0))


def best_of_all(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of each row whether no other is as good in every column and better in one.

    values: of shape (points, figures), more being better. A row with a NaN never is.
    """
    others, own = values[None, :, :], values[:, None, :]
    beaten = np.all(others >= own, axis=2) & np.any(others > own, axis=2)
    found: NDArray[np.bool_] = ~np.any(beaten, axis=1) & ~np.any(np.isnan(values), axis=1)
    return found
