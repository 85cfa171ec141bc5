"""A named link of the network: a pipe that all who send over it share, and a delay at its end."""

from __future__ import annotations

from collections.abc import Hashable

from factory_sim.factory.network.flows import Done
from factory_sim.factory.network.pipe import Pipe
from factory_sim.factory.timetable import CONTROL, Timetable


class Link:
    """Carries transfers at `bytes_per_s` together; each arrives `latency_s` after its last byte."""

    def __init__(self, env: Timetable, name: str, bytes_per_s: float, latency_s: float) -> None:
        self._env, self._latency_s = env, latency_s
        self.name, self.bytes_per_s, self.label = name, bytes_per_s, f"link/{name}"
        self._pipe = Pipe(env, bytes_per_s)

    def send(self, size: float, sender: Hashable, most_bytes_per_s: float, landed: Done) -> int:
        """Send `size` bytes and return the transfer's number; call `landed` on arrival.

        most_bytes_per_s: what all transfers of this sender get at the most.
        """

        def sent() -> None:
            if self._latency_s:
                self._env.call(self._env.now + self._latency_s, CONTROL, lambda _: landed())
            else:
                landed()

        return self.part(size, sender, most_bytes_per_s, sent)

    def part(self, size: float, sender: Hashable, most_bytes_per_s: float, sent: Done) -> int:
        """Send bytes that more will follow; call `sent` when the last of them has left."""
        return self._pipe.send(size, most_bytes_per_s, sent, sender)

    def drop(self, number: int) -> None:
        """Give a transfer up. Once its last byte is sent, it still lands."""
        self._pipe.drop(number)

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""
        self._pipe.set_open(flowing)

    def carried_bytes(self) -> float:
        """Return the bytes sent until now."""
        return self._pipe.carried_bytes()
