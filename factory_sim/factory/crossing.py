"""Gateways to whose replicas requests come with something that must cross a link or the fabric.

Like a loading bay: a lorry is sent to a gate when it sets out, and counts there from then on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from factory_sim.factory.engine.request import NEVER, Request
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.network.kv import KvRoad, KvStream
from factory_sim.factory.replica import Replica
from factory_sim.factory.timetable import CONTROL


def linked(replica: Replica) -> LinkedReplica:
    """Return a replica of a pool as what it is."""
    assert isinstance(replica, LinkedReplica)
    return replica


class Transfer:
    """A request on its way to replica `to`, and what it brings.

    fed: bytes of that which have been ready to send.
    """

    __slots__ = ("fed", "request", "stream", "to")

    stream: KvStream

    def __init__(self, request: Request, to: int) -> None:
        self.request, self.to, self.fed = request, to, 0.0

    def feed(self, size: float, last: bool = False) -> None:
        """Let so many bytes more be sent, which are the last."""
        self.fed += size
        self.stream.feed(size, last)


class CrossingGateway(Gateway, ABC):
    """Picks a replica when a transfer to it begins, by the requests there or on their way.

    transit: what is on its way over `road`.
    """

    def __init__(self, *gateway: Any, road: KvRoad) -> None:
        super().__init__(*gateway)
        self._road = road
        self.transit: dict[Request, Transfer] = {}

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop a replica; return what it has lost, requests on their way to it included."""
        lost = super().fail(replica, dark)
        for transfer in list(self.transit.values()):
            if transfer.to == replica.number:
                self._drop(transfer.request)
                self._lose(transfer.request)
                lost.append(transfer.request)
        return sorted(lost, key=lambda request: request.number)

    def withdraw(self, request: Request) -> None:
        """Give up a request that was on its way, or waited to be: what it brought is lost."""
        self.stranded.pop(request, None)
        if request in self.transit:
            number = self._drop(request).to
            self.outstanding[number] -= 1
            self._relieved(number)

    def close(self) -> None:
        """Note the requests that are still here or on their way as unfinished."""
        super().close()
        for request in self.transit:
            self._note(request, NEVER, "unfinished")

    # -- inside ------------------------------------------------------------------------

    def _carry(self, request: Request, size: float, sender: int, number: int) -> None:
        """Begin the transfer of `size` bytes to a replica."""
        self._finish(self._transfer(request, sender, number), size)

    def _transfer(self, request: Request, sender: int, number: int) -> Transfer:
        """Return a transfer to a replica of which nothing is ready yet."""
        transfer = Transfer(request, number)
        transfer.stream = KvStream(self._road, sender, number, lambda: self._landed(transfer))
        return transfer

    def _finish(self, transfer: Transfer, size: float) -> None:
        """Send what is left of a transfer of `size` bytes."""
        request = transfer.request
        linked(self.replicas[transfer.to]).expect(1)
        self.transit[request] = transfer
        transfer.feed(size - transfer.fed, last=True)
        if request.due_s != float("inf"):
            self.env.call(request.due_s, CONTROL, lambda _: self._too_late(transfer))

    def _landed(self, transfer: Transfer) -> None:
        request = transfer.request
        if self.transit.get(request) is not transfer:
            return  # given up after its last byte was sent
        del self.transit[request]
        linked(self.replicas[transfer.to]).expect(-1)
        self._take_in(request, transfer.to)

    @abstractmethod
    def _take_in(self, request: Request, number: int) -> None:
        """Let the replica have a request that has come."""

    @abstractmethod
    def _lose(self, request: Request) -> None:
        """Let a request begin again whose replica failed while it was on its way."""

    def _too_late(self, transfer: Transfer) -> None:
        """Let a client go that gives up during the transfer."""
        request = transfer.request
        if self.transit.get(request) is transfer:
            self.withdraw(request)
            self._gone(request, self.env.now, "timed_out")

    def _drop(self, request: Request) -> Transfer:
        transfer = self.transit.pop(request)
        transfer.stream.drop()
        linked(self.replicas[transfer.to]).expect(-1)
        return transfer
