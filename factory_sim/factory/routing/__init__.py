"""Routers: which replica takes the next request. One file each, one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from factory_sim.factory.engine.request import Request
from factory_sim.factory.routing.cache_aware import CacheAware
from factory_sim.factory.routing.least_outstanding import LeastOutstanding
from factory_sim.factory.routing.power_aware import PowerAware
from factory_sim.factory.routing.power_of_two import PowerOfTwo
from factory_sim.factory.routing.random import Random
from factory_sim.factory.routing.round_robin import RoundRobin
from factory_sim.factory.routing.sticky import Sticky


class Candidate(Protocol):
    """What a router may know of a replica.

    number: its place in the deployment. clock: what it runs at, a share of the reference.
    """

    number: int
    clock: float

    def found(self, request: Request) -> int:
        """Return the tokens of a request's prompt that its prefix cache holds now."""


class Router(Protocol):
    """Picks a replica by the requests outstanding at each, how fast it runs and what it holds."""

    def choose(
        self, outstanding: list[int], replicas: Sequence[Candidate], request: Request
    ) -> int:
        """Return the index of the replica that takes the request."""


ROUTING: dict[str, Callable[[np.random.Generator], Router]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-outstanding": LeastOutstanding,
    "power-of-two": PowerOfTwo,
    "power-aware": PowerAware,
    "cache-aware": CacheAware,
    "sticky": Sticky,
}
