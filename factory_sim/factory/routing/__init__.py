"""Routers: which replica takes the next request. One file each, one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from factory_sim.factory.routing.least_outstanding import LeastOutstanding
from factory_sim.factory.routing.power_aware import PowerAware
from factory_sim.factory.routing.power_of_two import PowerOfTwo
from factory_sim.factory.routing.random import Random
from factory_sim.factory.routing.round_robin import RoundRobin


class Paced(Protocol):
    """What a router may know of a replica: the clock it runs at, a share of the reference."""

    clock: float


class Router(Protocol):
    """Picks a replica by the requests outstanding at each, and how fast each may run."""

    def choose(self, outstanding: list[int], replicas: Sequence[Paced]) -> int:
        """Return the index of the replica that takes the next request."""


ROUTING: dict[str, Callable[[np.random.Generator], Router]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-outstanding": LeastOutstanding,
    "power-of-two": PowerOfTwo,
    "power-aware": PowerAware,
}
