"""What a GPU draws during a step: a function of how busy its compute and its memory are.

    power = idle + (tdp - idle) * clock_factor(f) * (1 - exp(-(a + C u_c + M u_m)))

u_c is the share of the step in which compute alone would be busy, u_m that in which bytes move,
to memory or over links, each counted for what it draws over one of plain weights (`Chip`); a stands
for kernels that run at all. The exponential saturates: the
busiest step comes near the board's limit and never passes it, so no watts are ever cut off.
Dynamic power goes with f V(f)^2: about f^2.4 while the voltage can fall, linear in f below its
floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from factory_sim.physics.step_time import Cost


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Board power of one GPU, watts. The three weights are of its family (catalogue)."""

    idle_w: float
    tdp_w: float
    active_weight: float
    compute_weight: float
    memory_weight: float
    clock_exponent: float
    voltage_floor: float

    def clock_factor(self, clock: float) -> float:
        """Return dynamic power at `clock` (share of the reference) over that at the reference."""
        if clock >= self.voltage_floor:
            return float(clock**self.clock_exponent)
        return float(self.voltage_floor**self.clock_exponent) * clock / self.voltage_floor

    def clock_for(self, factor: float) -> float:
        """Return the clock, at most the reference, whose dynamic power over that is `factor`."""
        if factor >= 1.0:
            return 1.0
        lowest = self.clock_factor(self.voltage_floor)
        if factor < lowest:
            return self.voltage_floor * factor / lowest
        return float(factor ** (1.0 / self.clock_exponent))

    def at(self, clock: float) -> StepPower:
        """Return the power of steps run at `clock`, where compute is busy for longer."""
        return StepPower(
            self.idle_w,
            (self.tdp_w - self.idle_w) * self.clock_factor(clock),
            self.active_weight,
            self.compute_weight / clock,
            self.memory_weight,
        )


@dataclass(frozen=True, slots=True)
class StepPower:
    """Board power at one clock; `span_w` is what the busiest step draws above idle."""

    idle_w: float
    span_w: float
    active_weight: float
    compute_weight: float
    memory_weight: float

    def energy_j(self, duration_s: float, busy_compute_s: float, busy_memory_s: float) -> float:
        """Return the joules of a step on one GPU, from its duration and its two busy times."""
        if duration_s <= 0.0:
            return 0.0
        busy_s = self.compute_weight * busy_compute_s + self.memory_weight * busy_memory_s
        activity = 1.0 - exp(-self.active_weight - busy_s / duration_s)
        return duration_s * (self.idle_w + self.span_w * activity)

    def power_w(self, cost: Cost) -> float:
        """Return the mean watts of one GPU over a step of this cost."""
        energy_j = self.energy_j(cost.duration_s, cost.busy_compute_s, cost.busy_memory_s)
        return energy_j / cost.duration_s
