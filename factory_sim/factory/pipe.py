"""A pipe that several transfers share: each gets an equal part, up to what its sender can send.

Like a water main with taps: who opens a tap slows the others, who closes one lets them run faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

from factory_sim.factory.timetable import CONTROL, Timetable

Done = Callable[[], None]


class Transfer(NamedTuple):
    """What is left of one transfer, bytes, and what all of its sender's get at the most."""

    left: float
    most_bytes_per_s: float
    sender: Hashable
    done: Done


class Pipe:
    """A shared link or store. bytes_per_s: of all transfers together (infinity: unbounded).

    Max-min fair (Bertsekas and Gallager, Data Networks, section 6.5.2); without limits of senders
    that is processor sharing.
    """

    def __init__(self, env: Timetable, bytes_per_s: float) -> None:
        self._env, self._full = env, bytes_per_s
        self._open = True
        self._left: dict[int, Transfer] = {}
        self._numbers = 0
        self._carried = 0.0
        self._since_s = env.now
        self._call: int | None = None

    def send(
        self, size: float, most_bytes_per_s: float, done: Done, sender: Hashable = None
    ) -> int:
        """Start a transfer of `size` bytes and return its number; call `done` at its end.

        most_bytes_per_s: what all transfers of this sender get at the most; without a sender, this
        one alone.
        """
        self._flow()
        self._numbers += 1
        number = self._numbers
        who = ("alone", number) if sender is None else sender
        self._left[number] = Transfer(size, most_bytes_per_s, who, done)
        self._await()
        return number

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

    def carried_bytes(self) -> float:
        """Return the bytes that have flown until now."""
        self._flow()
        return self._carried

    def _rates(self) -> dict[int, float]:
        """Return what each transfer gets now: equal parts, and what some cannot send to others."""
        if not self._open:
            return dict.fromkeys(self._left, 0.0)
        # As the common level rises, a sender's transfers stop together at their part of its limit.
        senders = Counter(transfer.sender for transfer in self._left.values())
        limits = sorted(
            (transfer.most_bytes_per_s / senders[transfer.sender], number)
            for number, transfer in self._left.items()
        )
        rates: dict[int, float] = {}
        room, left = self._full, len(limits)
        for most, number in limits:
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
            transfer = self._left[number]
            flown = rate * seconds
            self._carried += min(flown, transfer.left)
            self._left[number] = transfer._replace(left=transfer.left - flown)

    def _await(self) -> None:
        """Set the call for the next transfer that ends."""
        rates = self._rates()
        ends = [self._left[n].left / rate for n, rate in rates.items() if rate > 0.0]
        self._call = None
        if ends:
            at_s = self._env.now + max(0.0, min(ends))
            self._call = self._env.call(at_s, CONTROL, self._arrived)

    def _arrived(self, call: int) -> None:
        if call != self._call:
            return
        rates = self._rates()
        before = {n: self._left[n].left / rate for n, rate in rates.items() if rate > 0.0}
        first = min(before.values())
        self._flow()
        done = [n for n, left in before.items() if left <= first * (1 + 1e-12) + 1e-12]
        tell = [self._left.pop(number).done for number in done]
        self._await()
        for call_back in tell:
            call_back()
