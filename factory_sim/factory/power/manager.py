"""The power manager: it reads the meter, thinks about it, and gives orders that take time."""

from __future__ import annotations

from collections.abc import Generator

from simpy import Environment, Event

from factory_sim.factory.meter import Meter, Reading
from factory_sim.factory.power.protocol import Policy
from factory_sim.scenario.site import Power


class Manager:
    """Runs a policy on the meter's readings, with their delays."""

    def __init__(self, env: Environment, meter: Meter, policy: Policy, power: Power) -> None:
        self.env, self.meter, self.policy = env, meter, policy
        self.level = 1.0
        self._period_s = power.period
        self._late_s = power.telemetry_delay
        self._slow_s = power.actuation_delay

    def watch(self) -> Generator[Event, None, None]:
        """Read the meter once a period and answer every reading."""
        while True:
            yield self.env.timeout(self._period_s)
            self.env.process(self._answer(self.meter.read(), self.level))

    def _answer(self, reading: Reading, level: float) -> Generator[Event, None, None]:
        """Decide by a reading taken at `level` when it arrives; the order takes time too."""
        yield self.env.timeout(self._late_s)
        wanted = self.policy.decide(level, reading, self.meter.lines)
        if wanted == level:
            return
        yield self.env.timeout(self._slow_s)
        self.level = wanted
        self.policy.order(wanted, self.meter.lines)
