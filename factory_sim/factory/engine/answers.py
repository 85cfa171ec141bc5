"""When answers begin: the first token after those that a model thinks with.

Like the first word after a long pause: nobody has to stand by for it, as who began to think when,
and how fast everybody goes, says to the moment when it falls. It is no boundary of a batch.
"""

from __future__ import annotations

from heapq import heappop, heappush

from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.stretch import Stretch


class Answers:
    """The answers of one batch that have yet to begin, by the decode step that begins them."""

    __slots__ = ("_begin",)

    def __init__(self) -> None:
        self._begin: list[tuple[int, int, int, Request]] = []

    def expect(self, request: Request, step: int) -> None:
        """Expect a decoding request to make the first token of its answer by decode step `step`."""
        heappush(self._begin, (step, request.number, request.preemptions, request))

    def advance(self, stretch: Stretch, steps: int, step: int) -> None:
        """Let the first `steps` of a stretch pass, the last of them before decode step `step`."""
        begin = self._begin
        while begin and begin[0][0] <= step:
            due, _, preemptions, request = heappop(begin)
            if request.finish_step >= 0 and request.preemptions == preemptions:
                request.answer_s = stretch.time_after(steps - (step - due))
