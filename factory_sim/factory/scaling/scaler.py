"""A scaler: it looks at a deployment once in a while, and starts and stops replicas.

Like the manager of a supermarket who opens and closes tills: a till that closes serves those who
stand in its queue, and one that opens takes a while until its cashier is there.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from simpy import Event

from factory_sim.factory.presence import UNWANTED, Presence
from factory_sim.factory.replica import Replica
from factory_sim.factory.scaling.gateway import ScaledGateway
from factory_sim.factory.scaling.protocol import Look, Policy
from factory_sim.factory.timetable import CONTROL, Timetable
from factory_sim.metrics.scaling import ScalingCounts
from factory_sim.scenario.autoscaling import Scaling


class Act(NamedTuple):
    """What became of a replica: start, open, drain or stop."""

    at_s: float
    number: int
    what: str


class Scaler:
    """Keeps as many replicas of a deployment up as its policy wants.

    places: of each replica, its place in `presence`. Replicas that start or serve are wanted; one
    that is not drains, and then is stopped. A draining replica is not taken back. One that has
    failed is replaced while another can start; else it comes back by itself.
    acts: everything that was done, in order.
    """

    def __init__(
        self,
        env: Timetable,
        gateway: ScaledGateway,
        presence: Presence,
        places: Sequence[int],
        policy: Policy,
        spec: Scaling,
    ) -> None:
        self._env, self._gateway, self._presence = env, gateway, presence
        self._places, self._policy, self._spec = tuple(places), policy, spec
        self._ordered_s: dict[int, float] = {}  # when each that starts was told to
        self._looks_again = False
        self._drains = [0] * len(places)  # how often each has begun to drain
        self.acts: list[Act] = []
        self._starts = self._stops = self._opened = self._resent = self._lost_tokens = 0
        self._cold_s = 0.0
        gateway.told = self
        self._wanted = set(range(policy.first()))
        presence.stop(places[policy.first() :], UNWANTED)
        for number, place in enumerate(places):
            presence.opened[place] = lambda number=number: self._has_opened(number)  # type: ignore[misc]

    def watch(self) -> Generator[Event, None, None]:
        """Look once a period."""
        while True:
            yield self._env.timeout(self._spec.period)
            self.look()

    def look(self) -> None:
        """See how many replicas are wanted, and start or stop some."""
        gateway, wanted = self._gateway, sorted(self._wanted)
        batches = [gateway.replicas[number].batch for number in wanted]
        outstanding = sum(gateway.outstanding[number] for number in wanted)
        many = self._policy.decide(
            Look(
                self._env.now,
                len(wanted),
                outstanding + len(gateway.stranded),
                sum(1.0 - batch.kv.free / batch.kv.total for batch in batches),
            )
        )
        well = [number for number in wanted if not self._failed(number)]
        for number in self._spare()[: max(0, many - len(well))]:
            self._start(number)
        surplus = max(0, len(self._wanted) - many)
        for number in sorted(self._wanted, key=self._least_missed)[:surplus]:
            self._dismiss(number)

    def counts(self) -> ScalingCounts:
        """Return what was done until now."""
        return ScalingCounts(
            self._starts,
            self._stops,
            self._opened,
            self._cold_s,
            self._gateway.waited,
            self._resent,
            self._lost_tokens,
        )

    @property
    def asleep(self) -> bool:
        """Tell whether no replica is wanted, and one more request would start one."""
        idle = not self._wanted and not self._gateway.stranded
        return self._policy.wakes and idle and bool(self._spare())

    # -- what the gateway tells ----------------------------------------------------------

    def emptied(self, number: int) -> None:
        """A replica that drains has no request left: stop it once this instant is over."""

        def still_empty(call: int) -> None:
            if number in self._gateway.draining:
                self._stop(number)

        self._env.call(self._env.now, CONTROL, still_empty)

    def missing(self) -> None:
        """A request has found no replica open: look now, unless one is on its way."""
        hopeless = all(self._failed(number) for number in self._wanted)
        if hopeless and not self._looks_again and self._spare():
            self._looks_again = True
            self._env.call(self._env.now, CONTROL, self._look_again)

    def _look_again(self, call: int) -> None:
        self._looks_again = False
        self.look()

    # -- inside ------------------------------------------------------------------------

    def _replica(self, number: int) -> Replica:
        return self._gateway.replicas[number]

    def _failed(self, number: int) -> bool:
        return self._presence.failed(self._places[number])

    def _spare(self) -> list[int]:
        """Return the replicas that could start."""
        taken = self._wanted | self._gateway.draining
        numbers = range(len(self._places))
        return [n for n in numbers if n not in taken and not self._failed(n)]

    def _least_missed(self, number: int) -> tuple[bool, bool, int, int]:
        """Return what to sort by so that who is missed least comes first: those that have failed,
        those that are not up yet, those with the fewest requests, the last."""
        return (
            not self._failed(number),
            not self._replica(number).absence.state,
            self._gateway.outstanding[number],
            -number,
        )

    def _start(self, number: int) -> None:
        self._note(number, "start")
        self._starts += 1
        self._wanted.add(number)
        self._ordered_s[number] = self._env.now
        self._presence.release(self._places[number], UNWANTED)

    def _has_opened(self, number: int) -> None:
        if number in self._ordered_s:
            self._note(number, "open")
            self._opened += 1
            self._cold_s += self._env.now - self._ordered_s.pop(number)

    def _dismiss(self, number: int) -> None:
        """Let a replica take no more requests, and stop it when it has none."""
        self._wanted.discard(number)
        self._ordered_s.pop(number, None)
        gateway = self._gateway
        if not gateway.outstanding[number]:
            self._stop(number)
            return
        self._note(number, "drain")
        self._drains[number] += 1
        this = self._drains[number]
        gateway.draining.add(number)
        self._replica(number).set_open("draining", False)
        deadline_s = self._spec.drain_deadline

        def too_long(call: int) -> None:
            if number in gateway.draining and self._drains[number] == this:
                self._stop(number)

        if deadline_s is not None:
            self._env.call(self._env.now + deadline_s, CONTROL, too_long)

    def _stop(self, number: int) -> None:
        """Stop a replica, whatever it still has, and send that to others."""
        self._note(number, "stop")
        self._stops += 1
        replica = self._replica(number)
        lost_before = replica.batch.lost_tokens
        self._gateway.draining.discard(number)
        _, resent = self._presence.stop([self._places[number]], UNWANTED)
        self._resent += resent
        self._lost_tokens += replica.batch.lost_tokens - lost_before
        replica.set_open("draining", True)
        if self._gateway.stranded:
            self.missing()  # it may be the one that can start

    def _note(self, number: int, what: str) -> None:
        self.acts.append(Act(self._env.now, number, what))
