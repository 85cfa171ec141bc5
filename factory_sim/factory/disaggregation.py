"""Disaggregated serving: one pool computes prompts, another decodes, and KV caches go between.

Like a kitchen that cooks and a floor that serves, with a hatch between them: a plate keeps its
place on the stove until it is through the hatch, and is served when a table is free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from factory_sim.factory.crossing import CrossingGateway, linked
from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.ranks import Ranks
from factory_sim.factory.engine.request import NEVER, Request
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.network.kv import KvRoad
from factory_sim.factory.replica import Replica
from factory_sim.factory.routing import Router
from factory_sim.factory.timetable import Timetable


class Crossing(NamedTuple):
    """How KV caches of a deployment cross. bytes_of: a prompt of so many tokens.

    withholds: the first token is sent by those who decode.
    """

    road: KvRoad
    bytes_of: Callable[[int], float]
    withholds: bool


class DecodeGateway(CrossingGateway):
    """Sends requests whose prompt is computed on to replicas that decode.

    The replica is picked when the transfer begins, by the requests that are there or on their way.
    While none is open, the KV cache waits where it is. `front` notes how each request ended.
    """

    front: PromptGateway

    def __init__(
        self, env: Timetable, router: Router, staleness_s: float, crossing: Crossing
    ) -> None:
        super().__init__(env, router, staleness_s, road=crossing.road)
        self._crossing = crossing

    def take(self, request: Request) -> None:
        """Take over a request with its first token made."""
        self._begin(request)
        self._sent(request)

    def resend(self, number: int, lost: list[Request]) -> None:
        """Let requests that a replica has lost start again with their prompts."""
        self.outstanding[number] -= len(lost)
        self.front.restart(lost)

    # -- inside ------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        """Note when a request came here."""
        if self._crossing.withholds:
            request.first_token_s = request.last_token_s = NEVER
        request.queued_s = self.env.now

    def _hand(self, number: int, request: Request) -> bool:
        request.replica = number
        size = self._crossing.bytes_of(request.prompt)
        self._carry(request, size, request.prefill_replica, number)
        return True

    def _take_in(self, request: Request, number: int) -> None:
        request.transfer_s = self.env.now - request.queued_s
        request.carried = request.prompt
        if request.hashes is not None:
            request.cached = 0  # nothing is kept here that it could find if it is preempted
        self.front.release(request)
        self.replicas[number].submit(request)  # which the front has seen to that it takes

    def _lose(self, request: Request) -> None:
        self.front.lose(request)

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
            self._decodes.withdraw(request)  # what may have been sent of it already
            super().leave(replica, request, time, outcome)

    def release(self, request: Request) -> None:
        """Give back the blocks of a request that is held here."""
        number = request.prefill_replica
        self._batch_of(request).release(request)
        self.outstanding[number] -= 1
        self._relieved(number)
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
            self._decodes.withdraw(request)
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
