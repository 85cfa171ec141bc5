"""Power from the books of a run, and the unit of an axis: megawatts or kilowatts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_UNITS = ((1.0, "MW"), (1e-3, "kW"), (1e-6, "W"))


def power_scale(top_mw: float) -> tuple[float, str]:
    """Return the megawatts of the unit that suits an axis up to `top_mw`, and its name."""
    return next(
        (scale, unit) for scale, unit in _UNITS if top_mw >= scale or scale == _UNITS[-1][0]
    )


def mean_mw(summary: Mapping[str, Any], account: str = "energy_mwh") -> dict[str, float]:
    """Return the mean power of each part of an account of energy over the measured window."""
    window = summary["window_s"]
    hours = (window["end"] - window["start"]) / 3600.0
    return {part: mwh / hours for part, mwh in summary.get(account, {}).items()}
