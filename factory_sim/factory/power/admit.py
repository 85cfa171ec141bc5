"""Admit less: smaller batches draw less, so the sequences a replica may run are cut back."""

from __future__ import annotations

from collections.abc import Sequence

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.meter import Reading
from factory_sim.factory.power.protocol import Shares
from factory_sim.factory.replica import Replica
from factory_sim.factory.training.holding import Holding
from factory_sim.factory.training.job import Job
from factory_sim.scenario.site import Power


class Admit:
    """A share is the part of its sequences that a replica may run at once, the same for all.

    Over the limit it goes a step below what runs now; well under it, a step up a period.
    Running sequences are never thrown out, so it acts as they finish.
    """

    def __init__(self, power: Power, fleets: list[Fleet], holdings: Sequence[Holding] = ()) -> None:
        self._margin, self._step = power.margin, power.step
        # Where there are only training jobs there is nobody to admit.
        self._least = 1.0 / min((fleet.slots for fleet in fleets), default=1)

    def decide(self, shares: Shares, reading: Reading) -> Shares:
        """Return the share of each batch that may be filled."""
        target_w = reading.limit_w * (1.0 - self._margin)
        share = shares[0]
        if reading.watts > target_w * (1 + 1e-9):
            share = max(self._least, min(share, reading.batch_share) * (1.0 - self._step))
        elif reading.watts <= target_w * (1.0 - self._step):
            share = min(1.0, share * (1.0 + self._step))
        return (share,) * len(shares)

    def order(self, replica: Replica, fleet: Fleet, share: float, beyond: bool) -> None:
        """Bound the running sequences of a replica."""
        replica.set_max_running(max(1, round(share * fleet.slots)))

    def slow(self, job: Job, share: float) -> None:
        """A job admits nobody: it goes on, and inference makes room."""
