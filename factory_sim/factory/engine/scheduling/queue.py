"""What a replica's queue can do beyond a deque, where a policy other than plain arrival orders it.

Like the desk of a clinic: who has just come in sits by the door until the nurse looks up (a step
boundary), and is then put where the rule of the house says.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, Protocol

from factory_sim.factory.engine.request import Request


class Queue(Protocol):
    """The requests that wait at one replica, in the order of a policy; its methods are hooks.

    Policies need few of them; `Hooks` has the others. No method may look at `output`.
    """

    lifts: bool
    """Whether the order depends on when the planner first sees a request."""

    def append(self, request: Request, /) -> None: ...
    def appendleft(self, request: Request, /) -> None: ...
    def popleft(self) -> Request: ...
    def remove(self, request: Request, /) -> None: ...
    def clear(self) -> None: ...
    def __getitem__(self, place: int, /) -> Request: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Request]: ...

    def attach(self, emitted: Callable[[Request], int]) -> None:
        """Learn whom to ask how many tokens a request that decodes has made by now."""

    def settle(self, step: int, known_s: float) -> None:
        """At a boundary before decode step `step`: put in order who was queued by `known_s`."""

    def unsettled(self) -> bool:
        """Tell whether requests wait that the plan just made could not know of."""
        ...

    def refuses(self, request: Request, prefilling: Iterable[Request]) -> bool:
        """Tell whether to turn a newcomer away. prefilling: whose prompts are being computed."""
        ...

    def victim(self, running: Iterable[Request]) -> Request | None:
        """Return who is preempted for want of KV blocks; None: who was admitted last."""
        ...

    def began(self, request: Request, step: int) -> None:
        """A request decodes from decode step `step` on."""

    def ended(self, request: Request, step: int) -> None:
        """A request has left, whose last decode step was the one before `step`."""

    def made(self, request: Request) -> None:
        """A request has made a token with its prompt."""

    def steps_to_new_head(self) -> float:
        """Return after how many decode steps, with nobody coming or going, another is the head."""
        ...


class Hooks:
    """A policy that needs none of the hooks."""

    lifts = False

    def attach(self, emitted: Callable[[Request], int]) -> None:
        """Nobody is asked."""

    def settle(self, step: int, known_s: float) -> None:
        """Newcomers are in order already."""

    def unsettled(self) -> bool:
        """Nobody waits apart."""
        return False

    def refuses(self, request: Request, prefilling: Iterable[Request]) -> bool:
        """Nobody is turned away."""
        return False

    def victim(self, running: Iterable[Request]) -> Request | None:
        """Last come, first preempted."""
        return None

    def began(self, request: Request, step: int) -> None:
        """Decoding changes no order."""

    def ended(self, request: Request, step: int) -> None:
        """Leaving changes no order."""

    def made(self, request: Request) -> None:
        """A token changes no order."""

    def steps_to_new_head(self) -> float:
        """The head stays the head."""
        return math.inf


class Keyed(Hooks, ABC):
    """A queue in the order of a key that a request keeps; a preempted request keeps its own too.

    Newcomers wait apart until the planner has seen them: with asynchronous scheduling those who
    came in time for a plan must not be hidden by one who is too late for it.
    """

    def __init__(self) -> None:
        self._new: deque[Request] = deque()
        self._heap: list[tuple[Any, Request]] = []  # and some who have left it since
        self._known: dict[Request, None] = {}

    @abstractmethod
    def key(self, request: Request) -> tuple[float, ...]:
        """Return what orders a request, the least first; no two have the same."""

    def append(self, request: Request) -> None:
        """Take in a newcomer."""
        self._new.append(request)

    def appendleft(self, request: Request) -> None:
        """Take back a request that was preempted."""
        self._known[request] = None
        heappush(self._heap, (self.key(request), request))

    def settle(self, step: int, known_s: float) -> None:
        """Put the newcomers in order who were queued by `known_s`."""
        while self._new and self._new[0].queued_s <= known_s:
            self.appendleft(self._new.popleft())

    def unsettled(self) -> bool:
        """Tell whether newcomers wait apart."""
        return bool(self._new)

    def popleft(self) -> Request:
        """Give out the head."""
        request = self[0]
        heappop(self._heap)
        del self._known[request]
        return request

    def remove(self, request: Request) -> None:
        """Let a request go that waits."""
        if request in self._known:
            del self._known[request]
        else:
            self._new.remove(request)

    def clear(self) -> None:
        """Let everybody go."""
        self._new.clear()
        self._heap.clear()
        self._known.clear()

    def __getitem__(self, place: int) -> Request:
        """Return the head (no other place): of those in order, if there is any."""
        heap, known = self._heap, self._known
        while heap and heap[0][1] not in known:
            heappop(heap)
        return heap[0][1] if heap else self._new[0]

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._known) + len(self._new)

    def __iter__(self) -> Iterator[Request]:
        """Yield everybody, in no order."""
        yield from self._known
        yield from self._new
