"""Cascade: a small model first, and a larger one for the answers that do not do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from factory_sim.factory.dispatch.protocol import Ask, Once, Surroundings
from factory_sim.scenario.dispatch import Cascade as Spec


class Cascade(Once):
    """Asks stage after stage, as FrugalGPT does (Chen, Zaharia and Zou, 2023, arXiv 2305.05176).

    Whether an answer does is drawn for its request and stage, whatever happens to others.
    """

    def __init__(self, spec: Spec, around: Surroundings) -> None:
        self._chances, self._seed = spec.probabilities, around.seed

    def first(self, ask: Ask) -> int:
        """Return the first stage."""
        return 0

    def then(self, ask: Ask, asked: Sequence[int], outcome: str) -> int | None:
        """Go on from a whole answer that does not do."""
        at = asked[-1]
        if outcome != "completed" or at == len(self._chances):
            return None
        drawn = np.random.default_rng((self._seed, ask.number, at)).random()
        return at + 1 if drawn < self._chances[at] else None
