"""What a power policy is: it turns a reading into a level, and a level into orders."""

from __future__ import annotations

from typing import Protocol

from factory_sim.factory.meter import Line, Reading


class Policy(Protocol):
    """Keeps the site under its limit by one level between 0 and 1 (1: nothing held back)."""

    def decide(self, level: float, reading: Reading, lines: list[Line]) -> float:
        """Return the level wanted after a period that showed `reading` at `level`."""

    def order(self, level: float, lines: list[Line]) -> None:
        """Tell the replicas what the level means for them."""
