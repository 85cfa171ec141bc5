"""A signal for each month of the year, or for each day of the week, which take turns.

Like a timetable that hangs twelve leaves on a wall: the leaf of the day says what holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from factory_sim.scenario.signal import DAY_S, Floats, Signal

Numbers = NDArray[np.int64]
LEAVES = {"months": 12, "week": 7}
"""How many leaves a calendar has."""

REPEATS_S = {"months": 366.0 * DAY_S, "week": 7.0 * DAY_S}
"""After how long each leaf has been seen."""

_MONDAY = 3  # the first of January 1970 was a Thursday


@dataclass(frozen=True)
class Calendar(Signal):
    """The signal of the month (January first), or of the day of the week (Monday first).

    start: the moment of time 0; days and months change at its midnights, the same offset from UTC
    all year.
    """

    by: Literal["months", "week"]
    leaves: tuple[Signal, ...]
    start: datetime

    def at(self, t: Any) -> Any:
        if isinstance(t, np.ndarray):
            return self._values(t)
        day = self.start + timedelta(seconds=t)  # a single time, which is asked for by the thousand
        return self.leaves[day.month - 1 if self.by == "months" else day.weekday()].at(t)

    @property
    def continuous(self) -> bool:  # type: ignore[override]
        """Tell whether any leaf moves all the time."""
        return any(leaf.continuous for leaf in self.leaves)

    @property
    def repeats_s(self) -> float:
        """Return after how long each leaf has been seen."""
        return REPEATS_S[self.by]

    def changes(self, until_s: float) -> list[float]:
        turns = self._turns(0.0, until_s)
        at = {float(turn) for turn in turns if turn > 0.0}
        for number, leaf in enumerate(self.leaves):
            inside = np.array(leaf.changes(until_s))
            at.update(inside[self._leaf(inside) == number].tolist() if len(inside) else ())
        return sorted(at)

    def written(self, write: Callable[[float], Any]) -> Any:
        return {self.by: [leaf.written(write) for leaf in self.leaves]}

    def _values(self, t: Floats) -> Floats:
        return self._of(self._leaf(t), t, lambda leaf, times: leaf.at(times))

    def _integrals(self, t: Floats) -> Floats:
        turns = self._turns(0.0, float(t.max(initial=0.0)))
        leaf = self._leaf(turns)
        if len(turns) == 1:  # as in any run of hours, which asks often
            return np.asarray(self.leaves[leaf[0]].integral(t))
        before = self._areas(leaf, turns)
        whole = self._areas(leaf[:-1], turns[1:]) - before[:-1]
        sums = np.concatenate(([0.0], np.cumsum(whole)))
        place = np.searchsorted(turns, t, side="right") - 1
        return np.asarray(sums[place] + self._areas(leaf[place], t) - before[place])

    def _extremes(self, start_s: float, end_s: float) -> list[float]:
        if end_s - start_s >= self.repeats_s:
            whole = [(leaf, start_s, end_s) for leaf in self.leaves]
        else:
            turns = self._turns(start_s, end_s)
            ends = [*turns[1:], end_s]
            leaves = self._leaf(turns)
            pairs = zip(leaves, turns, ends, strict=True)
            whole = [(self.leaves[n], float(low), float(high)) for n, low, high in pairs]
        return [
            value
            for leaf, low, high in whole
            for value in (leaf.max_over(low, high), leaf.min_over(low, high))
        ]

    def _leaf(self, t: Floats) -> Numbers:
        """Return which leaf holds at times."""
        days = np.floor((self._since_1970_s + t) / DAY_S).astype(np.int64)
        if self.by == "week":
            return np.asarray((days + _MONDAY) % 7)
        return np.asarray(days.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12)

    @property
    def _since_1970_s(self) -> float:
        """Return the local time of time 0, as seconds since 1970 began there."""
        return (self.start.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds()

    def _turns(self, start_s: float, end_s: float) -> Floats:
        """Return `start_s` and the times before `end_s` at which another leaf begins to hold."""
        begins = self._since_1970_s
        days = np.arange(np.floor((begins + start_s) / DAY_S) + 1.0, (begins + end_s) / DAY_S)
        midnights = days * DAY_S - begins
        if not len(midnights):
            return np.array([start_s])
        turned = self._leaf(midnights) != self._leaf(midnights - DAY_S)
        return np.concatenate(([start_s], midnights[turned]))

    def _areas(self, leaf: Numbers, t: Floats) -> Floats:
        return self._of(leaf, t, lambda signal, times: signal.integral(times))

    def _of(self, leaf: Numbers, t: Floats, ask: Callable[[Signal, Floats], Floats]) -> Floats:
        """Return what each time's own leaf says of it."""
        found = np.empty(t.shape)
        for number in np.unique(leaf):
            mine = leaf == number
            found[mine] = ask(self.leaves[number], t[mine])
        return found


def repeats_s(*signals: Signal | None) -> Iterator[float]:
    """Yield after how long each calendar among some signals has shown all that it has."""
    yield from (each.repeats_s for each in signals if isinstance(each, Calendar))
