"""A batch whose queue has an order of its own.

As in vLLM: in a step in which somebody is preempted nobody is let in. A newcomer that may be let
in ends the stretch of steps at the next boundary, whoever waits already, as it may come first.
"""

from __future__ import annotations

from typing import Any

from factory_sim.factory.engine.batch import Batch, Batching
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduling.queue import Queue


class Settling:
    """A batching policy for such a batch: the queue is put in order, then `policy` fills."""

    def __init__(self, policy: Batching) -> None:
        self._policy = policy
        self.joins_running = policy.joins_running

    def fill(self, batch: Batch) -> None:
        """Let the planner see who has come, then do as the policy does."""
        assert isinstance(batch, ScheduledBatch)
        batch.settle()
        self._policy.fill(batch)


class ScheduledBatch(Batch):
    """Takes requests from `queue`, in its order; its policy is `Settling`."""

    waiting: Queue
    barred: bool
    """Whether somebody was preempted in the step being planned: nobody is let in."""

    def __init__(self, *batch: Any, queue: Queue, **more: Any) -> None:
        super().__init__(*batch, **more)
        self.waiting, self.barred = queue, False
        queue.attach(self._emitted)

    def settle(self) -> None:
        """Put those in order whom this plan may know."""
        self.waiting.settle(self._step, self._known_until_s())

    # -- what differs from other batches -----------------------------------------------

    def enqueue(self, request: Request) -> bool:
        """Queue a request, unless the policy refuses it or nobody could serve it."""
        if self.waiting.refuses(request, self.prefilling):
            return False
        return super().enqueue(request)

    def joins(self) -> bool:
        """Tell whether the request just queued may change what happens before the stretch ends."""
        if self.chunks:
            return False
        return self.waiting.lifts or (
            len(self.running) < self.max_running and (self.policy.joins_running or not self.running)
        )

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue, unless somebody was preempted in this step."""
        return None if self.barred else super().admit(most)

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do."""
        self.barred = False
        going = super().plan(now)
        if going and self.waiting.unsettled():
            self.stretch.cut(now)  # they are known to the next plan
        return going

    def check(self) -> None:
        """Recount everything; nobody waits for nothing."""
        super().check()
        busy = self.running or any(True for _ in self._sent())
        assert busy or not self.waiting or self.barred, "a queue stands still"

    # -- inside ------------------------------------------------------------------------

    def _emitted(self, request: Request) -> int:
        """Return the tokens that a request which decodes has made."""
        return self._stored(request) - request.prompt + 1

    def _victim(self) -> Request:
        self.barred = True
        request = self.waiting.victim(self.running)
        if request is None:
            return super()._victim()
        del self.running[request]
        return request

    def _start_decoding(self, request: Request, finished: list[Request]) -> None:
        super()._start_decoding(request, finished)
        if request.finish_step >= 0:  # here, and not elsewhere
            self.waiting.began(request, self._step)

    def _leave(self, request: Request, now: float) -> int:
        decoding = not request.left
        stored = super()._leave(request, now)
        if decoding:
            self.waiting.ended(request, self._step)
        return stored

    def _prefilled(
        self, request: Request, length: int, now: float, finished: list[Request]
    ) -> None:
        super()._prefilled(request, length, now, finished)
        if not request.left:
            self.waiting.made(request)

    def _steps_ahead(self, n: int) -> int:
        """Return the decode steps to the next boundary: the head may change, or be let in."""
        steps = super()._steps_ahead(n)
        if self.waiting and len(self.running) < self.max_running:
            if self.barred:
                return 1
            return int(min(steps, self.waiting.steps_to_new_head()))
        return steps
