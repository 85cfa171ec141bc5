"""Moments: events that know their rank among those of the same instant.

When a train leaves and a passenger arrives at the same minute, the timetable must say which
comes first. Here: completions, then control, then arrivals, then the next plan.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from simpy import Environment, Event


class Rank(IntEnum):
    """The order of events at equal times; CONTROL is that of ordinary SimPy events."""

    COMPLETION = 0
    CONTROL = 1
    ARRIVAL = 2
    PLAN = 3


class Moment(Event):
    """An event `delay` seconds from now (at once, if that is negative), with a rank."""

    def __init__(
        self,
        env: Environment,
        delay: float,
        rank: Rank,
        callback: Callable[[Event], None] | None = None,
    ) -> None:
        self.env = env
        self.callbacks: list[Any] = [] if callback is None else [callback]
        self._value = None
        self._ok = True
        self._defused = False
        env.schedule(self, rank, delay if delay > 0.0 else 0.0)  # type: ignore[arg-type]
