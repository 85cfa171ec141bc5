"""Admit less: smaller batches draw less, so the sequences a replica may run are cut back."""

from __future__ import annotations

from factory_sim.factory.meter import Line, Reading
from factory_sim.scenario.site import Power


class Admit:
    """The level is the share of max_num_seqs that a replica may run at once.

    Over the limit it goes a step below what runs now; well under it, a step up a period.
    Running sequences are never thrown out, so it acts as they finish.
    """

    def __init__(self, power: Power) -> None:
        self._margin, self._step = power.margin, power.step

    def decide(self, level: float, reading: Reading, lines: list[Line]) -> float:
        """Return the share of each batch that may be filled."""
        target_w = reading.limit_w * (1.0 - self._margin)
        if reading.watts.grid > target_w:
            least = 1.0 / min(line.fleet.max_num_seqs for line in lines)
            return max(least, min(level, reading.batch_share) * (1.0 - self._step))
        if reading.watts.grid <= target_w * (1.0 - self._step):
            return min(1.0, level * (1.0 + self._step))
        return level

    def order(self, level: float, lines: list[Line]) -> None:
        """Bound the running sequences of every replica."""
        for line in lines:
            for replica in line.replicas:
                replica.set_max_running(max(1, round(level * line.fleet.max_num_seqs)))
