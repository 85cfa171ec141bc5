"""Least outstanding: the deployment with the fewest unfinished requests for its weight."""

from __future__ import annotations

from factory_sim.factory.dispatch.protocol import Ask, Once, Surroundings
from factory_sim.scenario.dispatch import LeastOutstanding as Spec


class LeastOutstanding(Once):
    """Asks where one more request would make the fewest for the weight; the first among equals.

    As nginx' `least_conn` does with its weights. Who is not open comes last.
    """

    def __init__(self, spec: Spec, around: Surroundings) -> None:
        self._offers = around.offers
        self._weights = [(spec.weights or {}).get(name, 1.0) for name in around.names]

    def first(self, ask: Ask) -> int:
        """Return the place of the least loaded."""
        offers, weights = self._offers, self._weights
        return min(
            range(len(offers)),
            key=lambda at: (not offers[at].open, (offers[at].outstanding + 1) / weights[at]),
        )
