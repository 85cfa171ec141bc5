"""Power-aware: the shortest queue, counted in the time that its replica's clock makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class _Paced(Protocol):
    clock: float


class PowerAware:
    """Sends less to replicas whose clocks are held down, by a cap or by heat."""

    def __init__(self, rng: np.random.Generator) -> None:
        pass

    def choose(self, outstanding: list[int], replicas: Sequence[_Paced], request: object) -> int:
        """Return the replica with the fewest requests for its clock, this one counted."""
        times = [
            (load + 1) / replica.clock for load, replica in zip(outstanding, replicas, strict=True)
        ]
        return times.index(min(times))
