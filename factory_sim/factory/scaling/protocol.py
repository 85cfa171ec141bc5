"""What an autoscaling policy is: of a look at a deployment it makes how many replicas it wants."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Look(NamedTuple):
    """What a policy sees. replicas: how many are wanted so far, those that still start included.

    outstanding: requests that these have, and those that wait for one to open. kv_use: shares of
    their KV caches in use, summed over them.
    """

    now_s: float
    replicas: int
    outstanding: int
    kv_use: float


class Policy(Protocol):
    """Says how many replicas should be up. The scaler sees to it that there are no more than are
    placed. wakes: whether it wants one for a request that finds none."""

    wakes: bool

    def first(self) -> int:
        """Return how many are up at the start."""

    def decide(self, look: Look) -> int:
        """Return how many should be up from now on."""
