"""The weather of a scenario: signals of the air outside, typed in or from an EPW file.

weather: {dry_bulb: 25 degC, humidity: 50 %}                     # any signals
weather: {dry_bulb: {daily: [["05:00", 16 degC], ["15:00", 31 degC]]}, wet_bulb: 15 degC}
weather: {epw: frankfurt.epw}                                    # from `starts_at` on
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.calendar import repeats_s
from factory_sim.scenario.epw import read_epw
from factory_sim.scenario.moment import start_of
from factory_sim.scenario.signal import DAY_S, Signal
from factory_sim.scenario.signal_forms import signal_of
from factory_sim.units import Celsius, CelsiusSpan, Share

RelativeHumidity = Annotated[Share, Field(ge=0, le=1)]


class Weather(Frozen):
    """The air outside over time, by signals of degrees Celsius and shares of 1.

    dry_bulb, with humidity or wet_bulb; or epw: a file of a typical year in EnergyPlus's format,
    read from the hour of the year that the scenario's `starts_at` says.
    """

    dry_bulb: signal_of(Celsius, CelsiusSpan) | None = None  # type: ignore[valid-type]
    humidity: signal_of(RelativeHumidity) | None = None  # type: ignore[valid-type]
    wet_bulb: signal_of(Celsius, CelsiusSpan) | None = None  # type: ignore[valid-type]
    epw: str | None = None
    _year: tuple[Signal, Signal, Signal] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _says_all_and_once(self, info: ValidationInfo) -> Weather:
        typed = (self.dry_bulb, self.humidity, self.wet_bulb)
        if self.epw is not None:
            if any(given is not None for given in typed):
                raise ValueError("give either 'epw' or the signals dry_bulb and humidity, not both")
            starts_at = start_of(info.context)
            if starts_at is None:
                raise ValueError(
                    "an EPW file needs the moment at which the run starts; give the scenario "
                    "'starts_at', for example 'starts_at: 2025-07-15T14:00+02:00'"
                )
            self._year = read_epw(Path(self.epw), starts_at)
        elif self.dry_bulb is None or (self.humidity is None) == (self.wet_bulb is None):
            raise ValueError(
                "give dry_bulb with either humidity or wet_bulb, for example "
                "'{dry_bulb: 25 degC, humidity: 50 %}', or an 'epw' file"
            )
        if self.wet_bulb is not None:
            self._compare_bulbs()
        return self

    def _compare_bulbs(self) -> None:
        """Refuse a wet bulb that is always above the dry one; at times it is air full of water."""
        dry, wet, _ = self.signals()
        times = {900.0 * quarter for quarter in range(96)}
        times.update(dry.changes(DAY_S), wet.changes(DAY_S))
        if all(wet.at(time) > dry.at(time) + 1e-9 for time in times):
            raise ValueError(
                f"a wet bulb is never above the dry bulb, and {wet.at(0.0):g} degC is above "
                f"{dry.at(0.0):g} degC all day; mend one of them, or give 'humidity' instead"
            )

    @property
    def repeats_s(self) -> float:
        """Return how long it takes until most of it was seen: a year of a file, else a day."""
        if self.epw is not None:
            return 365.0 * DAY_S
        return max([DAY_S, *repeats_s(self.dry_bulb, self.humidity, self.wet_bulb)])

    def signals(self) -> tuple[Signal, Signal, Signal | None]:
        """Return dry bulb (C), wet bulb (C) or else humidity (0 to 1), and pressure (Pa).

        The second is a wet bulb exactly when `wet_bulb` was given; without pressure: sea level.
        """
        if self._year is not None:
            return self._year
        second: Any = self.humidity if self.wet_bulb is None else self.wet_bulb
        dry: Any = self.dry_bulb
        return dry, second, None
