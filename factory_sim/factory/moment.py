"""Moments: events that know their rank among those of the same instant.

When a train leaves and a passenger arrives at the same minute, the timetable must say which
comes first. Here: completions, then control, then arrivals, then the next plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simpy import Environment, Event

COMPLETION, CONTROL, ARRIVAL, PLAN = range(4)
"""Ranks, the first to come first. CONTROL is that of SimPy's own events (NORMAL)."""


class Moment(Event):
    """An event `delay` seconds from now (at once, if that is negative), with a rank."""

    # What SimPy asks of an event that has happened, said once for all of them.
    _ok = True
    _value = None
    _defused = False

    def __init__(
        self,
        env: Environment,
        delay: float,
        rank: int,
        callback: Callable[[Event], None] | None = None,
    ) -> None:
        self.env = env
        self.callbacks: list[Any] = [] if callback is None else [callback]
        env.schedule(self, rank, delay if delay > 0.0 else 0.0)  # type: ignore[arg-type]
