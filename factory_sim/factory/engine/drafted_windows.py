"""Windows of sequences with drafts: they fill by the pace of each, and not by a token a step.

Like vessels under taps of different widths: how much runs in together is known, and so is when the
next is full to the brim; what it would have taken beyond that runs off.
"""

from __future__ import annotations

from heapq import heappop, heappush

from factory_sim.factory.engine.drafted_kv import Stay
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.windows import Windows, current


class DraftedWindows(Windows):
    """The windows of sequences that verify `drafts` tokens and one more in every step.

    The mean one of these sees 1 + drafts / 2 tokens beside those stored, and of a window no more
    than `tokens`; a window is full from the first step in which that many are there. context: what
    is attended to in the next step; filling: tokens by which it grows a step.
    """

    __slots__ = ("_growing", "_sees")

    def __init__(self, tokens: int, drafts: int) -> None:
        self._sees = 1.0 + drafts / 2
        super().__init__(tokens)

    def clear(self) -> None:
        """Forget every sequence."""
        super().clear()
        self._growing: dict[Request, Stay] = {}

    @property
    def attended(self) -> float:
        """Return the tokens attended to in the next decode step."""
        return self.context

    def begin(self, request: Request, stay: Stay) -> None:
        """A stay begins."""
        fills = self._fills_at(stay)
        if fills == stay.begun:
            self.context += self.tokens
            return
        self.context += stay.stored + self._sees
        self.filling += stay.rate
        self._growing[request] = stay
        heappush(self._fills, (fills, request.number, request.preemptions, request))

    def end(self, request: Request, stay: Stay, step: int) -> None:
        """A stay ends with decode step `step`."""
        if self._growing.pop(request, None) is None:
            self.context -= self.tokens
        else:
            self.context -= stay.position(step) + self._sees
            self.filling -= stay.rate
        self._settle()

    def advance(self, steps: int, now: int) -> None:
        """Let `steps` decode steps pass, the last of them before step `now`."""
        self.context += steps * self.filling
        fills = self._fills
        while fills and fills[0][0] <= now:
            fill = heappop(fills)
            if current(fill):
                stay = self._growing.pop(fill[3])
                self.context -= stay.position(now) + self._sees - self.tokens
                self.filling -= stay.rate
        self._settle()

    def inside(self, stay: Stay, step: int) -> float:
        """Return the tokens that a stay attends to in decode step `step`."""
        return min(stay.position(step) + self._sees, self.tokens)

    def _settle(self) -> None:
        if not self._growing:
            self.filling = 0.0  # and no rounding, which would grow or shrink for good

    def _fills_at(self, stay: Stay) -> int:
        """Return the first step with stored + m left / steps + 1 + drafts / 2 >= tokens."""
        short = 2 * (self.tokens - stay.stored - self._sees)  # in halves of a token: whole
        return stay.begun + max(0, -(-int(short) * stay.steps // (2 * stay.left)))
