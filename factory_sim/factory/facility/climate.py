"""The air outside, as the cooling plant feels it."""

from __future__ import annotations

import numpy as np

from factory_sim.physics.psychrometrics import SEA_LEVEL_PA, Ambient, wet_bulb_c
from factory_sim.scenario.weather import Weather

PERIOD_S = 300.0
"""Weather is taken as constant for so long: it changes by tenths of a kelvin."""

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
        """Return the highest dry bulb and the highest wet bulb from 0 to `end_s`, by the hour."""
        times = np.linspace(0.0, end_s, min(8785, 2 + int(end_s // 3600.0)))
        found = [self.at(float(time)) for time in times]
        return Ambient(max(air.dry_c for air in found), max(air.wet_c for air in found))
