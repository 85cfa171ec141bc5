"""A batch whose queue has an order of its own, and whose victims may keep their KV cache.

As in vLLM: in a step in which somebody is preempted nobody is let in. A newcomer that may be let
in ends the stretch of steps at the next boundary, whoever waits already, as it may come first.
"""

from __future__ import annotations

from typing import Any

from factory_sim.factory.engine.batch import Batch, Batching
from factory_sim.factory.engine.host_memory import HostMemory, WaitingStretch
from factory_sim.factory.engine.joining_batch import AsyncJoiningBatch, JoiningBatch
from factory_sim.factory.engine.prefix_batch import AsyncPrefixBatch, PrefixBatch
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduling.queue import Queue


class Settling:
    """A batching policy for such a batch: the queue is put in order, then `policy` fills."""

    def __init__(self, policy: Batching) -> None:
        self._policy = policy
        self.joins_running = policy.joins_running

    def fill(self, batch: Batch) -> None:
        """Let the planner see who has come, then do as the policy does."""
        assert isinstance(batch, Scheduled)
        batch.settle()
        self._policy.fill(batch)


class Scheduled(Batch):
    """Takes requests from `queue`, and moves the KV blocks of victims to `host` while it has room.

    The move out and the move back each delay the step that is about to start, as the copies of
    vLLM V0 do, which it orders before the step. A victim whose prompt is not computed yet, and one
    for whom there is no room, is computed again.
    """

    waiting: Queue
    stretch: WaitingStretch
    host: HostMemory
    barred: bool
    """Whether somebody was preempted in the step being planned: nobody is let in."""

    def __init__(self, queue: Queue, host: HostMemory, *batch: Any, **more: Any) -> None:
        super().__init__(*batch, **more)
        self.waiting, self.host, self.barred = queue, host, False
        self._keeps = False  # the victim has all its prompt in the KV cache
        self.stretch = WaitingStretch(self.stretch.step_time, self.stretch.power)
        self.stretch.pause_s = 0.0

    def settle(self) -> None:
        """Put those in order whom this plan may know."""
        self.waiting.settle(self._step, self._known_until_s())

    @property
    def moved_blocks(self) -> int:
        """Return the KV blocks moved to host memory and back."""
        return self.host.moved

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

    def expire(self, now: float) -> list[Request]:
        """Drop the requests whose clients have given up by `now`."""
        gone = super().expire(now)
        for request in gone:
            if request.carried:
                self._fetch(request)
        return gone

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue, unless somebody was preempted in this step."""
        return None if self.barred else super().admit(most)

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do."""
        self.barred = False
        self.stretch.pause_s = 0.0
        going = super().plan(now)
        if going and self.waiting.unsettled():
            self.stretch.cut(now)  # they are known to the next plan
        return going

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything, what is in host memory included."""
        self.host.free = self.host.total
        return super().abandon(now, stepping)

    def check(self) -> None:
        """Recount everything, blocks in host memory included."""
        super().check()
        kept = sum(self.kv.blocks(request.carried) for request in self.waiting)
        assert kept + self.host.free == self.host.total, "blocks in host memory are lost"
        assert self.host.free >= 0, "more blocks are in host memory than it holds"
        assert self.running or not self.waiting or self.barred, "a queue stands still"

    # -- inside ------------------------------------------------------------------------

    def _victim(self) -> Request:
        self.barred = True
        request = self.waiting.victim(self.running)
        if request is None:
            request = super()._victim()
        else:
            del self.running[request]
        self._keeps = request.finish_step >= 0
        return request

    def _preempted(self, request: Request, stored: int) -> None:
        """Move what a request has stored to host memory; else count it as lost."""
        blocks = self.kv.blocks(stored)
        if not self._keeps or blocks > self.host.free:
            super()._preempted(request, stored)
            return
        self.host.free -= blocks
        self._move(blocks)
        request.carried = stored

    def _fetch(self, request: Request) -> int:
        """Take a request's blocks out of host memory; return how many."""
        blocks = self.kv.blocks(request.carried)
        self.host.free += blocks
        request.carried = 0
        return blocks

    def _move(self, blocks: int) -> None:
        self.host.moved += blocks
        self.stretch.pause_s += blocks * self.host.seconds_per_block

    def _start_decoding(self, request: Request, finished: list[Request]) -> None:
        super()._start_decoding(request, finished)
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


class ScheduledBatch(Scheduled, JoiningBatch):
    """The batch of an engine with a scheduling policy, or with swapping."""

    def _join(self) -> bool:
        """Let the head of the queue go on from its blocks in host memory, if they fit."""
        if self.barred:
            return False
        request = self.waiting[0] if self.waiting else None
        kept = request.carried if request is not None else 0
        if not super()._join():
            return False
        blocks = self.kv.blocks(kept)
        self.host.free += blocks
        self._move(blocks)
        return True


class AsyncScheduledBatch(ScheduledBatch, AsyncJoiningBatch):
    """The same, where each step is planned while the one before runs."""


class ScheduledPrefixBatch(Scheduled, PrefixBatch):
    """The same with a prefix cache; victims find their own blocks there, or compute them again."""


class AsyncScheduledPrefixBatch(Scheduled, AsyncPrefixBatch):
    """The same, where each step is planned while the one before runs."""
