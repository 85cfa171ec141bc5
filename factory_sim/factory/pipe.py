"""A pipe that several transfers share: each gets an equal part, up to what it can take itself.

Like a water main with taps: who opens a tap slows the others, who closes one lets them run faster.
"""

from __future__ import annotations

from collections.abc import Callable

from factory_sim.factory.timetable import CONTROL, Timetable

Done = Callable[[], None]


class Pipe:
    """A shared link or store. bytes_per_s: of all transfers together (infinity: unbounded)."""

    def __init__(self, env: Timetable, bytes_per_s: float) -> None:
        self._env, self._full = env, bytes_per_s
        self._open = True
        self._left: dict[int, tuple[float, float, Done]] = {}  # bytes, own limit, whom to tell
        self._numbers = 0
        self._since_s = env.now
        self._call: int | None = None

    def send(self, size: float, most_bytes_per_s: float, done: Done) -> int:
        """Start a transfer of `size` bytes and return its number; call `done` at its end.

        most_bytes_per_s: what this transfer can take at the most.
        """
        self._flow()
        self._numbers += 1
        self._left[self._numbers] = (size, most_bytes_per_s, done)
        self._await()
        return self._numbers

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._flow()
        self._left.pop(number, None)
        self._await()

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""
        self._flow()
        self._open = flowing
        self._await()

    def _rates(self) -> dict[int, float]:
        """Return what each transfer gets now: equal parts, and what some cannot take to others."""
        if not self._open:
            return dict.fromkeys(self._left, 0.0)
        rates: dict[int, float] = {}
        room, left = self._full, len(self._left)
        for number, (_, most, _) in sorted(self._left.items(), key=lambda item: item[1][1]):
            rates[number] = min(most, room / left)
            room -= rates[number]
            left -= 1
        return rates

    def _flow(self) -> None:
        """Let everything flow that has flown since the last change."""
        now = self._env.now
        seconds, self._since_s = now - self._since_s, now
        if seconds <= 0.0:
            return
        for number, rate in self._rates().items():
            size, most, done = self._left[number]
            self._left[number] = (size - rate * seconds, most, done)

    def _await(self) -> None:
        """Set the call for the next transfer that ends."""
        rates = self._rates()
        ends = [self._left[n][0] / rate for n, rate in rates.items() if rate > 0.0]
        self._call = None
        if ends:
            at_s = self._env.now + max(0.0, min(ends))
            self._call = self._env.call(at_s, CONTROL, self._arrived)

    def _arrived(self, call: int) -> None:
        if call != self._call:
            return
        rates = self._rates()
        before = {n: self._left[n][0] / rate for n, rate in rates.items() if rate > 0.0}
        first = min(before.values())
        self._flow()
        done = [n for n, left in before.items() if left <= first * (1 + 1e-12) + 1e-12]
        tell = [self._left.pop(number)[2] for number in done]
        self._await()
        for call_back in tell:
            call_back()
