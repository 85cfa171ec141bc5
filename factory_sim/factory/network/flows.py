"""Transfers over a network of ports: each takes a way through some of them, and all share fairly.

Like trucks on a grid of roads: whoever shares the narrowest road of his way drives at its pace, and
leaves the room that he cannot use on the other roads to those who are on them.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf

from factory_sim.factory.timetable import CONTROL, Timetable

Done = Callable[[], None]


class Port:
    """What carries bytes in one direction: `bytes_per_s` (infinity: unbounded), while it is open.

    carried_bytes: until the last change.
    """

    __slots__ = (
        "_found",
        "_left",
        "_load",
        "_room",
        "_routes",
        "bytes_per_s",
        "carried_bytes",
        "is_open",
        "name",
    )

    def __init__(self, bytes_per_s: float, name: str = "") -> None:
        self.name, self.bytes_per_s = name, bytes_per_s
        self.is_open = True
        self.carried_bytes = 0.0
        # While rates are found: in which search, the room and the transfers that have none yet,
        # how much of it one more byte a second of each of them takes, and their routes.
        self._found = 0
        self._room = self._load = 0.0
        self._left = 0
        self._routes: list[_Route] = []

    def room(self, transfers: int) -> float:
        """Return the bytes/s that so many transfers of a way may have of it, with all others."""
        return self.bytes_per_s if self.is_open else 0.0


class Lane(Port):
    """A line that each transfer has for itself: `bytes_per_s` of every one. Of one way only."""

    __slots__ = ()

    def room(self, transfers: int) -> float:
        """Return what all their lines carry."""
        return self.bytes_per_s * transfers


Way = tuple[tuple[Port, float], ...]
"""Every port that a transfer crosses, and the share of its bytes that does."""


class _Route:
    """Transfers that take one way.

    They run at one rate, so what each has got since the first of them came is one `level`, and a
    transfer ends when that reaches the level at which it came plus its size.
    """

    __slots__ = ("count", "ends", "level", "rate", "way")

    def __init__(self, way: Way) -> None:
        self.way = way
        self.level = 0.0
        self.rate = 0.0
        self.count = 0
        self.ends: list[tuple[float, int]] = []  # (level, number), a heap; dropped ones included


class Flows:
    """Transfers that are on their way.

    Max-min fair: no rate could be higher but for that of a transfer which is no faster (Bertsekas
    and Gallager, Data Networks, section 6.5.2), found by filling all ports together. The parts of
    a transfer that take several ports side by side keep step. Thousands of transfers cost little:
    work is by way.
    """

    def __init__(self, env: Timetable) -> None:
        self._env = env
        self._done: dict[int, tuple[Way, Done]] = {}  # way, and whom to tell, by transfer
        self._routes: dict[Way, _Route] = {}
        self._numbers = self._searches = 0
        self._since_s = env.now
        self._call: int | None = None

    def send(self, size: float, way: Way, done: Done) -> int:
        """Start a transfer of `size` bytes and return its number; call `done` at its end."""
        self.settle()
        self._numbers += 1
        number = self._numbers
        route = self._routes.get(way)
        if route is None:
            route = self._routes[way] = _Route(way)
        route.count += 1
        heappush(route.ends, (route.level + size, number))
        self._done[number] = (way, done)
        self._share()
        return number

    def drop(self, number: int) -> None:
        """Give a transfer up."""
        self.settle()
        if number in self._done:
            self._end(number)
            self._share()

    def set_open(self, port: Port, is_open: bool) -> None:
        """Let what crosses a port go on, or stand still."""
        self.settle()
        port.is_open = is_open
        self._share()

    def settle(self) -> None:
        """Let everything flow that has flown since the last change."""
        now = self._env.now
        seconds, self._since_s = now - self._since_s, now
        if seconds > 0.0:
            for route in self._routes.values():
                flown = route.rate * seconds
                route.level += flown
                flown *= route.count
                for port, share in route.way:
                    port.carried_bytes += share * flown

    def _end(self, number: int) -> Done:
        """Take a transfer out, and return whom to tell."""
        way, done = self._done.pop(number)
        route = self._routes[way]
        route.count -= 1
        if not route.count:
            del self._routes[way]
        return done

    def _share(self) -> None:
        """Give every transfer its rate, and set the call for the next that ends."""
        self._fill()
        self._call = None
        first_s = min(map(self._next_s, self._routes.values()), default=inf)
        if first_s < inf:
            self._call = self._env.call(self._env.now + first_s, CONTROL, self._arrived)

    def _fill(self) -> None:
        """Give every transfer its max-min fair rate.

        As the common rate rises, ports fill up one after the other; what crosses a full one has
        its rate, and the others go on.
        """
        bounds = self._bounds()
        heap = [(port._room / port._load, order) for order, port in enumerate(bounds)]
        heapify(heap)
        while heap:
            full_at, order = heappop(heap)
            port = bounds[order]
            if not port._left:
                continue
            rate = max(0.0, port._room) / port._load
            if rate > full_at:  # others that cross it have stopped since
                heappush(heap, (rate, order))
                continue
            for route in port._routes:
                if route.rate == inf:
                    route.rate = rate
                    for other, share in route.way:
                        taken = share * route.count
                        other._room -= rate * taken
                        other._load -= taken
                        other._left -= 1

    def _bounds(self) -> list[Port]:
        """Return every port that bounds some transfer, empty; every rate is infinite as yet."""
        self._searches += 1
        bounds: list[Port] = []
        for route in self._routes.values():
            route.rate = inf
            for port, share in route.way:
                if port._found != self._searches:
                    port._found, port._left, port._load = self._searches, 0, 0.0
                    port._room = port.room(route.count)
                    port._routes = []
                    if port._room < inf:
                        bounds.append(port)
                port._left += 1
                port._load += share * route.count
                port._routes.append(route)
        return bounds

    def _next_s(self, route: _Route) -> float:
        """Return how long the next transfer of a route still takes."""
        ends = route.ends
        while ends and ends[0][1] not in self._done:
            heappop(ends)
        if not ends or not route.rate:
            return inf
        return max(0.0, (ends[0][0] - route.level) / route.rate)

    def _arrived(self, call: int) -> None:
        if call != self._call:
            return
        # What ends at one time by its numbers does so, whatever rounding makes of them.
        routes = list(self._routes.values())
        first_s = min(map(self._next_s, routes))
        within_s = first_s * (1 + 1e-12) + 1e-12
        found = []
        for route in routes:
            while route.ends and self._next_s(route) <= within_s:
                found.append(heappop(route.ends)[1])
        self.settle()
        tell = [self._end(number) for number in sorted(found)]
        self._share()
        for call_back in tell:
            call_back()
