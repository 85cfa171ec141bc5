"""Weighted: deployments share requests by weights, drawn for each."""

from __future__ import annotations

import numpy as np

from factory_sim.factory.dispatch.protocol import Ask, Once, Surroundings
from factory_sim.scenario.dispatch import Weighted as Spec


class Weighted(Once):
    """Draws a deployment for each request, by its number."""

    def __init__(self, spec: Spec, around: Surroundings) -> None:
        weights = [spec.weights[name] for name in around.names]
        self._upper = np.cumsum(weights)[:-1] / sum(weights)
        self._seed = around.seed

    def first(self, ask: Ask) -> int:
        """Return the place of the one drawn."""
        drawn = np.random.default_rng((self._seed, ask.number)).random()
        return int(np.searchsorted(self._upper, drawn, side="right"))
