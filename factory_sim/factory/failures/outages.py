"""Outages: a domain fails, replicas behind it lose what they had, and come back the slow way.

A replica is down as long as anything it needs is down. Then its weights come from storage, over
the pipe that all who load share, the engine starts, and requests may be sent to it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.failures.domains import CUTS, FEEDS, STOPS, Domain
from factory_sim.factory.fleet import Fleet
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.meter import Meter
from factory_sim.factory.pipe import Pipe
from factory_sim.factory.replica import Replica
from factory_sim.factory.request import Request
from factory_sim.factory.timetable import CONTROL, Timetable


class Place(NamedTuple):
    """A replica and what it stands on."""

    fleet: Fleet
    gateway: Gateway
    replica: Replica
    gpus: frozenset[int]
    bay: int
    servers: int


class Tally:
    """What one kind of failure has done: how often, replicas stopped, requests lost."""

    def __init__(self) -> None:
        self.failures = self.carried = self.stops = self.requests_lost = 0


class Outages:
    """Strikes domains and mends them.

    places: every replica. pipe: weights come through it; per_server: bytes a second that a server
    takes at the most. period_s: how often `look` is called.
    """

    def __init__(
        self,
        env: Timetable,
        meter: Meter,
        places: list[Place],
        pipe: Pipe,
        per_server: float,
        period_s: float,
    ) -> None:
        self._env, self._meter, self._places, self._period_s = env, meter, places, period_s
        self._facility: Facility = meter.facility
        self._pipe, self._per_server = pipe, per_server
        self._failed: Counter[str] = Counter()  # modules that are down, by domain
        self._held: list[set[str]] = [set() for _ in places]  # why each replica is down
        self._empty: set[int] = set()  # those that have lost their weights
        self._loads: dict[int, int] = {}  # transfers of those that load
        self._starts: dict[int, int] = {}  # calls that end their start
        self.cooling_changed: Callable[[], None] = lambda: None  # told of flow or plant
        self._alone: Domain | None = None  # the feed, while the site lives on without it
        self.tallies: dict[str, Tally] = {}

    def strike(self, domain: Domain) -> None:
        """Let a module of a domain fail."""
        tally = self.tallies.setdefault(domain.kind, Tally())
        tally.failures += 1
        self._failed[domain.name] += 1
        if self._failed[domain.name] <= domain.spares:
            tally.carried += 1
        elif self._failed[domain.name] == domain.spares + 1:
            if domain.kind == "feed" and self._lives_on(domain):
                return
            self._lose(domain, tally)

    def look(self) -> None:
        """End the site's life without feed when what carries it would not last until next time."""
        if self._alone is not None and not self._facility.holds_alone(
            self._env.now, self._period_s
        ):
            domain, self._alone = self._alone, None
            self._lose(domain, self.tallies[domain.kind])

    def mend(self, domain: Domain) -> None:
        """Let a failed module of a domain work again."""
        self._failed[domain.name] -= 1
        if self._failed[domain.name] == domain.spares:
            self._effect(domain, False)
            if self._alone is domain:
                self._alone = None
                self.tallies[domain.kind].carried += 1
                return
            for index, place in enumerate(self._places):
                if self._needs(place, domain):
                    self._release(index, domain.name)

    def overheat(self, bay: int) -> None:
        """Switch a bay off that is too hot."""
        tally = self.tallies.setdefault("heat", Tally())
        tally.failures += 1
        self._meter.account()
        self._facility.set_dark(f"heat in bay {bay}", frozenset([bay]))
        self._settle()
        behind = [index for index, place in enumerate(self._places) if place.bay == bay]
        self._stop(behind, "heat", False, tally)

    def cooled(self, bay: int) -> None:
        """Switch a bay on again that has cooled down, and start its replicas."""
        self._meter.account()
        self._facility.set_dark(f"heat in bay {bay}", frozenset())
        self._settle()
        for index, place in enumerate(self._places):
            if place.bay == bay:
                self._release(index, "heat")

    # -- inside ------------------------------------------------------------------------

    def _lives_on(self, feed: Domain) -> bool:
        """Tell whether battery and own generation carry the site, now that its feed is gone."""
        self._meter.account()
        self._facility.set_feed(False)
        if self._facility.holds_alone(self._env.now, self._period_s):
            self._alone = feed
        return self._alone is not None

    def _lose(self, domain: Domain, tally: Tally) -> None:
        """Let what stands behind a domain feel that it is gone."""
        self._effect(domain, True)
        behind = [i for i, place in enumerate(self._places) if self._needs(place, domain)]
        self._stop(behind, domain.name, domain.kind in CUTS, tally)

    @staticmethod
    def _needs(place: Place, domain: Domain) -> bool:
        if domain.kind in FEEDS:
            return place.bay in domain.bays
        if domain.kind in STOPS or domain.kind in CUTS:
            return not place.gpus.isdisjoint(domain.gpus)
        return False  # cooling acts by heat, storage by loads

    def _effect(self, domain: Domain, failing: bool) -> None:
        """Let the facility know of what it loses or gets back."""
        self._meter.account()
        if domain.kind == "feed" and failing:
            self._facility.go_black()
        elif domain.kind == "feed":
            self._facility.set_feed(True)
        elif domain.kind in FEEDS:
            self._facility.set_block(domain.name, not failing)
        if domain.kind in FEEDS or domain.kind == "rack":
            self._facility.set_dark(domain.name, domain.bays if failing else frozenset())
        elif domain.kind == "cdu":
            self._facility.warmth.set_flow(domain.bays, not failing)
            self.cooling_changed()
        elif domain.kind == "plant":
            self._facility.warmth.set_running(not failing)
            self.cooling_changed()
        elif domain.kind == "storage":
            self._pipe.set_open(not failing)
        self._settle()

    def _settle(self) -> None:
        """Let replicas that are down know whether they have power."""
        for place in self._places:
            absence = place.replica.absence
            dark = place.bay in self._facility.dark
            if absence.state and absence.dark != dark:
                absence.go(absence.state, self._env.now, dark)

    def _stop(self, behind: list[int], why: str, cut_off: bool, tally: Tally) -> None:
        """Stop replicas all at once, then send what they lost to others.

        cut_off: out of reach only; they keep their weights.
        """
        lost_by: list[tuple[Place, list[Request]]] = []
        for index in behind:
            place, held = self._places[index], self._held[index]
            held.add(why)
            if not cut_off:
                self._empty.add(index)
            if len(held) == 1 or place.replica.absence.state == "loading":
                self._stop_loading(index)
                dark = place.bay in self._facility.dark
                lost_by.append((place, place.gateway.fail(place.replica, dark)))
        for place, lost in lost_by:
            tally.stops += 1
            tally.requests_lost += len(lost)
            place.gateway.resend(place.replica.number, lost)

    def _release(self, index: int, why: str) -> None:
        place, held = self._places[index], self._held[index]
        held.discard(why)
        if held or place.replica.absence.state != "down":
            return
        if index not in self._empty:
            place.replica.serve()
            return
        place.replica.load()
        fleet = place.fleet
        size = float(fleet.memory.weight_bytes * fleet.gpus_per_replica)
        self._loads[index] = self._pipe.send(
            size, self._per_server * place.servers, lambda: self._start(index)
        )

    def _start(self, index: int) -> None:
        """Weights are there: start the engine."""
        del self._loads[index]
        place = self._places[index]
        at_s = self._env.now + place.fleet.engine.start.value

        def up(call: int) -> None:
            if self._starts.get(index) == call:
                del self._starts[index]
                self._empty.discard(index)
                place.replica.serve()

        self._starts[index] = self._env.call(at_s, CONTROL, up)

    def _stop_loading(self, index: int) -> None:
        if index in self._loads:
            self._pipe.drop(self._loads.pop(index))
        self._starts.pop(index, None)
