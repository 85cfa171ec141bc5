"""The timetable: what is set for a time of the clock, with a rank among those of that instant.

When a train leaves and a passenger arrives at the same minute, the timetable must say which
comes first. Here: completions, then control, then arrivals, then the next plan.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

from simpy import Environment, Event
from simpy.core import StopSimulation

COMPLETION, CONTROL, ARRIVAL, PLAN = range(4)
"""Ranks, the first to come first. COMPLETION is SimPy's URGENT, CONTROL its NORMAL."""

Call = Callable[[int], None]


class Timetable(Environment):
    """A SimPy environment in which things can be set for a time, not only after a delay.

    A time thus stays the very float that somebody computed. Processes wait for events (`at`);
    what is only to be done at a time is a call, which saves making an event and waking a
    process. Both stand in one queue and come in one order.
    """

    now = property(attrgetter("_now"), doc="The time of the clock; it is asked for all the time.")

    def at(self, time: float, rank: int) -> Event:
        """Return a new event that happens, with no value, at `time` (now, if that has passed)."""
        event = Event(self)
        event._ok, event._value = True, None
        now = self._now
        heappush(self._queue, (time if time > now else now, rank, next(self._eid), event))  # type: ignore[misc]
        return event

    def call(self, time: float, rank: int, call: Call) -> int:
        """Have `call` made at `time` (now, if that has passed), and return its number.

        The call is told its number: who sets another in its place knows it by that, and lets
        the old one pass.
        """
        number = next(self._eid)
        now = self._now
        heappush(self._queue, (time if time > now else now, rank, number, call))  # type: ignore[misc]
        return number

    def quiet_until(self, time: float) -> bool:
        """Tell whether nothing is set for `time` or earlier."""
        queue = self._queue
        return not queue or queue[0][0] > time

    def step(self) -> None:
        """Make the next call or process the next event; simpy's EmptySchedule if none is left."""
        queue: list[Any] = self._queue
        if not queue or isinstance(queue[0][3], Event):
            super().step()
            return
        self._now, _, number, call = heappop(queue)
        call(number)

    def run(self, until: float | Event | None = None) -> Any:
        """Run as every SimPy environment does: until a time, an event, or the end of the queue."""
        if until is None or isinstance(until, Event):
            return super().run(until)
        if until <= self._now:
            raise ValueError(f"until ({until}) must be greater than the current simulation time")
        queue: list[Any] = self._queue
        self.call(until, COMPLETION, _stop)
        try:
            while True:
                if isinstance(queue[0][3], Event):
                    super().step()
                else:
                    self._now, _, number, call = heappop(queue)
                    call(number)
        except StopSimulation:
            return None


def _stop(number: int) -> None:
    raise StopSimulation
