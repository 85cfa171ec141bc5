"""A pipe that several transfers share: each gets an equal part, up to what its sender can send.

Like a water main with taps: who opens a tap slows the others, who closes one lets them run faster.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from math import inf

from factory_sim.factory.timetable import CONTROL, Timetable

Done = Callable[[], None]


class _Sender:
    """Who sends. most: bytes a second of all its transfers together.

    Its transfers run at one rate, so what each has got since the first of them came is one `level`,
    and a transfer ends when that reaches the level at which it came plus its size.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.level = 0.0
        self.rate = 0.0
        self.count = 0
        self.ends: list[tuple[float, int]] = []  # (level, number), a heap; dropped ones included


class Pipe:
    """A shared link or store. bytes_per_s: of all transfers together (infinity: unbounded).

    Max-min fair (Bertsekas and Gallager, Data Networks, section 6.5.2); without limits of senders
    that is processor sharing. Thousands of transfers cost little: work is by sender.
    """

    def __init__(self, env: Timetable, bytes_per_s: float) -> None:
        self._env, self._full = env, bytes_per_s
        self._open = True
        self._done: dict[int, tuple[Hashable, Done]] = {}  # sender, and whom to tell, by transfer
        self._senders: dict[Hashable, _Sender] = {}
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
        if most_bytes_per_s == inf:
            sender = "unlimited"  # whoever they are, they run at one rate
        elif sender is None:
            sender = ("alone", number)
        found = self._senders.get(sender)
        if found is None:
            found = self._senders[sender] = _Sender(most_bytes_per_s)
        found.count += 1
        heappush(found.ends, (found.level + size, number))
        self._done[number] = (sender, done)
        self._share()
        return number

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self._flow()
        if number in self._done:
            self._end(number)
            self._share()

    def set_open(self, flowing: bool) -> None:
        """Let transfers go on, or stand still."""
        self._flow()
        self._open = flowing
        self._share()

    def carried_bytes(self) -> float:
        """Return the bytes that have flown until now."""
        self._flow()
        return self._carried

    def _end(self, number: int) -> Done:
        """Take a transfer out, and return whom to tell."""
        key, done = self._done.pop(number)
        sender = self._senders[key]
        sender.count -= 1
        if not sender.count:
            del self._senders[key]
        return done

    def _flow(self) -> None:
        """Let everything flow that has flown since the last change."""
        now = self._env.now
        seconds, self._since_s = now - self._since_s, now
        if seconds > 0.0:
            for sender in self._senders.values():
                flown = sender.rate * seconds
                sender.level += flown
                self._carried += sender.count * flown

    def _share(self) -> None:
        """Give every transfer its rate, and set the call for the next that ends."""
        # As the common rate rises, a sender's transfers stop together at their part of its limit.
        room, left = self._full, len(self._done)
        for sender in sorted(self._senders.values(), key=lambda each: each.most / each.count):
            rate = min(sender.most / sender.count, room / left) if self._open else 0.0
            sender.rate = rate
            room -= rate * sender.count if rate < inf else 0.0
            left -= sender.count
        self._call = None
        first_s = min(map(self._next_s, self._senders.values()), default=inf)
        if first_s < inf:
            self._call = self._env.call(self._env.now + first_s, CONTROL, self._arrived)

    def _next_s(self, sender: _Sender) -> float:
        """Return how long the next transfer of a sender still takes."""
        ends = sender.ends
        while ends and ends[0][1] not in self._done:
            heappop(ends)
        if not ends or not sender.rate:
            return inf
        return max(0.0, (ends[0][0] - sender.level) / sender.rate)

    def _arrived(self, call: int) -> None:
        if call != self._call:
            return
        # What ends at one time by its numbers does so, whatever rounding makes of them.
        senders = list(self._senders.values())
        first_s = min(map(self._next_s, senders))
        within_s = first_s * (1 + 1e-12) + 1e-12
        found = []
        for sender in senders:
            while sender.ends and self._next_s(sender) <= within_s:
                found.append(heappop(sender.ends)[1])
        self._flow()
        tell = [self._end(number) for number in sorted(found)]
        self._share()
        for call_back in tell:
            call_back()
