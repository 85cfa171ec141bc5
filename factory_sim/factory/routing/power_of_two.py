"""Power of two choices: the better of two replicas drawn at random (Mitzenmacher, 2001)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class PowerOfTwo:
    """Almost as even as the shortest queue, from two load figures instead of all."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, outstanding: list[int], replicas: Sequence[object], request: object) -> int:
        """Return the one of two distinct random replicas that has fewer requests."""
        if len(outstanding) == 1:
            return 0
        first = int(self._rng.integers(len(outstanding)))
        second = int(self._rng.integers(len(outstanding) - 1))
        second += second >= first
        return first if outstanding[first] <= outstanding[second] else second
