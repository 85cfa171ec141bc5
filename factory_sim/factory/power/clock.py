"""Lower the clocks: the highest at which a level is expected to stay under its limit."""

from __future__ import annotations

from collections.abc import Sequence

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.power.ladder import Ladder, Rung
from factory_sim.factory.training.holding import Holding
from factory_sim.scenario.site import Power


class Clock(Ladder):
    """One clock for all steps, down to the lowest useful one."""

    def __init__(self, power: Power, fleets: list[Fleet], holdings: Sequence[Holding] = ()) -> None:
        super().__init__(power, [*fleets, *holdings], _ladder)


def _ladder(step: float, steps: int) -> list[Rung]:
    return [Rung(1.0 - down * step, 1.0 - down * step) for down in range(steps + 1)]
