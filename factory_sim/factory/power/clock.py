"""Lower the clocks: the highest step at which the site is expected to stay under its limit."""

from __future__ import annotations

from factory_sim.factory.meter import Line, Reading
from factory_sim.scenario.site import Power


class Clock:
    """The level is the clock of every GPU, as a share of the reference clock.

    What the site draws above rest is taken to follow the clock as the GPUs' dynamic power
    does. Down as many steps as needed at once, up one step a period.
    """

    def __init__(self, power: Power) -> None:
        self._margin, self._step = power.margin, power.step

    def decide(self, level: float, reading: Reading, lines: list[Line]) -> float:
        """Return the clock to run at."""
        target_w = reading.limit_w * (1.0 - self._margin)
        under = reading.watts.grid <= target_w
        if under and level == 1.0:
            return level
        curve = lines[0].fleet.power
        floor = max(line.fleet.power_curve.clock_floor.value for line in lines)
        dynamic_w = (reading.watts.grid - reading.idle_grid_w) / curve.clock_factor(level)

        def fits(clock: float) -> bool:
            return reading.idle_grid_w + dynamic_w * curve.clock_factor(clock) <= target_w

        step = round((1.0 - level) / self._step)
        last = int((1.0 - floor) / self._step + 1e-9)
        if under:
            higher = 1.0 - (step - 1) * self._step
            return higher if fits(higher) else level
        while step < last and not fits(1.0 - step * self._step):
            step += 1
        return 1.0 - step * self._step

    def order(self, level: float, lines: list[Line]) -> None:
        """Set the clock of every replica."""
        for line in lines:
            for replica in line.replicas:
                replica.set_clock(level)
