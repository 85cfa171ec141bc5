"""Round robin: every replica in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class RoundRobin:
    """Replica 0, 1, 2, ... and again; needs no random numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._next = 0

    def choose(self, outstanding: list[int], replicas: Sequence[object], request: object) -> int:
        """Return the replica after the last one."""
        chosen = self._next % len(outstanding)
        self._next = chosen + 1
        return chosen
