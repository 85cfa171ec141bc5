"""How KV caches cross from replicas that compute prompts to those that decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from factory_sim.factory.network.fabric import Fabric
from factory_sim.factory.network.flows import Done, Way
from factory_sim.factory.network.link import Link
from factory_sim.factory.site import Gpu

Places = Sequence[Sequence[Gpu]]
"""The GPUs of each replica of a pool."""


class KvRoad(Protocol):
    """What carries KV caches between the pools of one deployment; replicas go by their numbers."""

    def send(self, size: float, sender: int, receiver: int, done: Done) -> int:
        """Send `size` bytes, call `done`, return the number of the transfer."""

    def drop(self, number: int) -> None:
        """Give a transfer up; it may still be `done` if its last byte was sent."""


class KvOverLink:
    """Over a link, which others may share; a replica sends `per_replica` bytes a second at most."""

    def __init__(self, link: Link, deployment: str, per_replica: float) -> None:
        self._link, self._deployment, self._most = link, deployment, per_replica

    def send(self, size: float, sender: int, receiver: int, done: Done) -> int:
        """Send a KV cache."""
        return self._link.send(size, (self._deployment, sender), self._most, done)

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._link.drop(number)


class KvOverFabric:
    """Over the fabric, by the ways between the GPUs of either pool's replicas."""

    def __init__(self, fabric: Fabric, senders: Places, receivers: Places) -> None:
        self._fabric, self._senders, self._receivers = fabric, senders, receivers
        self._ways: dict[tuple[int, int], Way] = {}

    def send(self, size: float, sender: int, receiver: int, done: Done) -> int:
        """Send a KV cache."""
        pair = (sender, receiver)
        way = self._ways.get(pair)
        if way is None:
            way = self._fabric.wiring.between(self._senders[sender], self._receivers[receiver])
            self._ways[pair] = way
        return self._fabric.send(size, way, done)

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._fabric.drop(number)
