"""Lower the clocks of decode steps first, and those of steps with prompts only after them.

Decode waits for memory and barely slows with the clock; prompts are arithmetic and do. Boards are
taken to change their clock between two steps.
"""

from __future__ import annotations

from factory_sim.factory.fleet import Fleet
from factory_sim.factory.meter import Reading
from factory_sim.factory.power.protocol import Shares
from factory_sim.factory.replica import Replica
from factory_sim.scenario.site import Power


class DecodeFirst:
    """A share runs from 1 down to 0: the first half lowers the clock of decode steps from the
    reference to the lowest useful one, the second half that of steps with prompts.

    What GPUs draw above rest follows the clock as in `Clock`, decode and prompts each by its part
    of a deployment's energy so far. All deployments are slowed together.
    """

    def __init__(self, power: Power, fleets: list[Fleet]) -> None:
        self._margin, self._step, self._fleets = power.margin, power.step, fleets
        floor = max(fleet.power_curve.clock_floor.value for fleet in fleets)
        self._each = int((1.0 - floor) / power.step + 1e-9)

    def decide(self, shares: Shares, reading: Reading) -> Shares:
        """Return how far down the two clocks are to go."""
        target_w = reading.limit_w * (1.0 - self._margin)
        under = reading.watts <= target_w * (1 + 1e-9)  # a battery keeps to the very watt
        if under and shares[0] == 1.0:
            return shares
        last = 2 * self._each
        now = round((1.0 - shares[0]) * last)
        room_w = target_w - reading.rest_w
        watts, prompts = reading.dynamic_w(), reading.prompt_shares()
        full_w = [
            one_w / self._factor(fleet, prompt, now)
            for one_w, fleet, prompt in zip(watts, self._fleets, prompts, strict=True)
        ]

        def fits(step: int) -> bool:
            parts = zip(full_w, self._fleets, prompts, strict=True)
            return sum(w * self._factor(fleet, share, step) for w, fleet, share in parts) <= room_w

        step = now
        if under:
            step -= fits(now - 1)
        else:
            while step < last and not fits(step):
                step += 1
        return (1.0 - step / last,) * len(shares)

    def order(self, replica: Replica, fleet: Fleet, share: float, beyond: bool) -> None:
        """Set both clocks of a replica."""
        replica.hold_clock("power", *self._clocks(round((1.0 - share) * 2 * self._each)))

    def _clocks(self, step: int) -> tuple[float, float]:
        """Return the clocks of decode steps and of those with prompts, so many steps down."""
        decode, prompts = min(step, self._each), max(0, step - self._each)
        return 1.0 - decode * self._step, 1.0 - prompts * self._step

    def _factor(self, fleet: Fleet, prompt_share: float, step: int) -> float:
        """Return dynamic power over that at the reference clock. prompt_share: of the energy."""
        decode, prompts = self._clocks(step)
        factor = fleet.power.clock_factor
        return prompt_share * factor(prompts) + (1.0 - prompt_share) * factor(decode)
