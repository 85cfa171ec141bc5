"""The power manager: it reads the meter, thinks about it, and gives orders that take time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from simpy import Environment, Event

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.meter import Meter
from factory_sim.factory.power.protocol import Policy, Shares
from factory_sim.factory.replica import Replica
from factory_sim.factory.rounds import Line
from factory_sim.scenario.site import Power


class Manager:
    """Runs a policy on the readings of every limited level, one each `period_s`, with their delays.

    shares: what each level allows each deployment, and after them each training job; a replica gets
    the least of the levels that stand between it and the feed, a job that of all its GPUs. guards:
    who else looks at the site after each reading.
    """

    def __init__(
        self,
        env: Environment,
        meter: Meter,
        policy: Policy,
        power: Power,
        period_s: float,
        guards: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.env, self.meter, self.policy, self._guards = env, meter, policy, guards
        self._limits = meter.facility.limits
        everyone = len(meter.lines) + len(meter.jobs)
        self.shares: list[Shares] = [(1.0,) * everyone for _ in self._limits]
        self._period_s = period_s
        self._late_s = power.telemetry_delay + power.actuation_delay
        behind = [frozenset(limit.bays) for limit in self._limits]
        self._above = {
            bay: [level for level, bays in enumerate(behind) if bay in bays]
            for bay in range(len(meter.facility.building.bays))
        }

        self._standing = [self._standings(line) for line in meter.lines]

    def _standings(self, line: Line) -> list[list[float]]:
        """Return, of each replica and level above it, its place among the deployment's there."""
        found: list[list[float]] = [[] for _ in line.replicas]
        for level in range(len(self._limits)):
            here = [n for n, bay in enumerate(line.bays) if level in self._above[bay]]
            for place, number in enumerate(here):
                found[number].append(place / len(here))
        return found

    def watch(self) -> Generator[Event, None, None]:
        """Read the meter once a period; give an order when the policy wants other shares."""
        while True:
            yield self.env.timeout(self._period_s)
            for level, reading in enumerate(self.meter.read()):
                shares = self.shares[level]
                if min(shares) < 1.0:
                    self.meter.levels[level].held_s += self._period_s
                wanted = self.policy.decide(shares, reading)
                if wanted != self.shares[level]:
                    self.env.process(self._order(level, wanted))
            self.guard()

    def guard(self) -> None:
        """Let everyone look at the site who does so after a reading."""
        for look in self._guards:
            look()

    def _order(self, level: int, shares: Shares) -> Generator[Event, None, None]:
        """The reading arrives late and the order takes time; then the shares hold."""
        yield self.env.timeout(self._late_s)
        self.shares[level] = shares
        for index, bay, replica, fleet in self._behind(level):
            allowed = [self.shares[above][index] for above in self._above[bay]]
            standing = self._standing[index][replica.number]
            beyond = any(at >= share - 1e-9 for at, share in zip(standing, allowed, strict=True))
            self.policy.order(replica, fleet, min(allowed), beyond)
        for index, job in enumerate(self.meter.jobs, start=len(self.meter.lines)):
            if not job.bays.keys().isdisjoint(self._limits[level].bays):
                above_any = {above for bay in job.bays for above in self._above[bay]}
                self.policy.slow(job, min(self.shares[above][index] for above in above_any))

    def _behind(self, level: int) -> Iterator[tuple[int, int, Replica, Fleet]]:
        """Yield the replicas behind a level, each with its deployment's index and its bay."""
        bays = self._limits[level].bays
        for index, line in enumerate(self.meter.lines):
            for replica, bay in zip(line.replicas, line.bays, strict=True):
                if bay in bays:
                    yield index, bay, replica, line.fleet
