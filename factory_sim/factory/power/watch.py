"""Only watch: power is recorded, nobody acts on it."""

from __future__ import annotations

from collections.abc import Sequence

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.meter import Reading
from factory_sim.factory.power.protocol import Shares
from factory_sim.factory.replica import Replica
from factory_sim.factory.training.holding import Holding
from factory_sim.factory.training.job import Job
from factory_sim.scenario.site import Power


class Watch:
    """Allows everything; overshoot shows in the results."""

    def __init__(self, power: Power, fleets: list[Fleet], holdings: Sequence[Holding] = ()) -> None:
        pass

    def decide(self, shares: Shares, reading: Reading) -> Shares:
        """Return the shares unchanged."""
        return shares

    def order(self, replica: Replica, fleet: Fleet, share: float, beyond: bool) -> None:
        """There is nothing to order."""

    def slow(self, job: Job, share: float) -> None:
        """There is nothing to order."""
