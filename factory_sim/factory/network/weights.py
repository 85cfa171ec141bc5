"""How weights come to a replica: from storage, over a fabric or not, or over a named link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Protocol

from factory_sim.factory.network.fabric import Fabric
from factory_sim.factory.network.flows import Done, Flows, Port, Way
from factory_sim.factory.network.link import Link
from factory_sim.factory.site import Gpu
from factory_sim.factory.timetable import Timetable

Server = tuple[int, int]
"""A server of a site, by its bay and its number among all."""


class Road(Protocol):
    """Where weights come along. Whoever loads shares it with all others who do."""

    def send(self, size: float, replica: object, done: Done) -> int:
        """Send `size` bytes to a replica, call `done`, return the number."""

    def drop(self, number: int) -> None:
        """Give a transfer up; it may still be `done` if its last byte was sent."""

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""


class Store:
    """The site's storage, and what each server takes from it.

    bandwidth: of all who load together (infinity: unbounded); per_server: of all replicas of one
    server together.
    """

    def __init__(self, env: Timetable, bandwidth: float, per_server: float) -> None:
        self._flows, self._port, self._per_server = Flows(env), Port(bandwidth), per_server
        self._servers: dict[Server, Port] = {}
        self._roads: dict[Way, FromStorage] = {}

    def road_to(self, servers: Sequence[Server]) -> FromStorage:
        """Return the road to a replica; servers: of each of its GPUs, which get equal parts."""
        way = [(self._port, 1.0)]
        for server, gpus in Counter(servers).items():
            port = self._servers.setdefault(server, Port(self._per_server))
            way.append((port, gpus / len(servers)))
        return self._roads.setdefault(tuple(way), FromStorage(self._flows, tuple(way)))


class FromStorage:
    """From the site's storage to replicas on the same servers. way: its port, and theirs."""

    def __init__(self, flows: Flows, way: Way) -> None:
        self._flows, self._way = flows, way

    def send(self, size: float, replica: object, done: Done) -> int:
        """Send weights."""
        return self._flows.send(size, self._way, done)

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._flows.drop(number)

    def set_open(self, flowing: bool) -> None:
        """Let what comes from storage go on, or stand still."""
        self._flows.set_open(self._way[0][0], flowing)


class OverLink:
    """Over a link; a replica takes `per_replica` bytes a second at the most (None: all of it)."""

    def __init__(self, link: Link, per_replica: float | None) -> None:
        self._link, self._most = link, inf if per_replica is None else per_replica

    def send(self, size: float, replica: object, done: Done) -> int:
        """Send weights."""
        return self._link.send(size, replica, self._most, done)

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._link.drop(number)

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""
        self._link.set_open(flowing)


class OverFabric:
    """From the storage of a fabric to the GPUs of one replica."""

    def __init__(self, fabric: Fabric, gpus: Sequence[Gpu]) -> None:
        self._fabric, self._way = fabric, fabric.wiring.from_storage(gpus)

    def send(self, size: float, replica: object, done: Done) -> int:
        """Send weights."""
        return self._fabric.send(size, self._way, done)

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._fabric.drop(number)

    def set_open(self, flowing: bool) -> None:
        """Let transfers from storage go on, or stand still; KV caches go on."""
        self._fabric.set_storage_open(flowing)
