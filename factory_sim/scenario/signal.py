"""A signal: one number that changes over time. Prices, weather, load and grid limits are signals.

How they are written in a scenario file is in `signal_forms.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAY_S = 86_400.0


class Signal(ABC):
    """A number over time, in SI units; time in seconds since the start of the run."""

    continuous: bool = False
    """True when the value moves between the times of `changes`."""

    @overload
    def at(self, t: float) -> float: ...
    @overload
    def at(self, t: Floats) -> Floats: ...
    def at(self, t: float | Floats) -> float | Floats:
        """Return the value at time `t`, a number or an array of numbers."""
        values = self._values(np.asarray(t, dtype=np.float64))
        return values if isinstance(t, np.ndarray) else float(values)

    @overload
    def integral(self, t: float) -> float: ...
    @overload
    def integral(self, t: Floats) -> Floats: ...
    def integral(self, t: float | Floats) -> float | Floats:
        """Return the exact integral from 0 to `t` >= 0, in units of the value times seconds."""
        values = self._integrals(np.asarray(t, dtype=np.float64))
        return values if isinstance(t, np.ndarray) else float(values)

    def mean_over(self, start_s: float, end_s: float) -> float:
        """Return the exact mean over [start_s, end_s], of which the end is the later."""
        return (self.integral(end_s) - self.integral(start_s)) / (end_s - start_s)

    def changes(self, until_s: float) -> list[float]:
        """Return the times in (0, until_s) at which the value jumps, in order."""
        return []

    def max_over(self, start_s: float, end_s: float) -> float:
        """Return the largest value on [start_s, end_s]; `end_s` may be infinite."""
        return max(self._extremes(start_s, end_s))

    def min_over(self, start_s: float, end_s: float) -> float:
        """Return the smallest value on [start_s, end_s]; `end_s` may be infinite."""
        return min(self._extremes(start_s, end_s))

    @abstractmethod
    def written(self, write: Callable[[float], Any]) -> Any:
        """Return the form a scenario file has, each value passed through `write`."""

    @abstractmethod
    def _values(self, t: Floats) -> Floats: ...

    @abstractmethod
    def _integrals(self, t: Floats) -> Floats: ...

    @abstractmethod
    def _extremes(self, start_s: float, end_s: float) -> list[float]:
        """Return values on the interval among which are its largest and its smallest."""


@dataclass(frozen=True)
class Constant(Signal):
    """The same value always."""

    value: float

    def at(self, t: Any) -> Any:
        return np.full(t.shape, self.value) if isinstance(t, np.ndarray) else self.value

    def mean_over(self, start_s: float, end_s: float) -> float:
        return self.value

    def written(self, write: Callable[[float], Any]) -> Any:
        return write(self.value)

    def _values(self, t: Floats) -> Floats:
        return np.full(t.shape, self.value)

    def _integrals(self, t: Floats) -> Floats:
        return self.value * t

    def _extremes(self, start_s: float, end_s: float) -> list[float]:
        return [self.value]


@dataclass(frozen=True)
class _Points(Signal):
    """A signal known at some times, increasing."""

    times_s: tuple[float, ...]
    values: tuple[float, ...]

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """Times and values as arrays, made once: a year of prices has thousands."""
        return np.array(self.times_s), np.array(self.values)


@dataclass(frozen=True)
class Steps(_Points):
    """Each value holds from its time until the next; the first holds before its time too."""

    file: Mapping[str, Any] | None = field(default=None, hash=False)

    def changes(self, until_s: float) -> list[float]:
        pairs = zip(self.times_s[1:], self.values[1:], self.values[:-1], strict=True)
        return [time for time, new, old in pairs if 0 < time < until_s and new != old]

    def written(self, write: Callable[[float], Any]) -> Any:
        if self.file is not None:
            return dict(self.file)
        pairs = zip(self.times_s, self.values, strict=True)
        return {"steps": [[f"{time!r} s", write(value)] for time, value in pairs]}

    def _index(self, t: Floats) -> NDArray[np.intp]:
        found = np.searchsorted(self.points[0], t, side="right") - 1
        return np.maximum(found, 0)

    def _values(self, t: Floats) -> Floats:
        return np.asarray(self.points[1][self._index(t)])

    def _integrals(self, t: Floats) -> Floats:
        times, values = self.points
        areas = np.concatenate(([0.0], np.cumsum(values[:-1] * np.diff(times))))

        def since_first(when: Floats) -> Floats:
            index = self._index(when)
            return np.asarray(areas[index] + values[index] * (when - times[index]))

        return since_first(t) - since_first(np.zeros(()))

    def _extremes(self, start_s: float, end_s: float) -> list[float]:
        first = max(bisect_right(self.times_s, start_s) - 1, 0)
        last = max(bisect_right(self.times_s, end_s) - 1, 0)
        return list(self.values[first : last + 1])


@dataclass(frozen=True)
class Linear(_Points):
    """Straight lines between points; the first and last value hold outside."""

    file: Mapping[str, Any] = field(hash=False)
    continuous = True

    def written(self, write: Callable[[float], Any]) -> Any:
        return dict(self.file)

    def _values(self, t: Floats) -> Floats:
        return np.asarray(np.interp(t, *self.points))

    def _integrals(self, t: Floats) -> Floats:
        return _area(self, t) - _area(self, np.zeros(()))

    def _extremes(self, start_s: float, end_s: float) -> list[float]:
        inside = zip(self.times_s, self.values, strict=True)
        ends = [self.at(start_s), self.at(end_s)]
        return ends + [value for time, value in inside if start_s < time < end_s]


@dataclass(frozen=True)
class Daily(_Points):
    """Straight lines between times of day, the same every day. Time 0 is `starts_at_s`."""

    starts_at_s: float = 0.0
    continuous = True

    def written(self, write: Callable[[float], Any]) -> Any:
        pairs = zip(self.times_s, self.values, strict=True)
        points = [[f"{time!r} s", write(value)] for time, value in pairs]
        return {"daily": points, "starts_at": f"{self.starts_at_s!r} s"}

    @cached_property
    def _one_day(self) -> Linear:
        """Return the day from 00:00 to 24:00, the line across midnight cut in two."""
        midnight = float(np.interp(0.0, *self.points, period=DAY_S))
        inner = [p for p in zip(self.times_s, self.values, strict=True) if 0 < p[0] < DAY_S]
        times, values = zip((0.0, midnight), *inner, (DAY_S, midnight), strict=True)
        return Linear(times, values, {})

    def _values(self, t: Floats) -> Floats:
        clock = np.mod(t + self.starts_at_s, DAY_S)
        return np.asarray(np.interp(clock, *self.points, period=DAY_S))

    def _integrals(self, t: Floats) -> Floats:
        day = self._one_day
        whole = day.integral(DAY_S)

        def since_midnight(when: Floats) -> Floats:
            days, clock = np.divmod(when, DAY_S)
            return np.asarray(days * whole + _area(day, clock))

        start = np.asarray(self.starts_at_s)
        return since_midnight(t + start) - since_midnight(start)

    def _extremes(self, start_s: float, end_s: float) -> list[float]:
        if end_s - start_s >= DAY_S:
            return list(self.values)
        first = start_s + self.starts_at_s
        last = end_s + self.starts_at_s
        found = [self.at(start_s), self.at(end_s)]
        for time, value in zip(self.times_s, self.values, strict=True):
            next_time = time + DAY_S * math.ceil((first - time) / DAY_S)
            if next_time <= last:
                found.append(value)
        return found


@dataclass(frozen=True)
class Sinusoid(Signal):
    """mean + amplitude * sin(2 pi (t - phase) / period)."""

    mean: float
    amplitude: float
    period_s: float
    phase_s: float = 0.0
    continuous = True

    def written(self, write: Callable[[float], Any]) -> Any:
        # An amplitude is a difference: of temperatures, kelvins.
        amplitude = write(self.amplitude)
        if isinstance(amplitude, str):
            amplitude = amplitude.replace("degC", "K")
        shape = {"mean": write(self.mean), "amplitude": amplitude}
        when = {"period": f"{self.period_s!r} s", "phase": f"{self.phase_s!r} s"}
        return {"sinusoid": shape | when}

    def _angle(self, t: Floats) -> Floats:
        return np.asarray(2.0 * np.pi * (t - self.phase_s) / self.period_s)

    def _values(self, t: Floats) -> Floats:
        return np.asarray(self.mean + self.amplitude * np.sin(self._angle(t)))

    def _integrals(self, t: Floats) -> Floats:
        swing = self.amplitude * self.period_s / (2.0 * np.pi)
        start = math.cos(float(self._angle(np.zeros(()))))
        return np.asarray(self.mean * t + swing * (start - np.cos(self._angle(t))))

    def _extremes(self, start_s: float, end_s: float) -> list[float]:
        if math.isinf(end_s):
            return [self.mean - self.amplitude, self.mean + self.amplitude]
        found = [self.at(start_s), self.at(end_s)]
        for quarter, value in ((0.25, self.amplitude), (0.75, -self.amplitude)):
            peak = self.phase_s + quarter * self.period_s
            turns = math.ceil((start_s - peak) / self.period_s)
            if peak + turns * self.period_s <= end_s:
                found.append(self.mean + value)
        return found


def _area(line: Linear, t: Floats) -> Floats:
    """Return the integral of `line` from its first point to `t`, by trapezia."""
    times, values = line.points
    areas = np.concatenate(([0.0], np.cumsum(np.diff(times) * (values[1:] + values[:-1]) / 2.0)))
    index = np.maximum(np.searchsorted(times, t, side="right") - 1, 0)
    return np.asarray(areas[index] + (t - times[index]) * (values[index] + line.at(t)) / 2.0)
