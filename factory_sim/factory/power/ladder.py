"""A ladder of clocks: what policies that slow GPUs have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.meter import Reading
from factory_sim.factory.power.protocol import Shares
from factory_sim.factory.replica import Replica
from factory_sim.factory.training.holding import Holding
from factory_sim.factory.training.job import Job
from factory_sim.scenario.site import Power


class Rung(NamedTuple):
    """The clocks of decode steps and of those with prompts, as shares of the reference clock."""

    decode: float
    prompts: float


class Ladder:
    """Goes down the ladder when a level draws too much, and up again when there is room.

    ladder: the rungs from the reference clock down, for a step and how many of it there are above
    the lowest useful clock. A share is the place on it: 1 at the top, 0 on the lowest rung.
    Deployments of the lowest power_priority go first, down to their lowest, those of one priority
    together. Down as many rungs as needed at once, up one a period. What GPUs draw above rest is
    taken to follow the clock as their power model says, decode and prompts each by its part of a
    deployment's energy so far.
    """

    def __init__(
        self,
        power: Power,
        fleets: Sequence[Fleet | Holding],
        ladder: Callable[[float, int], list[Rung]],
    ) -> None:
        self._margin, self._fleets = power.margin, fleets
        self._ranks: list[list[int]] = [
            [i for i, fleet in enumerate(fleets) if fleet.spec.power_priority == priority]
            for priority in sorted({fleet.spec.power_priority for fleet in fleets})
        ]
        self._rungs: list[list[Rung]] = [[]] * len(fleets)
        for rank in self._ranks:
            floor = max(fleets[i].power_curve.clock_floor.value for i in rank)
            rungs = ladder(power.step, int((1.0 - floor) / power.step + 1e-9))
            for index in rank:
                self._rungs[index] = rungs
        self._place_of = {fleet.name: index for index, fleet in enumerate(fleets)}

    def decide(self, shares: Shares, reading: Reading) -> Shares:
        """Return where on the ladder everyone is to stand."""
        target_w = reading.limit_w * (1.0 - self._margin)
        under = reading.watts <= target_w * (1 + 1e-9)  # a battery keeps to the very watt
        if under and min(shares) == 1.0:
            return shares
        room_w = target_w - reading.rest_w
        expected_w = self._expectation(shares, reading)
        steps = [self._step(rank[0], shares[rank[0]]) for rank in self._ranks]

        def fits() -> bool:
            pairs = zip(self._ranks, steps, strict=True)
            return sum(expected_w(i, step) for rank, step in pairs for i in rank) <= room_w

        if under:  # give back a step to the highest priority that is slowed
            for rank in reversed(range(len(steps))):
                if steps[rank]:
                    steps[rank] -= 1
                    if not fits():
                        steps[rank] += 1
                    break
        else:
            for rank, members in enumerate(self._ranks):
                last = len(self._rungs[members[0]]) - 1
                while steps[rank] < last and not fits():
                    steps[rank] += 1
        found = list(shares)
        for members, step in zip(self._ranks, steps, strict=True):
            for index in members:
                found[index] = self._share(index, step)
        return tuple(found)

    def order(self, replica: Replica, fleet: Fleet, share: float, beyond: bool) -> None:
        """Set both clocks of a replica."""
        index = self._place_of[fleet.name]
        replica.hold_clock("power", *self._rungs[index][self._step(index, share)])

    def slow(self, job: Job, share: float) -> None:
        """Set the clock of a job: that of steps with prompts, which are arithmetic as well."""
        index = self._place_of[job.holding.name]
        job.hold_clock("power", self._rungs[index][self._step(index, share)].prompts)

    def _step(self, index: int, share: float) -> int:
        """Return how many rungs down a share stands."""
        return round((1.0 - share) * (len(self._rungs[index]) - 1))

    def _share(self, index: int, step: int) -> float:
        return 1.0 - step / (len(self._rungs[index]) - 1) if step else 1.0

    def _expectation(self, shares: Shares, reading: Reading) -> Callable[[int, int], float]:
        """Return what a deployment is expected to draw above rest so many rungs down."""
        parts = list(zip(self._rungs, reading.clocks(), reading.prompt_shares(), strict=True))
        at_top = [1.0] * len(parts)

        def factor(index: int, step: int) -> float:
            rungs, _, prompts = parts[index]
            rung, at = rungs[step], self._fleets[index].power.clock_factor
            ceiling = at_top[index]
            of_decode = (1.0 - prompts) * at(min(rung.decode, ceiling))
            return of_decode + prompts * at(min(rung.prompts, ceiling))

        # Where something else holds clocks lower than this policy does, it acts below that.
        for index, (rungs, now, _) in enumerate(parts):
            ordered = rungs[self._step(index, shares[index])]
            pairs = zip(now, ordered, strict=True)
            at_top[index] = min((clock for clock, own in pairs if clock < own - 1e-9), default=1.0)
        watts = reading.dynamic_w()
        full_w = [
            watts[index] / factor(index, self._step(index, shares[index]))
            for index in range(len(parts))
        ]
        return lambda index, step: full_w[index] * factor(index, step)
