"""The air outside, as the cooling plant feels it."""

from __future__ import annotations

from factory_sim.physics.psychrometrics import SEA_LEVEL_PA, Ambient, wet_bulb_c
from factory_sim.scenario.weather import Weather

PERIOD_S = 300.0
"""Weather is taken as constant for so long: it changes by tenths of a kelvin."""

LOOKS = 9000
"""How often a run's weather is looked at before it, at the most."""

INDOORS = Ambient(25.0, 18.0)
"""What a site without weather is given; a constant PUE does not look at it."""


class Climate:
    """The weather of a site, by time. None: a site that needs none."""

    def __init__(self, weather: Weather | None) -> None:
        self._weather = weather
        if weather is not None:
            self._dry, self._second, self._pressure = weather.signals()
            self._wet_given = weather.wet_bulb is not None

    def at(self, time_s: float) -> Ambient:
        """Return the air at a time; wet bulb at most dry bulb."""
        if self._weather is None:
            return INDOORS
        dry_c, second = self._dry.at(time_s), self._second.at(time_s)
        if self._wet_given:
            return Ambient(dry_c, min(second, dry_c))
        pressure_pa = SEA_LEVEL_PA if self._pressure is None else self._pressure.at(time_s)
        # A hundredth of a kelvin, a thousandth and 100 Pa apart is the same air.
        return Ambient(
            dry_c,
            min(dry_c, wet_bulb_c(round(dry_c, 2), round(second, 3), round(pressure_pa, -2))),
        )

    def hottest(self, end_s: float) -> Ambient:
        """Return the highest dry bulb and the highest wet bulb from 0 to `end_s`.

        The first is exact; the second is looked at whenever weather is taken anew (more seldom in
        runs of months) and at every jump.
        """
        if self._weather is None:
            return INDOORS
        steps = min(LOOKS, 1 + int(end_s // PERIOD_S))
        times = {end_s * step / steps for step in range(steps + 1)}
        for signal in (self._dry, self._second):
            times.update(signal.changes(end_s))
        wet_c = max(self.at(time).wet_c for time in sorted(times))
        return Ambient(self._dry.max_over(0.0, end_s), wet_c)
