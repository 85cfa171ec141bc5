"""Sticky: every request of a session goes where its first one went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from factory_sim.factory.engine.request import Request


class _Numbered(Protocol):
    number: int


class Sticky:
    """Session affinity, as by a cookie; who is new joins the shortest queue.

    A session whose replica takes no requests joins the shortest queue too, and stays there.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._homes: dict[int, int] = {}  # session -> number of its replica

    def choose(
        self, outstanding: list[int], replicas: Sequence[_Numbered], request: Request
    ) -> int:
        """Return the replica of the request's session."""
        session = request.session
        if session >= 0:
            home = self._homes.get(session)
            if home is not None:
                for index, replica in enumerate(replicas):
                    if replica.number == home:
                        return index
        chosen = outstanding.index(min(outstanding))
        if session >= 0:
            self._homes[session] = replicas[chosen].number
        return chosen
