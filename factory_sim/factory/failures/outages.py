"""Outages: a domain fails, and replicas behind it are away until all that they need works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.failures.domains import CUTS, FEEDS, STOPS, Domain
from factory_sim.factory.meter import Meter
from factory_sim.factory.presence import Place, Presence
from factory_sim.factory.timetable import Timetable
from factory_sim.factory.training.job import Job


class Tally:
    """What one kind of failure has done: how often, replicas stopped, requests lost."""

    def __init__(self) -> None:
        self.failures = self.carried = self.stops = self.requests_lost = 0


class Outages:
    """Strikes domains and mends them.

    presence: of every replica. jobs: of training, which stop with any of their GPUs. period_s: how
    often `look` is called.
    """

    def __init__(
        self,
        env: Timetable,
        meter: Meter,
        presence: Presence,
        period_s: float,
        jobs: Sequence[Job] = (),
    ) -> None:
        self._jobs = jobs
        self._env, self._meter, self._period_s = env, meter, period_s
        self._presence, self._places = presence, presence.places
        self._facility: Facility = meter.facility
        self._failed: Counter[str] = Counter()  # modules that are down, by domain
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
                    self._presence.release(index, domain.name)
            for job in self._jobs_behind(domain):
                job.release(domain.name)

    def overheat(self, bay: int) -> None:
        """Switch a bay off that is too hot."""
        tally = self.tallies.setdefault("heat", Tally())
        tally.failures += 1
        self._meter.account()
        self._facility.set_dark(f"heat in bay {bay}", frozenset([bay]))
        self._presence.settle()
        behind = [index for index, place in enumerate(self._places) if place.bay == bay]
        self._stop(behind, "heat", False, tally)
        for job in self._jobs:
            if bay in job.bays:
                job.stop(f"heat in bay {bay}")

    def cooled(self, bay: int) -> None:
        """Switch a bay on again that has cooled down, and start its replicas."""
        self._meter.account()
        self._facility.set_dark(f"heat in bay {bay}", frozenset())
        self._presence.settle()
        for index, place in enumerate(self._places):
            if place.bay == bay:
                self._presence.release(index, "heat")
        for job in self._jobs:
            if bay in job.bays:
                job.release(f"heat in bay {bay}")

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
        for job in self._jobs_behind(domain):
            job.stop(domain.name)

    def _jobs_behind(self, domain: Domain) -> list[Job]:
        """Return the jobs that cannot go on without a domain."""
        if domain.kind in FEEDS:
            return [job for job in self._jobs if not domain.bays.isdisjoint(job.bays)]
        if domain.kind in STOPS or domain.kind in CUTS:
            return [job for job in self._jobs if job.holds(domain.gpus)]
        return []

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
            for road in {id(place.road): place.road for place in self._places}.values():
                road.set_open(not failing)
        self._presence.settle()

    def _stop(self, behind: list[int], why: str, cut_off: bool, tally: Tally) -> None:
        stops, lost = self._presence.stop(behind, why, cut_off)
        tally.stops += stops
        tally.requests_lost += lost
