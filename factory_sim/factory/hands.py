"""Whose hands serve the pods of a run: threads of this process, or processes elsewhere.

A company with branches: head office minds the meter and gives orders, a branch serves guests.
Orders are written down and go out with the next question, so that a branch is asked about once for
each look at the meter. It does what it is told at the times that it is told, one thing after the
other, and so does exactly what it would have done here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from factory_sim.factory.fleets.fleet import Fleet

Call = tuple[str, int, float, str, tuple[Any, ...]]
"""Something to do at a pod: its deployment, its number, the time, what, and with what."""

Answers = Callable[[], list[Any]]
"""Waits for what came of calls, and returns that of each."""


class Wire(Protocol):
    """Leads to a process that serves some pods."""

    def __call__(self, calls: Sequence[Call]) -> Answers:
        """Have these done in their order, after all that was sent before."""


Elsewhere = Callable[[Mapping[str, int]], Sequence[tuple[Mapping[str, range], Wire]]]
"""Given how many pods each deployment has, returns wires, and which of the pods each leads to."""


class Branch:
    """Serves some pods elsewhere."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._orders: list[Call] = []

    def order(self, call: Call) -> None:
        """Have something done before anything that is asked from now on."""
        self._orders.append(call)

    def ask(self, calls: Sequence[Call]) -> Answers:
        """Send all orders and these calls; return who waits for the answers to the calls."""
        before, self._orders = self._orders, []
        wait = self._wire([*before, *calls])
        return lambda: wait()[len(before) :]


class Hands(NamedTuple):
    """workers: threads that serve pods here. elsewhere: has others serve them, if there are any."""

    workers: int = 1
    elsewhere: Elsewhere | None = None


HERE = Hands()


def branches_of(hands: Hands, fleets: Sequence[Fleet]) -> dict[str, dict[range, Branch]]:
    """Return, by deployment, who serves which pods elsewhere; empty where nobody does."""
    if hands.elsewhere is None:
        return {}
    found: dict[str, dict[range, Branch]] = {}
    podded = {fleet.name: len(fleet.pods) for fleet in fleets if len(fleet.pods) > 1}
    for mine, wire in hands.elsewhere(podded):
        branch = Branch(wire)
        for name, pods in mine.items():
            found.setdefault(name, {})[pods] = branch
    return found
