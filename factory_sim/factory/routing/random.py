"""Random: any replica, with equal chances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Random:
    """Spreads Poisson arrivals into independent Poisson streams."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, outstanding: list[int], replicas: Sequence[object], request: object) -> int:
        """Return a replica drawn uniformly."""
        return int(self._rng.integers(len(outstanding)))
