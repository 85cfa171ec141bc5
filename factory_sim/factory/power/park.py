"""Park replicas: fewer of them, with fuller batches, make the same tokens from fewer watts."""

from __future__ import annotations

from collections.abc import Sequence

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.meter import Reading
from factory_sim.factory.power.protocol import Shares
from factory_sim.factory.replica import Replica
from factory_sim.factory.training.holding import Holding
from factory_sim.factory.training.job import Job
from factory_sim.scenario.site import Power


class Park:
    """A share is the part of a deployment's replicas that new requests may go to.

    Over the limit a step fewer; well under it, a step more a period. A parked replica finishes
    what it has and then rests, its weights still loaded; deployments of the lowest power_priority
    are parked first. One replica of each is never parked.
    """

    def __init__(self, power: Power, fleets: list[Fleet], holdings: Sequence[Holding] = ()) -> None:
        self._margin, self._step = power.margin, power.step
        self._order = sorted(range(len(fleets)), key=lambda i: fleets[i].spec.power_priority)
        self._least = [1.0 / len(fleet.replicas) for fleet in fleets]

    def decide(self, shares: Shares, reading: Reading) -> Shares:
        """Return the share of each deployment's replicas that stays open."""
        target_w = reading.limit_w * (1.0 - self._margin)
        found = list(shares)
        if reading.watts > target_w * (1 + 1e-9):
            for index in self._order:
                if found[index] > self._least[index]:
                    found[index] = max(self._least[index], found[index] - self._step)
                    break
        elif reading.watts <= target_w * (1.0 - self._step):
            for index in reversed(self._order):
                if found[index] < 1.0:
                    found[index] = min(1.0, found[index] + self._step)
                    break
        return tuple(found)

    def order(self, replica: Replica, fleet: Fleet, share: float, beyond: bool) -> None:
        """Open a replica to new requests, or close it: the last ones are closed first."""
        replica.set_open("parked", not beyond)

    def slow(self, job: Job, share: float) -> None:
        """A job is never parked: it goes on, and inference makes room."""
