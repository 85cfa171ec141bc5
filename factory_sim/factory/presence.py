"""Presence: what keeps each replica from serving, and how it comes back, always the slow way.

A replica is away as long as anything holds it: something it needs has failed, or nobody wants it.
Then its servers boot, if they were off, its weights come along a road that all who load share, the
engine starts, and requests may be sent to it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from factory_sim.factory.engine.request import Request
from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.network.weights import Road
from factory_sim.factory.replica import Replica
from factory_sim.factory.servers import Servers
from factory_sim.factory.timetable import CONTROL, Timetable

UNWANTED = "unwanted"
"""Why a replica is away that nobody wants; all other reasons are failures."""


class Place(NamedTuple):
    """A replica and what it stands on. road: how weights come to it."""

    fleet: Fleet
    gateway: Gateway
    replica: Replica
    gpus: frozenset[int]
    bay: int
    road: Road


class Presence:
    """Holds replicas back and lets them come again.

    places: every replica of the site; a replica is known by its place among them. servers: those
    that are switched off with the replicas on them.
    """

    def __init__(
        self, env: Timetable, facility: Facility, places: Sequence[Place], servers: Servers
    ) -> None:
        self._env, self._facility, self._servers = env, facility, servers
        self.places = tuple(places)
        self._held: list[set[str]] = [set() for _ in places]  # why each replica is away
        self._empty: set[int] = set()  # those that have lost their weights
        self._cold: set[int] = set()  # those not wanted since they were last up
        self._tries = [0 for _ in places]  # how often each has begun to come back
        self._transfers: dict[int, int] = {}  # of those whose weights are on their way
        self.opened: dict[int, Callable[[], None]] = {}  # whom to tell when one serves

    def failed(self, index: int) -> bool:
        """Tell whether something that a replica needs has failed."""
        return bool(self._held[index] - {UNWANTED})

    def stop(self, behind: Iterable[int], why: str, cut_off: bool = False) -> tuple[int, int]:
        """Stop replicas all at once, because of `why`, then send what they lost to others.

        cut_off: out of reach only; they keep their weights. Return how many were not away
        already, and the requests they lost.
        """
        lost_by: list[tuple[Place, list[Request]]] = []
        for index in behind:
            place, held = self.places[index], self._held[index]
            there = not held
            held.add(why)
            if not cut_off:
                self._empty.add(index)
            if there:
                self._give_up(index)
                lost_by.append((place, place.gateway.fail(place.replica, self._dark(index))))
            if why == UNWANTED:
                self._cold.add(index)
                place.replica.absence.go("stopped", self._env.now, self._dark(index))
                self._servers.leave(index)
        self.settle()
        for place, lost in lost_by:
            place.gateway.resend(place.replica.number, lost)
        return len(lost_by), sum(len(lost) for _, lost in lost_by)

    def release(self, index: int, why: str) -> None:
        """Let `why` hold a replica no more."""
        held, replica = self._held[index], self.places[index].replica
        if why not in held:
            return
        held.discard(why)
        if held:
            if why == UNWANTED:
                replica.absence.go("down", self._env.now, self._dark(index))
        elif index in self._empty:
            self._return(index)
        else:
            self._serve(index)

    def settle(self) -> None:
        """Let replicas that are away know whether they have power."""
        for index, place in enumerate(self.places):
            absence = place.replica.absence
            if absence.state and absence.dark != self._dark(index):
                absence.go(absence.state, self._env.now, self._dark(index))

    # -- inside ------------------------------------------------------------------------

    def _dark(self, index: int) -> bool:
        return self.places[index].bay in self._facility.dark or self._servers.off(index)

    def _return(self, index: int) -> None:
        """Come back: boot, if that is needed, load, start, serve."""
        self.places[index].replica.load("starting" if index in self._cold else "loading")
        self._tries[index] += 1
        this = self._tries[index]

        def going_on(step: Callable[[int], None]) -> Callable[..., None]:
            """Do a step unless it was given up meanwhile."""
            return lambda *_: step(index) if self._tries[index] == this else None

        def load(index: int) -> None:
            place = self.places[index]
            size = place.fleet.weight_bytes
            self._transfers[index] = place.road.send(size, ("weights", index), going_on(start))

        def start(index: int) -> None:
            del self._transfers[index]
            start_s = self.places[index].fleet.engine.start.value
            self._env.call(self._env.now + start_s, CONTROL, going_on(self._serve))

        ready_s = self._servers.join(index)
        self.settle()
        if ready_s > self._env.now:
            self._env.call(ready_s, CONTROL, going_on(load))
        else:
            load(index)

    def _give_up(self, index: int) -> None:
        """Come back no further."""
        self._tries[index] += 1
        if index in self._transfers:
            self.places[index].road.drop(self._transfers.pop(index))

    def _serve(self, index: int) -> None:
        self._empty.discard(index)
        self._cold.discard(index)
        self.places[index].replica.serve()
        if index in self.opened:
            self.opened[index]()
