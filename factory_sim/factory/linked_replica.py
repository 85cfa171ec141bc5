"""A replica that may have to wait for a link: for KV caches on their way, to it or from it.

Like a cook with nothing to do although guests wait: the hatch is blocked.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from factory_sim.factory.engine.request import Request
from factory_sim.factory.replica import Replica
from factory_sim.factory.timetable import CONTROL
from factory_sim.metrics.totals import Totals


def _nobody(change: int) -> None:
    """Nobody asks to be told."""


class LinkedReplica(Replica):
    """Tells time at rest without work from time at rest for want of a transfer.

    That is while requests it will serve are on their way, or while its own queue waits for KV
    blocks that hold what is still to be sent. idles: told when it begins (1) and ends (-1) to rest
    for want of work alone; at first it does.
    """

    def __init__(self, *replica: Any) -> None:
        super().__init__(*replica)
        self._coming = 0
        self._waits = False
        self._idle = True
        self.idles: Callable[[int], None] = _nobody
        self._since_s = self._waited_s = 0.0

    def expect(self, transfers: int) -> None:
        """Expect so many transfers more (or less)."""
        self._coming += transfers
        self._settle()

    def wake(self) -> None:
        """Look again at a queue that waits for blocks: some are free, or a client gives up."""
        if self.resting and self.batch.waiting:
            now = self.env.now
            for request in self.batch.expire(now):
                self._leave(self, request, now, "timed_out")
            self._rouse()

    def fail(self, dark: bool) -> list[Request]:
        """Stop at once and lose everything; return the requests that were here."""
        lost = super().fail(dark)
        self._settle()
        return lost

    def serve(self) -> None:
        """Be up again, with nothing to do."""
        super().serve()
        self._settle()

    def totals(self) -> Totals:
        """Return what this replica has done until now, by cause."""
        self._settle()
        return super().totals()._replace(transfer_s=self._waited_s)

    def _instant_over(self, call: int) -> None:
        """Let go who gives up in this very instant: requests may wait here while it rests."""
        if call == self._next:
            for request in self.batch.expire(self._boundary_s):
                self._leave(self, request, self._boundary_s, "timed_out")
        super()._instant_over(call)

    def _plan(self) -> None:
        super()._plan()
        self._settle()
        if self._waits and self.batch.waiting:
            due_s = self.batch.next_due_s()
            if due_s < inf:
                self.env.call(due_s, CONTROL, lambda _: self.wake())

    def _rouse(self) -> None:
        super()._rouse()
        self._settle()

    def _settle(self) -> None:
        """Book the time since the last change, and see whether it is waiting now."""
        now = self.env.now
        if self._waits:
            self._waited_s += now - self._since_s
        self._since_s = now
        wanted = self._coming > 0 or bool(self.batch.waiting)
        rests = self.resting and not self.absence.state
        self._waits = wanted and rests
        if self._idle != (rests and not wanted):
            self._idle = not self._idle
            self.idles(1 if self._idle else -1)
