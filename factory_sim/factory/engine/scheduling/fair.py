"""Fair shares: the tenant that has been served least goes first.

Like a club that keeps a tab for each member and serves next whose tab is smallest; a member who
comes back after a while away starts from the smallest tab of those who queue, so that nobody
saves up for later.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduling.queue import Hooks


class Fair(Hooks):
    """The virtual token counter (VTC) of Sheng et al., Fairness in Serving LLMs (OSDI 2024).

    A tenant's counter grows by `input_weight` for each prompt token of a request when it is first
    admitted, and by `output_weight` for each output token as it is made (the paper: 1 and 2). The
    head of the queue is the first request of the waiting tenant with the smallest counter (of the
    lowest number among equals). When the planner first sees a request of a tenant of whom nobody
    waits, the counter is raised to the smallest of the waiting tenants, or to that of the tenant
    last admitted where nobody waits at all. Weights are whole, so that counters are exact.

    While requests decode counters are straight lines over decode steps: of each tenant their
    height at step 0 and how many of its requests decode are kept.
    """

    lifts = True

    def __init__(self, input_weight: int = 1, output_weight: int = 2) -> None:
        self.input_weight, self.output_weight = input_weight, output_weight
        self._forget()

    def _forget(self) -> None:
        self._new: deque[Request] = deque()
        self._waiting: dict[int, deque[Request]] = {}  # by tenant, those of whom some wait
        self._base: defaultdict[int, int] = defaultdict(int)
        self._decoding: defaultdict[int, int] = defaultdict(int)
        self._step = 0
        self._last: int | None = None  # tenant last admitted
        self._many = 0

    def counter(self, tenant: int) -> int:
        """Return the counter of a tenant, as of the step last settled."""
        return self._base[tenant] + self.output_weight * self._decoding[tenant] * self._step

    def append(self, request: Request) -> None:
        """Take in a newcomer."""
        self._new.append(request)
        self._many += 1

    def appendleft(self, request: Request) -> None:
        """Take back a request that was preempted, before the others of its tenant."""
        self._waiting.setdefault(request.tenant, deque()).appendleft(request)
        self._many += 1

    def settle(self, step: int, known_s: float) -> None:
        """Bring counters up to date; see the newcomers who were queued by `known_s`."""
        self._step = step
        while self._new and self._new[0].queued_s <= known_s:
            request = self._new.popleft()
            tenant = request.tenant
            if tenant not in self._waiting:
                self._lift(tenant)
                self._waiting[tenant] = deque()
            self._waiting[tenant].append(request)

    def _lift(self, tenant: int) -> None:
        """Raise a tenant that comes back to those who are here."""
        if self._waiting:
            least = min(map(self.counter, self._waiting))
        elif self._last is not None:
            least = self.counter(self._last)
        else:
            return
        self._base[tenant] += max(0, least - self.counter(tenant))

    def unsettled(self) -> bool:
        """Tell whether newcomers have not been seen yet."""
        return bool(self._new)

    def _next(self) -> int:
        return min(self._waiting, key=lambda tenant: (self.counter(tenant), tenant))

    def popleft(self) -> Request:
        """Give out the head, and charge its prompt if it is admitted for the first time."""
        tenant = self._next()
        request = self._waiting[tenant].popleft()
        if not self._waiting[tenant]:
            del self._waiting[tenant]
        self._last = tenant
        self._many -= 1
        if request.admitted_s != request.admitted_s:
            self._base[tenant] += self.input_weight * request.prompt
        return request

    def remove(self, request: Request) -> None:
        """Let a request go that waits."""
        self._many -= 1
        own = self._waiting.get(request.tenant)
        if own is None or request not in own:
            self._new.remove(request)
            return
        own.remove(request)
        if not own:
            del self._waiting[request.tenant]

    def clear(self) -> None:
        """Let everybody go, and forget what was served: the engine has failed."""
        self._forget()

    def __getitem__(self, place: int) -> Request:
        """Return the head (no other place): of those in order, if there is any."""
        return self._waiting[self._next()][0] if self._waiting else self._new[0]

    def __len__(self) -> int:
        """Return how many wait."""
        return self._many

    def __iter__(self) -> Iterator[Request]:
        """Yield everybody, tenant by tenant."""
        for own in self._waiting.values():
            yield from own
        yield from self._new

    def began(self, request: Request, step: int) -> None:
        """Count a request among those of its tenant that decode."""
        self._base[request.tenant] -= self.output_weight * step
        self._decoding[request.tenant] += 1

    def ended(self, request: Request, step: int) -> None:
        """Count it no more."""
        self._base[request.tenant] += self.output_weight * step
        self._decoding[request.tenant] -= 1

    def made(self, request: Request) -> None:
        """Charge the token that came with the prompt."""
        self._base[request.tenant] += self.output_weight

    def steps_to_new_head(self) -> float:
        """Return after how many decode steps the counter of the head's tenant passes another's."""
        if len(self._waiting) < 2:
            return math.inf
        head = self._next()
        steps = math.inf
        for other in self._waiting:
            closing = self.output_weight * (self._decoding[head] - self._decoding[other])
            if other != head and closing > 0:
                ahead = self.counter(other) - self.counter(head)
                passes = -(-ahead // closing) if other < head else ahead // closing + 1
                steps = min(steps, passes)
        return steps


class CountedFair(Fair):
    """The same where a step makes several tokens of a sequence, now more and now fewer.

    Counters are no straight lines then: tokens are counted when the planner looks, and while
    several tenants wait whom it could let in it looks at every step.
    """

    def _forget(self) -> None:
        super()._forget()
        self._counted: dict[Request, int] = {}  # tokens counted of those who decode

    def attach(self, emitted: Callable[[Request], int]) -> None:
        """Learn whom to ask how many tokens a request that decodes has made by now."""
        self._emitted = emitted

    def counter(self, tenant: int) -> int:
        """Return the counter of a tenant, as of the step last settled."""
        return self._base[tenant]

    def settle(self, step: int, known_s: float) -> None:
        """Bring counters up to date; see the newcomers who were queued by `known_s`."""
        for request in self._counted:
            self._count(request, self._emitted(request))
        super().settle(step, known_s)

    def began(self, request: Request, step: int) -> None:
        """Count a request among those of its tenant that decode."""
        self._counted[request] = request.emitted

    def ended(self, request: Request, step: int) -> None:
        """Count it no more."""
        self._count(request, request.emitted)
        del self._counted[request]

    def steps_to_new_head(self) -> float:
        """Return after how many decode steps to look again."""
        return 1 if len(self._waiting) > 1 else math.inf

    def _count(self, request: Request, emitted: int) -> None:
        more = emitted - self._counted[request]
        self._base[request.tenant] += self.output_weight * more
        self._counted[request] = emitted
