"""A battery at the meter: it gives above the limit, and fills below it."""

from __future__ import annotations

from math import sqrt

from factory_sim.scenario.facility import Battery


class Storage:
    """What a battery holds, and the one rule of its dispatch.

    Half of what it loses goes on the way in, half on the way out (`efficiency` is of both).
    """

    def __init__(self, battery: Battery) -> None:
        self._power_w, self._energy_j = battery.power, battery.energy
        self._one_way = sqrt(battery.efficiency)
        self.held_j = battery.start * battery.energy

    def lasts(self, load_w: float, seconds: float) -> bool:
        """Tell whether it can carry a load alone for some seconds."""
        return load_w <= self.available_w(seconds)

    def available_w(self, seconds: float) -> float:
        """Return what it can give for so long."""
        return max(0.0, min(self._power_w, self.held_j * self._one_way / seconds))

    def carry(self, load_w: float, seconds: float) -> float:
        """Carry a load alone, whatever it is; return the watts that flow into it (below 0: out).

        Who asks it for more than it can give owes it the rest: see that it `lasts`.
        """
        if load_w <= 0.0:
            return self.take(load_w, 0.0, seconds)
        self.held_j -= load_w * seconds / self._one_way
        return -load_w

    def take(self, load_w: float, limit_w: float, seconds: float) -> float:
        """Return the watts that flow into it (below 0: out of it) beside a load, for some seconds.

        It keeps load and itself at the limit as far as its power and what it holds allow.
        """
        room_w = limit_w - load_w
        if room_w < 0.0:
            most_w = min(self._power_w, self.held_j * self._one_way / seconds)
            out_w = min(-room_w, most_w)
            self.held_j = max(0.0, self.held_j - out_w * seconds / self._one_way)
            return -out_w
        free_j = (self._energy_j - self.held_j) / self._one_way
        in_w = min(room_w, self._power_w, free_j / seconds)
        self.held_j = min(self._energy_j, self.held_j + in_w * seconds * self._one_way)
        return in_w
