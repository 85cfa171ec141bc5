"""A batch whose engine plans each step while the one before still runs.

Like a train that closes its doors when the one ahead leaves: who comes later takes the next.
"""

from __future__ import annotations

import math

from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.stretch import INSTANT


class AsyncBatch(Batch):
    """The batch of an engine with asynchronous scheduling (of SGLang: the overlap scheduler).

    A request may join at a boundary if it was queued no later than the start of the step that
    ends there, when the step that now begins was planned; nobody overtakes one that is too
    late. An engine with nothing running plans at once: then everybody may join.
    """

    __slots__ = ("_in_time_s",)

    ahead = 1

    # The methods of `Batch` are called by its name: `super()` costs 2 us a request more.

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue as every batch does, if it came in time for this plan."""
        waiting = self.waiting
        if not waiting or waiting[0].queued_s > self._in_time_s:
            return None
        return Batch.admit(self, most)

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do.

        It is one step long where the head of the queue may join after that.
        """
        waiting = self.waiting
        self._in_time_s = math.inf
        if not waiting:
            return Batch.plan(self, now)
        if self.running:  # the stretch is still the one that ends here
            self._in_time_s = self.stretch.last_start_s() + INSTANT
        going = Batch.plan(self, now)
        if (
            waiting
            and waiting[0].queued_s > self._in_time_s
            and len(self.running) < self.max_running
            and self.policy.joins_running
        ):
            self.stretch.cut(now)
        return going

    def _known_until_s(self) -> float:
        return self._in_time_s
