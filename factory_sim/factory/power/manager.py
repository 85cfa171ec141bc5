"""The power manager: it reads the meter, thinks about it, and gives orders that take time."""

from __future__ import annotations

from collections.abc import Generator

from simpy import Environment, Event

from factory_sim.factory.meter import Meter
from factory_sim.factory.power.protocol import Policy
from factory_sim.scenario.site import Power


class Manager:
    """Runs a policy on the meter's readings, with their delays."""

    def __init__(self, env: Environment, meter: Meter, policy: Policy, power: Power) -> None:
        self.env, self.meter, self.policy = env, meter, policy
        self.level = 1.0
        self._period_s = power.period
        self._late_s = power.telemetry_delay + power.actuation_delay

    def watch(self) -> Generator[Event, None, None]:
        """Read the meter once a period; give an order when the policy wants another level."""
        while True:
            yield self.env.timeout(self._period_s)
            wanted = self.policy.decide(self.level, self.meter.read(), self.meter.lines)
            if wanted != self.level:
                self.env.process(self._order(wanted))

    def _order(self, level: float) -> Generator[Event, None, None]:
        """The reading arrives late and the order takes time; then the level holds."""
        yield self.env.timeout(self._late_s)
        self.level = level
        self.policy.order(level, self.meter.lines)
