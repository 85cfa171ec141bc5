"""Lower the clocks of decode steps first, and those of steps with prompts only after them.

Decode waits for memory and barely slows with the clock; prompts are arithmetic and do. Boards are
taken to change their clock between two steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.power.ladder import Ladder, Rung
from factory_sim.factory.training.holding import Holding
from factory_sim.scenario.site import Power


class DecodeFirst(Ladder):
    """The upper half of the ladder lowers the clock of decode steps from the reference to the
    lowest useful one, the lower half that of steps with prompts."""

    def __init__(self, power: Power, fleets: list[Fleet], holdings: Sequence[Holding] = ()) -> None:
        super().__init__(power, [*fleets, *holdings], _ladder)


def _ladder(step: float, steps: int) -> list[Rung]:
    decode = [Rung(1.0 - down * step, 1.0) for down in range(steps + 1)]
    prompts = [Rung(1.0 - steps * step, 1.0 - down * step) for down in range(1, steps + 1)]
    return decode + prompts
