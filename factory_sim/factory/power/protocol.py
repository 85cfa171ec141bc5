"""What a power policy is: it turns a reading of a level into orders for what stands behind it."""

from __future__ import annotations

from typing import Protocol

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.meter import Reading
from factory_sim.factory.replica import Replica
from factory_sim.factory.training.job import Job

Shares = tuple[float, ...]
"""Of each deployment, and after them of each training job, how much of its full pace it is allowed,
between 0 and 1 (1: all)."""


class Policy(Protocol):
    """Keeps a level of the site under its limit by allowing deployments less than everything."""

    def decide(self, shares: Shares, reading: Reading) -> Shares:
        """Return what to allow after a period that showed `reading` under `shares`."""

    def order(self, replica: Replica, fleet: Fleet, share: float, beyond: bool) -> None:
        """Tell a replica what its share means for it.

        beyond: it is none of the first `share` of its deployment's replicas behind a level.
        """

    def slow(self, job: Job, share: float) -> None:
        """Tell a training job what its share means for it."""
