"""GPUs that protect themselves: too hot, they lower their clock; hotter still, they stop.

Firmware looks at its own temperature all the time; here at each reading of the meter, and every
second while anything is warm or has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from simpy import Environment, Event

from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.meter import Meter
from factory_sim.factory.rounds import Line
from factory_sim.factory.training.job import Job, in_bays
from factory_sim.physics.power import PowerModel

STEP = 0.05
"""A step of the clock, as a share of the reference: an estimate, coarse beside NVIDIA's 15 MHz."""

BAND_K = 3.0
"""How far below its limit a GPU must be to take a step up again: an estimate."""

RESTART_K = 10.0
"""How far below its limit a GPU at rest must be for a bay that had stopped to start again: an
estimate; coolant that stands still stays too warm."""

PERIOD_S = 1.0
"""How often it looks while anything is warm: short beside the tens of seconds of coolant."""


class Clocked(Protocol):
    """GPUs of a bay that run at one clock: a replica's, or a job's."""

    @property
    def clock(self) -> float:
        """Return their clock."""

    def hold_clock(self, by: str, clock: float) -> None:
        """Run at `clock` at most."""


class Governor:
    """Holds the clocks of each bay at what its temperature allows.

    overheat, cooled: told when a bay stops for heat, and when it may start again.
    """

    def __init__(
        self,
        env: Environment,
        meter: Meter,
        lines: list[Line],
        overheat: Callable[[int], None],
        cooled: Callable[[int], None],
        jobs: Sequence[Job] = (),
    ) -> None:
        self._env, self._meter, self._watching = env, meter, False
        self._facility: Facility = meter.facility
        self._overheat, self._cooled = overheat, cooled
        bays = self._facility.building.bays
        self._limits = [
            (rack.enclosure.throttle.value, rack.enclosure.shutdown.value) for rack in bays
        ]
        self._steps = [0] * len(bays)  # down from the reference clock
        self._stopped: set[int] = set()
        self._running: list[list[tuple[Clocked, PowerModel]]] = [[] for _ in bays]
        self._last = [0] * len(bays)
        for line in lines:
            last = int((1.0 - line.fleet.power_curve.clock_floor.value) / STEP + 1e-9)
            for replica, bay in zip(line.replicas, line.bays, strict=True):
                self._running[bay].append((replica, line.fleet.power))
                self._last[bay] = max(self._last[bay], last)
        for bay, gpus, holding in in_bays(jobs):
            last = int((1.0 - holding.power_curve.clock_floor.value) / STEP + 1e-9)
            self._running[bay].append((gpus, holding.power))
            self._last[bay] = max(self._last[bay], last)

    def look(self) -> None:
        """Compare every bay with its limits, and go on doing so while there is cause to."""
        self._compare()
        self.mind()

    def mind(self) -> None:
        """Look every second from now on, until all is cool and works."""
        if not self._watching and self._uneasy():
            self._watching = True
            self._env.process(self._watch())

    def _watch(self) -> Generator[Event, None, None]:
        while self._uneasy():
            yield self._env.timeout(PERIOD_S)
            self._meter.account()
            self._compare()
        self._watching = False

    def _uneasy(self) -> bool:
        """Tell whether something has failed, or a bay is near its limit or held back for it."""
        warmth = self._facility.warmth
        near = zip(warmth.gpu_c, self._limits, strict=True)
        return (
            warmth.troubled
            or bool(self._stopped)
            or any(self._steps)
            or any(gpu_c > throttle_c - 2.0 * BAND_K for gpu_c, (throttle_c, _) in near)
        )

    def _compare(self) -> None:
        """Slow, stop or release every bay by its temperature.

        Down as many steps as needed at once, up one at a time. A bay stops when even the lowest
        clock would leave it too hot.
        """
        warmth = self._facility.warmth
        gpus_c = warmth.gpu_c
        for bay, (throttle_c, shutdown_c) in enumerate(self._limits):
            if bay in self._stopped:
                if warmth.resting_c(bay) < throttle_c - RESTART_K:
                    self._stopped.remove(bay)
                    self._cooled(bay)
            elif gpus_c[bay] > throttle_c:
                step = self._step_for(bay, throttle_c)
                if step == self._last[bay] and self._hot_at(bay, step) > shutdown_c:
                    self._stopped.add(bay)
                    self._overheat(bay)
                    step = 0
                self._set(bay, step)
            elif self._steps[bay] and self._hot_at(bay, self._steps[bay] - 1) < throttle_c - BAND_K:
                self._set(bay, self._steps[bay] - 1)

    def _step_for(self, bay: int, limit_c: float) -> int:
        """Return the steps down at which GPUs would stay below a limit, at most to the lowest."""
        for step in range(self._steps[bay], self._last[bay]):
            if self._hot_at(bay, step) <= limit_c:
                return step
        return self._last[bay]

    def _hot_at(self, bay: int, step: int) -> float:
        """Return how hot GPUs would be so many steps down, with the coolant as it is.

        What they draw above rest is taken to follow the clock as their power model says.
        """
        running = self._running[bay]
        if not running:
            return self._facility.warmth.gpu_c[bay]
        power = running[0][1]
        now = sum(replica.clock for replica, _ in running) / len(running)
        held = 1.0 - self._steps[bay] * STEP
        wanted = 1.0 - step * STEP
        if now < held - 1e-9:  # something else holds clocks lower than heat does
            wanted = min(wanted, now)
        return self._facility.warmth.gpu_c_at(
            bay, power.clock_factor(wanted) / power.clock_factor(now)
        )

    def _set(self, bay: int, step: int) -> None:
        if step == self._steps[bay]:
            return
        self._steps[bay] = step
        for replica, _ in self._running[bay]:
            replica.hold_clock("heat", 1.0 - step * STEP)
