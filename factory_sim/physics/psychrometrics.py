"""Moist air: how cool water can get by evaporating into it (equations of ASHRAE, by PsychroLib)."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, NamedTuple

SEA_LEVEL_PA = 101_325.0


class Ambient(NamedTuple):
    """The air outside, degrees Celsius: of a dry thermometer, and of one with a wet bulb."""

    dry_c: float
    wet_c: float


@cache
def _library() -> Any:
    # Here, not at the top: only sites with weather need it. And as if there were no numba, with
    # which every process would compile it anew, for longer than all its work takes.
    there = {"numba": sys.modules["numba"]} if "numba" in sys.modules else {}
    sys.modules["numba"] = None  # type: ignore[assignment]
    try:
        import psychrolib
    finally:
        del sys.modules["numba"]
        sys.modules.update(there)
    psychrolib.SetUnitSystem(psychrolib.SI)
    return psychrolib


@cache
def wet_bulb_c(dry_c: float, humidity: float, pressure_pa: float = SEA_LEVEL_PA) -> float:
    """Return the wet-bulb temperature of air at `dry_c` with relative `humidity` (0 to 1)."""
    return float(_library().GetTWetBulbFromRelHum(dry_c, humidity, pressure_pa))


def humidity_of(dry_c: float, dew_c: float) -> float:
    """Return the relative humidity (0 to 1) of air at `dry_c` whose dew point is `dew_c`."""
    return float(_library().GetRelHumFromTDewPoint(dry_c, min(dew_c, dry_c)))
