"""The unit of a power axis: megawatts for a site, kilowatts for a rack."""

from __future__ import annotations

_UNITS = ((1.0, "MW"), (1e-3, "kW"), (1e-6, "W"))


def power_scale(top_mw: float) -> tuple[float, str]:
    """Return the megawatts of the unit that suits an axis up to `top_mw`, and its name."""
    return next(
        (scale, unit) for scale, unit in _UNITS if top_mw >= scale or scale == _UNITS[-1][0]
    )
