"""Fallback: the first deployment that is open and has room, and the next where that refuses."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from factory_sim.factory.dispatch.protocol import Ask, Surroundings
from factory_sim.scenario.dispatch import Fallback as Spec


class Fallback:
    """Asks in the order of the list, each deployment once; the last takes what is left."""

    def __init__(self, spec: Spec, around: Surroundings) -> None:
        self._offers = around.offers
        self._limit = inf if spec.outstanding is None else spec.outstanding
        self._patience_s = inf if spec.patience is None else spec.patience

    def first(self, ask: Ask) -> int:
        """Return the first with room, else the last."""
        return self._with_room(0)

    def then(self, ask: Ask, asked: Sequence[int], outcome: str) -> int | None:
        """Go on after a refusal, or when patience is at its end."""
        at = asked[-1]
        if outcome == "completed" or at == len(self._offers) - 1:
            return None
        return self._with_room(at + 1)

    def patience_s(self, at: int) -> float:
        """Wait for the last for ever: there is nobody else to ask."""
        return self._patience_s if at < len(self._offers) - 1 else inf

    def _with_room(self, begin: int) -> int:
        last = len(self._offers) - 1
        for at in range(begin, last):
            offer = self._offers[at]
            if offer.open and offer.outstanding < self._limit:
                return at
        return last
