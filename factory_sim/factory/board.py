"""A board that keeps its own power limit: its firmware lowers the clock until the draw fits."""

from __future__ import annotations

from typing import Protocol

from factory_sim.factory.timetable import CONTROL, Timetable
from factory_sim.physics.power import PowerModel

PERIOD_S = 0.1
"""How often the firmware looks back and sets the clock: an estimate."""

STEP = 0.01
"""A step of its clock, as a share of the reference: about 15 MHz, as NVIDIA boards have them."""


class Driven(Protocol):
    """What the boards of a replica need of it."""

    clock: float

    @property
    def resting(self) -> bool:
        """Tell whether there is nothing to do."""

    def drawn(self) -> tuple[float, float, float]:
        """Return busy seconds and joules (of each GPU), and output tokens, until now."""

    def hold_clock(self, by: str, clock: float) -> None:
        """Run at `clock` at most."""


class Board:
    """The boards of one replica, held at `limit_w` by their clock, never below `floor`.

    What a board draws above idle is taken to follow the clock as `power` says: the clock of the
    next period is the highest at which the draw of the last would have fitted. It looks only
    while there is work.
    """

    def __init__(self, env: Timetable, limit_w: float, power: PowerModel, floor: float) -> None:
        self._env, self._limit_w, self._power = env, limit_w, power
        self._last = int((1.0 - floor) / STEP + 1e-9)
        self._steps, self._looking = 0, False
        self._busy_s = self._energy_j = 0.0

    def work_begins(self, replica: Driven) -> None:
        """Start to look, once a period."""
        if not self._looking:
            self._looking = True
            self._wait(replica)

    def _wait(self, replica: Driven) -> None:
        self._env.call(self._env.now + PERIOD_S, CONTROL, lambda _: self._look(replica))

    def _look(self, replica: Driven) -> None:
        before_s, before_j = self._busy_s, self._energy_j
        self._busy_s, self._energy_j, _ = replica.drawn()
        if self._busy_s > before_s:
            drawn_w = (self._energy_j - before_j) / (self._busy_s - before_s)
            self._steps = self._needed(drawn_w, replica.clock)
            replica.hold_clock("board", 1.0 - self._steps * STEP)
        self._looking = not replica.resting
        if self._looking:
            self._wait(replica)

    def _needed(self, drawn_w: float, clock: float) -> int:
        """Return the steps down from the reference clock at which the draw would fit."""
        power = self._power
        dynamic_w = (drawn_w - power.idle_w) / power.clock_factor(clock)
        room_w = self._limit_w - power.idle_w
        for steps in range(self._last):
            if dynamic_w * power.clock_factor(1.0 - steps * STEP) <= room_w:
                return steps
        return self._last
