"""Earliest deadline first: whose first token is promised soonest goes first."""

from __future__ import annotations

import math
from collections.abc import Iterable

from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduling.queue import Keyed


class Edf(Keyed):
    """Earliest deadline first (Liu and Layland, 1973), the deadline being arrival + promised TTFT.

    Who is promised nothing comes last, in the order of arrival. prompt_tokens_per_s: refuse
    newcomers whose first token would come too late if the replica computed prompts at this rate,
    those ahead of it first; None: refuse nobody.
    """

    def __init__(self, prompt_tokens_per_s: float | None = None) -> None:
        super().__init__()
        self._rate = prompt_tokens_per_s

    def key(self, request: Request) -> tuple[float, ...]:
        """Return deadline and arrival."""
        return request.deadline_s, request.arrival_s, request.number

    def refuses(self, request: Request, prefilling: Iterable[Request]) -> bool:
        """Tell whether the predicted first token misses its deadline.

        Ahead of it are what is left of the prompts being computed, and the prompts that wait with
        an earlier deadline. Slots and KV blocks are taken to be free when a prompt's turn comes,
        and decoding to cost prompts nothing: an optimist's wait.
        """
        if self._rate is None or request.deadline_s == math.inf:
            return False
        mine = self.key(request)
        tokens = tokens_to_compute(request) + sum(other.left for other in prefilling)
        tokens += sum(tokens_to_compute(other) for other in self if self.key(other) < mine)
        return request.queued_s + tokens / self._rate > request.deadline_s


def tokens_to_compute(request: Request) -> int:
    """Return the tokens of a waiting request to compute; what a prefix cache has is not known."""
    if request.carried:
        return 0
    known = request.cached if request.hashes is None else 0
    return request.prompt + request.emitted - known
