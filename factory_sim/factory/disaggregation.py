"""Disaggregated serving: one pool computes prompts, another decodes, and KV caches go between.

Like a kitchen that cooks and a floor that serves, with a hatch between them: a plate keeps its
place on the stove until it is through the hatch, and is served when a table is free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.ranks import Ranks
from factory_sim.factory.engine.request import NEVER, Request
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.network.kv import KvRoad, KvStream
from factory_sim.factory.replica import Replica
from factory_sim.factory.routing import Router
from factory_sim.factory.timetable import CONTROL, Timetable


class Crossing(NamedTuple):
    """How KV caches of a deployment cross. bytes_of: a prompt of so many tokens.

    withholds: the first token is sent by those who decode.
    """

    road: KvRoad
    bytes_of: Callable[[int], float]
    withholds: bool


def linked(replica: Replica) -> LinkedReplica:
    """Return a replica of a pool as what it is."""
    assert isinstance(replica, LinkedReplica)
    return replica


class Transfer:
    """A request on its way to replica `to`, with its KV cache.

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


class DecodeGateway(Gateway):
    """Sends requests whose prompt is computed on to replicas that decode.

    The replica is picked when the transfer begins, by the requests that are there or on their way.
    While none is open, the KV cache waits where it is. `front` notes how each request ended.
    """

    front: PromptGateway

    def __init__(
        self, env: Timetable, router: Router, staleness_s: float, crossing: Crossing
    ) -> None:
        super().__init__(env, router, staleness_s)
        self._crossing = crossing
        self.transit: dict[Request, Transfer] = {}

    def take(self, request: Request) -> None:
        """Take over a request with its first token made."""
        self._begin(request)
        self._sent(request)

    def forget(self, request: Request) -> None:
        """Give up a request that was on its way, or waited to be: its KV cache is lost."""
        self.stranded.pop(request, None)
        if request in self.transit:
            self.outstanding[self._drop(request).to] -= 1

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop a replica; return what it has lost, requests on their way to it included."""
        lost = super().fail(replica, dark)
        for transfer in list(self.transit.values()):
            if transfer.to == replica.number:
                self._drop(transfer.request)
                self.front.lose(transfer.request)
                lost.append(transfer.request)
        return sorted(lost, key=lambda request: request.number)

    def resend(self, number: int, lost: list[Request]) -> None:
        """Let requests that a replica has lost start again with their prompts."""
        self.outstanding[number] -= len(lost)
        self.front.restart(lost)

    def close(self) -> None:
        """Note the requests that are still here or on their way as unfinished."""
        super().close()
        for request in self.transit:
            self._note(request, NEVER, "unfinished")

    # -- inside ------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        """Note when a request came here."""
        if self._crossing.withholds:
            request.first_token_s = request.last_token_s = NEVER
        request.queued_s = self.env.now

    def _hand(self, number: int, request: Request) -> bool:
        """Begin the transfer to a replica."""
        self._finish(self._transfer(request, number))
        return True

    def _transfer(self, request: Request, number: int) -> Transfer:
        """Return a transfer to a replica of which nothing is ready yet."""
        transfer = Transfer(request, number)
        transfer.stream = KvStream(
            self._crossing.road, request.prefill_replica, number, lambda: self._landed(transfer)
        )
        return transfer

    def _finish(self, transfer: Transfer) -> None:
        """Send what is left of a KV cache whose prompt is computed."""
        request = transfer.request
        request.replica = transfer.to
        linked(self.replicas[transfer.to]).expect(1)
        self.transit[request] = transfer
        transfer.feed(self._crossing.bytes_of(request.prompt) - transfer.fed, last=True)
        if request.due_s != float("inf"):
            self.env.call(request.due_s, CONTROL, lambda _: self._too_late(transfer))

    def _landed(self, transfer: Transfer) -> None:
        request = transfer.request
        if self.transit.get(request) is not transfer:
            return  # given up after its last byte was sent
        del self.transit[request]
        linked(self.replicas[transfer.to]).expect(-1)
        request.transfer_s = self.env.now - request.queued_s
        request.carried = request.prompt
        if request.hashes is not None:
            request.cached = 0  # nothing is kept here that it could find if it is preempted
        self.front.release(request)
        self.replicas[transfer.to].submit(request)  # which the front has seen to that it takes

    def _too_late(self, transfer: Transfer) -> None:
        """Let a client go that gives up during the transfer."""
        request = transfer.request
        if self.transit.get(request) is transfer:
            self.forget(request)
            self._gone(request, self.env.now, "timed_out")

    def _drop(self, request: Request) -> Transfer:
        transfer = self.transit.pop(request)
        transfer.stream.drop()
        linked(self.replicas[transfer.to]).expect(-1)
        return transfer

    def _gone(self, request: Request, time: float, outcome: str) -> None:
        self.front.end(request, time, outcome)

    def _note(self, request: Request, end_s: float, outcome: str) -> None:
        self.front.note(request, end_s, outcome)


class PromptGateway(Gateway):
    """The gateway that clients see: it sends requests to replicas that compute their prompts.

    A request counts as outstanding at such a replica for as long as that holds its KV cache.
    """

    def __init__(
        self, env: Timetable, router: Router, staleness_s: float, decodes: DecodeGateway
    ) -> None:
        super().__init__(env, router, staleness_s)
        self._decodes = decodes
        decodes.front = self

    def leave(self, replica: Replica, request: Request, time: float, outcome: str) -> None:
        """Send a request on that has more tokens to make; note how others ended."""
        if outcome == "completed" and request.emitted < request.output:
            self._decodes.take(request)
        else:
            super().leave(replica, request, time, outcome)

    def release(self, request: Request) -> None:
        """Give back the blocks of a request that is held here."""
        number = request.prefill_replica
        self._batch_of(request).release(request)
        self.outstanding[number] -= 1
        linked(self.replicas[number]).wake()

    def lose(self, request: Request) -> None:
        """Release a request whose KV cache has nowhere to go: it begins again."""
        self._batch_of(request).lose(request)
        self.release(request)
        request.forget()

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop a replica; return what it has lost, KV caches on their way from it included."""
        lost = super().fail(replica, dark)
        for request in lost:
            self._decodes.forget(request)
        return lost

    def restart(self, requests: list[Request]) -> None:
        """Send requests that were lost further on."""
        self._send(requests)

    def end(self, request: Request, time: float, outcome: str) -> None:
        """Note how a request ended that had gone on from here."""
        if request in self._batch_of(request).held:
            self.release(request)
        self._gone(request, time, outcome)

    def note(self, request: Request, end_s: float, outcome: str) -> None:
        """Note a row."""
        self._note(request, end_s, outcome)

    def _hand(self, number: int, request: Request) -> bool:
        request.prefill_replica = number
        return self.replicas[number].submit(request)

    def _batch_of(self, request: Request) -> PromptBatch | Ranks:
        batch = self.replicas[request.prefill_replica].batch
        assert isinstance(batch, PromptBatch | Ranks)
        return batch
