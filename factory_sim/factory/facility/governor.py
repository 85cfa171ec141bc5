"""GPUs that protect themselves: too hot, they lower their clock; hotter still, they stop.

Firmware looks at its own temperature; here once a reading of the meter.
"""

from __future__ import annotations

from collections.abc import Callable

from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.meter import Line

STEP = 0.05
"""A step of the clock, as a share of the reference: an estimate, coarse beside NVIDIA's 15 MHz."""

BAND_K = 3.0
"""How far below its limit a GPU must be to take a step up again: an estimate."""


class Governor:
    """Holds the clocks of each bay at what its temperature allows.

    overheat, cooled: told when a bay stops for heat, and when it may start again.
    """

    def __init__(
        self,
        facility: Facility,
        lines: list[Line],
        overheat: Callable[[int], None],
        cooled: Callable[[int], None],
    ) -> None:
        self._facility, self._overheat, self._cooled = facility, overheat, cooled
        bays = facility.building.bays
        self._limits = [
            (rack.enclosure.throttle.value, rack.enclosure.shutdown.value) for rack in bays
        ]
        self._clocks = [1.0] * len(bays)
        self._stopped: set[int] = set()
        self._floors = [
            min((_floor(line) for line in lines if bay in line.bays), default=1.0)
            for bay in range(len(bays))
        ]
        self._lines = lines

    def look(self) -> None:
        """Compare every bay with its limits."""
        for bay, gpu_c in enumerate(self._facility.warmth.gpu_c):
            throttle_c, shutdown_c = self._limits[bay]
            if gpu_c > shutdown_c and bay not in self._stopped:
                self._stopped.add(bay)
                self._overheat(bay)
                self._set(bay, 1.0)
            elif bay in self._stopped:
                if gpu_c < throttle_c - BAND_K:
                    self._stopped.remove(bay)
                    self._cooled(bay)
            elif gpu_c > throttle_c:
                self._set(bay, max(self._floors[bay], self._clocks[bay] - STEP))
            elif self._clocks[bay] < 1.0 and gpu_c < throttle_c - BAND_K:
                self._set(bay, min(1.0, self._clocks[bay] + STEP))

    def _set(self, bay: int, clock: float) -> None:
        clock = round(clock / STEP) * STEP
        if clock == self._clocks[bay]:
            return
        self._clocks[bay] = clock
        for line in self._lines:
            for replica, where in zip(line.replicas, line.bays, strict=True):
                if where == bay:
                    replica.hold_clock("heat", clock)


def _floor(line: Line) -> float:
    return line.fleet.power_curve.clock_floor.value
