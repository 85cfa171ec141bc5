"""Priorities: the lowest number first, and among equals who came first."""

from __future__ import annotations

from collections.abc import Iterable

from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduling.queue import Keyed


class Priority(Keyed):
    """vLLM's `--scheduling-policy priority` (V1, PR #19057).

    A request that waits is never let in by preempting one that runs (vLLM issue #40004); when
    running requests need KV blocks, the one goes that would be served last by this order.
    """

    def key(self, request: Request) -> tuple[float, ...]:
        """Return priority and arrival."""
        return request.priority, request.arrival_s, request.number

    def victim(self, running: Iterable[Request]) -> Request | None:
        """Return the running request of the highest number, last come among equals."""
        return max(running, key=self.key)
