"""Lower the clocks: the highest steps at which a level is expected to stay under its limit."""

from __future__ import annotations

from factory_sim.factory.fleet import Fleet
from factory_sim.factory.meter import Reading
from factory_sim.factory.power.protocol import Shares
from factory_sim.factory.replica import Replica
from factory_sim.scenario.site import Power


class Clock:
    """A share is the clock of a deployment's GPUs, as a share of the reference clock.

    What GPUs draw above rest is taken to follow the clock as their dynamic power does.
    Deployments of the lowest power_priority are slowed first, down to their floor, those of one
    priority together. Down as many steps as needed at once, up one step a period.
    """

    def __init__(self, power: Power, fleets: list[Fleet]) -> None:
        self._margin, self._step, self._fleets = power.margin, power.step, fleets
        by_rank: dict[int, list[int]] = {}
        for index, fleet in enumerate(fleets):
            by_rank.setdefault(fleet.spec.power_priority, []).append(index)
        self._ranks = [by_rank[rank] for rank in sorted(by_rank)]
        self._last = [
            int(
                (1.0 - max(fleets[i].power_curve.clock_floor.value for i in rank)) / self._step
                + 1e-9
            )
            for rank in self._ranks
        ]

    def decide(self, shares: Shares, reading: Reading) -> Shares:
        """Return the clocks to run at."""
        target_w = reading.limit_w * (1.0 - self._margin)
        under = reading.watts <= target_w * (1 + 1e-9)  # a battery keeps to the very watt
        if under and min(shares) == 1.0:
            return shares
        steps = [round((1.0 - shares[rank[0]]) / self._step) for rank in self._ranks]
        room_w = target_w - reading.rest_w
        # Where something else holds clocks lower than this policy does, its orders act below that.
        clocks = reading.clocks()
        held = [
            clock if clock < share - 1e-9 else 1.0
            for clock, share in zip(clocks, shares, strict=True)
        ]
        factors = [fleet.power.clock_factor for fleet in self._fleets]
        watts = reading.dynamic_w()

        def drawn_w(rank: int, step: int) -> float:
            wanted = 1.0 - step * self._step
            return sum(
                watts[i] * factors[i](min(wanted, held[i])) / factors[i](min(shares[i], held[i]))
                for i in self._ranks[rank]
            )

        def fits() -> bool:
            return sum(drawn_w(rank, step) for rank, step in enumerate(steps)) <= room_w

        if under:  # give back a step to the highest priority that is slowed
            for rank in reversed(range(len(steps))):
                if steps[rank]:
                    steps[rank] -= 1
                    if not fits():
                        steps[rank] += 1
                    break
        else:
            for rank, last in enumerate(self._last):
                while steps[rank] < last and not fits():
                    steps[rank] += 1
        found = list(shares)
        for members, step in zip(self._ranks, steps, strict=True):
            for index in members:
                found[index] = 1.0 - step * self._step
        return tuple(found)

    def order(self, replica: Replica, fleet: Fleet, share: float, beyond: bool) -> None:
        """Set the clock of a replica."""
        replica.hold_clock("power", share)
