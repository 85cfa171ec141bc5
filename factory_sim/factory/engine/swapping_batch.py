"""A batch whose victims may keep their KV cache: it waits in host memory until they go on.

Like a guest whose coat and book are put away while the table is needed: nothing is lost, but two
walks to the cloakroom are.
"""

from __future__ import annotations

from typing import Any

from factory_sim.factory.engine.host_memory import HostMemory, WaitingStretch, that_waits
from factory_sim.factory.engine.joining_batch import JoiningBatch
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduled_batch import ScheduledBatch


class SwappingBatch(ScheduledBatch, JoiningBatch):
    """Moves the KV blocks of victims to `host` while it has room; its policy is `Joining`.

    The move out and the move back each delay the step that is about to start, as the copies of
    vLLM V0 do, which it orders before the step. A victim whose prompt is not computed yet, and one
    for whom there is no room, is computed again.
    """

    stretch: WaitingStretch

    def __init__(self, *batch: Any, host: HostMemory, **more: Any) -> None:
        super().__init__(*batch, **more)
        self.host = host
        self._keeps = False  # the victim has all its prompt in the KV cache
        self.stretch = that_waits(self.stretch)

    @property
    def moved_blocks(self) -> int:
        """Return the KV blocks moved to host memory and back."""
        return self.host.moved

    def expire(self, now: float) -> list[Request]:
        """Drop the requests whose clients have given up by `now`."""
        gone = super().expire(now)
        for request in gone:
            self.host.free += self.kv.blocks(request.carried)
            request.carried = 0
        return gone

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do."""
        self.stretch.pause_s = 0.0
        return super().plan(now)

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

    # -- inside ------------------------------------------------------------------------

    def _victim(self) -> Request:
        request = super()._victim()
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

    def _move(self, blocks: int) -> None:
        self.host.moved += blocks
        self.stretch.pause_s += blocks * self.host.seconds_per_block
