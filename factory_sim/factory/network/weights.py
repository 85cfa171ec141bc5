"""How weights come to a replica: from storage, over a fabric or not, or over a named link."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Protocol

from factory_sim.factory.network.fabric import Fabric
from factory_sim.factory.network.flows import Done
from factory_sim.factory.network.link import Link
from factory_sim.factory.network.pipe import Pipe
from factory_sim.factory.site import Gpu


class Road(Protocol):
    """Where weights come along. Whoever loads shares it with all others who do."""

    def send(self, size: float, servers: int, replica: object, done: Done) -> int:
        """Send `size` bytes to a replica on so many servers, call `done`, return the number."""

    def drop(self, number: int) -> None:
        """Give a transfer up; it may still be `done` if its last byte was sent."""

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""


class FromStorage:
    """From the site's storage, `pipe`; a server takes `per_server` bytes a second at the most."""

    def __init__(self, pipe: Pipe, per_server: float) -> None:
        self._pipe, self._per_server = pipe, per_server

    def send(self, size: float, servers: int, replica: object, done: Done) -> int:
        """Send weights."""
        return self._pipe.send(size, self._per_server * servers, done)

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._pipe.drop(number)

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""
        self._pipe.set_open(flowing)


class OverLink:
    """Over a link; a replica takes `per_replica` bytes a second at the most (None: all of it)."""

    def __init__(self, link: Link, per_replica: float | None) -> None:
        self._link, self._most = link, inf if per_replica is None else per_replica

    def send(self, size: float, servers: int, replica: object, done: Done) -> int:
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

    def send(self, size: float, servers: int, replica: object, done: Done) -> int:
        """Send weights."""
        return self._fabric.send(size, self._way, done)

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._fabric.drop(number)

    def set_open(self, flowing: bool) -> None:
        """Let transfers from storage go on, or stand still; KV caches go on."""
        self._fabric.set_storage_open(flowing)
