"""Numbers as a person reads them: three digits, a prefix, a unit."""

from __future__ import annotations

import math

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL = ((1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def number(value: float, digits: int = 3) -> str:
    """Return `value` rounded to `digits` significant digits, thousands set apart: `12,300`."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    # Rounding may carry into one more digit: 9.996 is 10.0, not 10.00.
    places = digits - 1 - math.floor(math.log10(abs(round(value, places))))
    return f"{round(value, places):,.{max(places, 0)}f}"


def with_unit(value: float, unit: str, digits: int = 3) -> str:
    """Return an SI `value` with the prefix that keeps it between 1 and 1000: `187 kW`."""
    size = abs(value)
    for factor, prefix in (*_PREFIXES, *_SMALL):
        # Half a unit of the last digit is what rounds 999.6 up to the next prefix.
        if size >= factor * (1 - 0.5 * 10.0**-digits):
            return f"{number(value / factor, digits)} {prefix}{unit}"
    return f"{number(value, digits)} {unit}"


def megawatts(value_mw: float) -> str:
    """Return megawatts with the prefix they deserve: a rack reads `41.2 kW`."""
    return with_unit(value_mw * 1e6, "W")


def percent(share: float) -> str:
    """Return a share as per cent, one decimal below ten: `6.2 %`, `44 %`."""
    value = 100.0 * share
    if value == 0:
        return "0 %"
    if 0 < value < 0.1:
        return "< 0.1 %"
    # What is not quite all must not read as all, nor a little as nothing.
    decimals = 1 if value < 9.95 or 99 < value < 100 else 0
    return f"{math.floor(value * 10) / 10 if 99.9 < value < 100 else value:.{decimals}f} %"


def duration(seconds: float) -> str:
    """Return a time span as a person would say it: `250 ms`, `4.5 s`, `1 h 5 min`."""
    if seconds < 59.95:
        return trimmed(with_unit(seconds, "s"))
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h" + (f" {minutes} min" if minutes else "")


def trimmed(text: str) -> str:
    """Return a figure with its unit without the zeros that end it: `2.50 s` becomes `2.5 s`."""
    figure, space, unit = text.partition(" ")
    return f"{figure.rstrip('0').rstrip('.') if '.' in figure else figure}{space}{unit}"


_LONG_TIMES = (("years", 365.25 * 86_400.0), ("days", 86_400.0), ("h", 3600.0))
"""In which a time is said that is no longer one of minutes, the longest first."""


def plain_value(value: object) -> str:
    """Return a figure of a file for reading: `'9.89e14 flop/s'` becomes `989 Tflop/s`.

    Whole numbers below a billion keep every digit, other numbers four (`70.55 bn`); text that
    is no quantity stays.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if abs(value) >= 1e9:
            return f"{value / 1e9:.4g} bn"
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
    text = str(value)
    figure, _, unit = text.partition(" ")
    try:
        size = float(figure)
    except ValueError:
        return text
    if unit == "degC":
        return f"{figure.removesuffix('.0')} C"
    if unit == "s" and size >= 3600.0:
        name, length_s = next((n, at) for n, at in _LONG_TIMES if size >= at)
        return f"{size / length_s:,.4g} {name}"
    if unit in _PRICES:
        name, factor = _PRICES[unit]
        return f"{size * factor:,.4g} {name}" if size * factor < 1e4 else f"{size:,.0f} {name}"
    if unit not in _SHORT_UNITS:
        return text
    return trimmed(with_unit(size, _SHORT_UNITS[unit], digits=4))


_YEAR_S = 365.25 * 86_400.0
_PRICES = {
    "USD": ("USD", 1.0),
    "USD/s": ("USD/h", 3600.0),
    "USD/token": ("USD/Mtoken", 1e6),
    "USD/W": ("MUSD/MW", 1.0),
    "USD/W/s": ("USD/kW/year", 1e3 * _YEAR_S),
    "kg": ("kg", 1.0),
}
"""Units of prices as people say them, and how many of them are one of the file's."""

_SHORT_UNITS = {
    "s": "s",
    "W": "W",
    "byte": "B",
    "byte/s": "B/s",
    "flop/s": "flop/s",
    "Hz": "Hz",
    "1/s": "/s",
}
