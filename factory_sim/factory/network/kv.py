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
        """Send `size` bytes, call `done` on arrival, return the number of the transfer."""

    def part(self, size: float, sender: int, receiver: int, sent: Done) -> int:
        """Send `size` bytes that more will follow; call `sent` when the last of them has left."""

    def drop(self, number: int) -> None:
        """Give a transfer up; it may still be `done` if its last byte was sent."""


class KvOverLink:
    """Over a link, which others may share; a replica sends `per_replica` bytes a second at most."""

    def __init__(self, link: Link, deployment: str, per_replica: float) -> None:
        self._link, self._deployment, self._most = link, deployment, per_replica

    def send(self, size: float, sender: int, receiver: int, done: Done) -> int:
        """Send a KV cache."""
        return self._link.send(size, (self._deployment, sender), self._most, done)

    def part(self, size: float, sender: int, receiver: int, sent: Done) -> int:
        """Send a part of a KV cache."""
        return self._link.part(size, (self._deployment, sender), self._most, sent)

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
        return self._fabric.send(size, self._way(sender, receiver), done)

    def part(self, size: float, sender: int, receiver: int, sent: Done) -> int:
        """Send a part of a KV cache."""
        return self._fabric.part(size, self._way(sender, receiver), sent)

    def _way(self, sender: int, receiver: int) -> Way:
        pair = (sender, receiver)
        way = self._ways.get(pair)
        if way is None:
            way = self._fabric.wiring.between(self._senders[sender], self._receivers[receiver])
            self._ways[pair] = way
        return way

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._fabric.drop(number)


class KvStream:
    """One KV cache on its way, in parts as they are made: whatever is ready goes at once.

    One transfer at a time is on the road, so that it has one share of it however many parts there
    are. landed: called when the last part arrives.
    """

    __slots__ = ("_ends", "_landed", "_number", "_ready", "_receiver", "_road", "_sender")

    def __init__(self, road: KvRoad, sender: int, receiver: int, landed: Done) -> None:
        self._road, self._sender, self._receiver, self._landed = road, sender, receiver, landed
        self._number: int | None = None  # of the transfer on the road
        self._ready = 0.0  # bytes that wait for it
        self._ends = False

    def feed(self, size: float, last: bool = False) -> None:
        """Let `size` bytes more be ready, which are the last."""
        self._ready += size
        self._ends = last
        if self._number is None:
            self._go_on()

    def drop(self) -> None:
        """Give it up; it may still land if its last byte was sent."""
        if self._number is not None:
            self._road.drop(self._number)

    def _go_on(self) -> None:
        """Send what is ready."""
        size, self._ready = self._ready, 0.0
        self._number = None
        ends = (size, self._sender, self._receiver)
        if self._ends:
            self._number = self._road.send(*ends, self._landed)
        elif size:
            self._number = self._road.part(*ends, self._go_on)
