"""A pipe that several transfers share: each gets an equal part, up to what its sender can send.

Like a water main with taps: who opens a tap slows the others, who closes one lets them run faster.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf

from factory_sim.factory.network.flows import Done, Flows, Lane, Port, Way
from factory_sim.factory.timetable import Timetable


class Pipe:
    """A shared link or store. bytes_per_s: of all transfers together (infinity: unbounded).

    The simplest network: one port that all cross, behind one of each sender that has a limit.
    Without limits that is processor sharing.
    """

    def __init__(self, env: Timetable, bytes_per_s: float) -> None:
        self._flows, self._port = Flows(env), Port(bytes_per_s)
        self._free: Way = ((self._port, 1.0),)
        self._ways: dict[tuple[Hashable, float], Way] = {}

    def send(
        self, size: float, most_bytes_per_s: float, done: Done, sender: Hashable = None
    ) -> int:
        """Start a transfer of `size` bytes and return its number; call `done` at its end.

        most_bytes_per_s: what all transfers of this sender get at the most; without a sender, this
        one alone.
        """
        return self._flows.send(size, self._way(sender, most_bytes_per_s), done)

    def _way(self, sender: Hashable, most: float) -> Way:
        if most == inf:
            return self._free
        if (sender, most) not in self._ways:
            own = Lane(most) if sender is None else Port(most)
            self._ways[sender, most] = ((own, 1.0), *self._free)
        return self._ways[sender, most]

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._flows.drop(number)

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""
        self._flows.set_open(self._port, flowing)

    def carried_bytes(self) -> float:
        """Return the bytes that have flown until now."""
        self._flows.settle()
        return self._port.carried_bytes
