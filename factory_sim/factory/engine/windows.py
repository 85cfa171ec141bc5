"""Sliding-window attention: which sequences have filled their window, and the context kept.

While a window fills, the layers that slide attend to one more token a step; once it is full
they attend to `tokens` for good. The step at which the next window fills is a boundary.
"""

from __future__ import annotations

from heapq import heappop, heappush

from factory_sim.factory.engine.request import Request


class Windows:
    """The windows of one batch: `filling` of them still grow, `context` tokens are inside."""

    __slots__ = ("_fills", "context", "filling", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.clear()

    def clear(self) -> None:
        """Forget every sequence."""
        self.filling: float = 0
        self.context: float = 0
        self._fills: list[tuple[int, int, int, Request]] = []

    @property
    def attended(self) -> float:
        """Return the tokens attended to in the next decode step."""
        return self.context + self.filling

    def join(self, request: Request, stored: int, step: int) -> None:
        """A sequence with `stored` tokens starts to decode at `step`."""
        self.context += min(stored, self.tokens)
        if stored < self.tokens:
            self.filling += 1
            fills = step + self.tokens - stored
            heappush(self._fills, (fills, request.number, request.preemptions, request))

    def leave(self, stored: int) -> None:
        """A decoding sequence, now with `stored` tokens, leaves."""
        self.context -= min(stored, self.tokens)
        if stored < self.tokens:
            self.filling -= 1

    def next_fill(self) -> float:
        """Return the step at which the next window fills; infinity when none is filling."""
        fills = self._fills
        while fills and not current(fills[0]):
            heappop(fills)
        return fills[0][0] if fills else float("inf")

    def advance(self, steps: int, now: int) -> None:
        """Let `steps` decode steps pass, the last of them before step `now`."""
        self.context += steps * self.filling
        fills = self._fills
        while fills and fills[0][0] <= now:
            if current(heappop(fills)):
                self.filling -= 1


def current(fill: tuple[int, int, int, Request]) -> bool:
    """Tell whether the sequence still decodes, and has not left and come back since."""
    _, _, preemptions, request = fill
    return request.finish_step >= 0 and request.preemptions == preemptions
