"""Only watch: power is recorded, nobody acts on it."""

from __future__ import annotations

from factory_sim.factory.meter import Line, Reading
from factory_sim.scenario.site import Power


class Watch:
    """Leaves the level at 1; overshoot shows in the results."""

    def __init__(self, power: Power) -> None:
        pass

    def decide(self, level: float, reading: Reading, lines: list[Line]) -> float:
        """Return the level unchanged."""
        return level

    def order(self, level: float, lines: list[Line]) -> None:
        """There is nothing to order."""
