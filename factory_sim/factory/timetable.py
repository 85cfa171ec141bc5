"""The timetable: events set for a time of the clock, with a rank among those of that instant.

When a train leaves and a passenger arrives at the same minute, the timetable must say which
comes first. Here: completions, then control, then arrivals, then the next plan.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush

from simpy import Environment, Event

COMPLETION, CONTROL, ARRIVAL, PLAN = range(4)
"""Ranks, the first to come first. CONTROL is that of SimPy's own events (NORMAL)."""


class Moment(Event):
    """An event that a timetable has set: it happens, with no value, at its time.

    Only `Timetable.at` makes one; several times a request, so without a constructor.
    """

    _ok = True
    _value = None
    _defused = False


_new = Moment.__new__


class Timetable(Environment):
    """A SimPy environment in which things can be set for a time, not only after a delay.

    A time thus stays the very float that somebody computed.
    """

    def at(self, time: float, rank: int, callback: Callable[[Event], None] | None = None) -> Moment:
        """Return a new event at `time` (now, if that has passed); `callback` is told of it."""
        moment = _new(Moment)
        moment.env = self
        moment.callbacks = [] if callback is None else [callback]
        now = self._now
        heappush(self._queue, (time if time > now else now, rank, next(self._eid), moment))  # type: ignore[misc]
        return moment

    def quiet_until(self, time: float) -> bool:
        """Tell whether nothing is set for `time` or earlier."""
        queue = self._queue
        return not queue or queue[0][0] > time
