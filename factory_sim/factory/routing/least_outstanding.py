"""Least outstanding: the replica with the fewest unfinished requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class LeastOutstanding:
    """Joins the shortest queue, the first one among equals; needs no random numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        pass

    def choose(self, outstanding: list[int], replicas: Sequence[object], request: object) -> int:
        """Return the replica with the fewest requests."""
        return outstanding.index(min(outstanding))
