"""Quantities at the edge: `20 MW` in a file becomes 20e6 watts inside, and back again.

Inside the package every quantity is an SI float (seconds, watts, joules, bytes, 1/s).
The annotated types below parse what a person writes; a bare number where a unit belongs
is an error that shows an example.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import pint
from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# Names, exponents and signs, and no second number: '1,200 MW' and '1 200 MW' are not 200 MW.
_UNIT = r"(?:1(?=\s*/))?(?:[^\W\d]\w*+|(?:\*\*|\^)\s*-?\d|[^\w,.:;'+-])*+"
_NUMBER_THEN_UNIT = re.compile(rf"({_NUMBER})\s*({_UNIT})")


@cache
def registry() -> pint.UnitRegistry[Any]:
    """The one pint registry, with the units of this trade added."""
    ureg: pint.UnitRegistry[Any] = pint.UnitRegistry(on_redefinition="ignore")
    for definition in ("USD = [currency]", "token = []", "request = []", "flop = []"):
        ureg.define(definition)
    # Who serves requests means these by rps and rpm; pint means turns, 6.28 radians each.
    for definition in ("rps = request / second = qps", "rpm = request / minute"):
        ureg.define(definition)
    return ureg


@cache
def parse(text: str, unit: str, example: str) -> float:
    """Return the magnitude of `text` in `unit`.

    Raises ValueError, with an example, unless `text` is a finite number followed by a
    unit of the same dimension.
    """
    hint = f"write for example '{example}'"
    match = _NUMBER_THEN_UNIT.fullmatch(text.strip())
    if not match:
        parted = ", and 1200.5 for 1,200.5" * bool(re.search(r"\d[,.' ]+\d", text))
        raise ValueError(f"{text!r} is not a number with a unit; {hint}{parted}")
    number, written = float(match[1]), match[2]
    if not written:
        raise ValueError(f"{text!r} has no unit; {hint}")
    try:
        value = float((number * registry().parse_expression(_pint(written))).to(unit).magnitude)
    except pint.DimensionalityError:
        raise ValueError(f"{text!r} has the wrong unit; {hint}") from None
    except Exception:
        # pint raises a dozen kinds of error for text that is no unit at all.
        raise ValueError(f"{text!r} has an unknown unit; {hint}") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number; {hint}")
    return value


def span(unit: str) -> float:
    """Return the seconds of a unit of time, or of so many: `ms`, `15 min`.

    Raises ValueError for what is neither, and for what is not above 0 s.
    """
    seconds = parse(unit if unit[:1].isdigit() else f"1 {unit}", "s", "15 min")
    if seconds <= 0.0:
        raise ValueError(f"{unit!r} is no time")
    return seconds


def split(text: str) -> tuple[float, str]:
    """Return number and unit of a text such as `20 MW`; the unit may be empty.

    Raises ValueError for a text that does not begin with a finite number.
    """
    match = _NUMBER_THEN_UNIT.fullmatch(text.strip())
    if not match or not math.isfinite(float(match[1])):
        raise ValueError(f"{text!r} is not a number with a unit; write for example '20 MW'")
    return float(match[1]), match[2]


def in_unit(text: str, unit: str) -> float:
    """Return the number that a text such as `2 MW` is in another unit, written as people do: `kW`.

    Raises ValueError where the two do not measure the same.
    """
    number, written = split(text)
    if written == unit:
        return number
    try:
        own, other = (registry().parse_expression(_pint(name)) for name in (written, unit))
        return float((number * own).to(other).magnitude)
    except Exception:
        # pint raises a dozen kinds of error for text that is no unit at all.
        raise ValueError(f"{text!r} cannot be said in {unit or 'a number without unit'}") from None


def _pint(unit: str) -> str:
    """Return a unit as pint reads it."""
    unit = unit.replace("%", "percent")
    return f"1{unit}" if unit.startswith("/") else unit or "1"


def quantity(unit: str, example: str) -> Any:
    """Return an annotated float type whose text form carries a unit, such as `20 MW`.

    unit: the SI unit kept inside. example: shown in errors and in the JSON schema.
    """

    def read(given: Any) -> float:
        if isinstance(given, str):
            return parse(given, unit, example)
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise ValueError(f"expected a number with a unit; write for example '{example}'")
        raise ValueError(f"{given} is a bare number; write for example '{example}'")

    def written(value: float | str) -> str:
        # A field that takes a word too ('neocloud') is asked by this first.
        return value if isinstance(value, str) else f"{value!r} {unit}"

    return Annotated[
        float,
        BeforeValidator(read),
        PlainSerializer(written, return_type=str),
        WithJsonSchema({"type": "string", "examples": [example], "x-unit": unit}),
    ]


def _read_celsius(given: Any) -> float:
    example = "write for example '25 degC'"
    if not isinstance(given, str):
        raise ValueError(f"{given!r} is not a temperature; {example}")
    match = _NUMBER_THEN_UNIT.fullmatch(given.strip().removesuffix("°C") + "degC" * ("°C" in given))
    if not match or not match[2]:
        raise ValueError(f"{given!r} is not a temperature with a unit; {example}")
    try:
        value = float(registry().Quantity(float(match[1]), match[2]).to("degC").magnitude)
    except Exception:
        raise ValueError(f"{given!r} is not a temperature; {example}") from None
    if not -90.0 <= value <= 150.0:
        raise ValueError(f"{given!r} is no temperature of air or water; {example}")
    return value


_PER_DEGREE = {"K": 1.0, "kelvin": 1.0, "degC": 1.0, "degF": 5.0 / 9.0}


def _read_span(given: Any) -> float:
    match = _NUMBER_THEN_UNIT.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None or match[2] not in _PER_DEGREE:
        raise ValueError(f"{given!r} is no difference of temperatures; write for example '6 K'")
    return float(match[1]) * _PER_DEGREE[match[2]]


def _read_share(given: Any) -> float:
    if isinstance(given, str) and given.strip().endswith("%"):
        try:
            return float(given.strip()[:-1]) / 100.0
        except ValueError:
            pass
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"{given!r} is not a share; write for example '70 %' or 0.7")
    return float(given)


if TYPE_CHECKING:
    # To a type checker a quantity is the float it becomes.
    Seconds: TypeAlias = float
    Watts: TypeAlias = float
    PerSecond: TypeAlias = float
    Bytes: TypeAlias = float
    BytesPerSecond: TypeAlias = float
    FlopPerSecond: TypeAlias = float
    Hertz: TypeAlias = float
    Share: TypeAlias = float
    Joules: TypeAlias = float
    Kelvins: TypeAlias = float
    Celsius: TypeAlias = float
    CelsiusSpan: TypeAlias = float
    PerJoule: TypeAlias = float
    GramsPerJoule: TypeAlias = float
    ThermalMass: TypeAlias = float
    WattsPerSecond: TypeAlias = float
    Dollars: TypeAlias = float
    DollarsPerSecond: TypeAlias = float
    DollarsPerToken: TypeAlias = float
    DollarsPerWatt: TypeAlias = float
    DollarsPerWattSecond: TypeAlias = float
    Kilograms: TypeAlias = float
else:
    Seconds = quantity("s", "250 ms")
    Watts = quantity("W", "20 MW")
    PerSecond = quantity("1/s", "150 /s")
    Bytes = quantity("byte", "80 GB")
    BytesPerSecond = quantity("byte/s", "450 GB/s")
    FlopPerSecond = quantity("flop/s", "989 Tflop/s")
    Hertz = quantity("Hz", "1.98 GHz")
    Joules = quantity("J", "2 MWh")
    Kelvins = quantity("K", "10 K")
    PerJoule = quantity("USD/J", "0.07 USD/kWh")
    GramsPerJoule = quantity("g/J", "300 g/kWh")
    ThermalMass = quantity("J/K/W", "2 J/K/W")
    WattsPerSecond = quantity("W/s", "1 MW/min")
    Dollars = quantity("USD", "30000 USD")
    DollarsPerSecond = quantity("USD/s", "1.41 USD/h")
    DollarsPerToken = quantity("USD/token", "3 USD/Mtoken")
    DollarsPerWatt = quantity("USD/W", "11.7 MUSD/MW")
    DollarsPerWattSecond = quantity("USD/W/s", "150 USD/kW/month")
    Kilograms = quantity("kg", "318 kg")
    Celsius = Annotated[
        float,
        BeforeValidator(_read_celsius),
        PlainSerializer(lambda value: f"{value!r} degC", return_type=str),
        WithJsonSchema({"type": "string", "examples": ["25 degC"], "x-unit": "degC"}),
    ]
    CelsiusSpan = Annotated[
        float,
        BeforeValidator(_read_span),
        PlainSerializer(lambda value: f"{value!r} K", return_type=str),
        WithJsonSchema({"type": "string", "examples": ["6 K"], "x-unit": "K"}),
    ]
    Share = Annotated[
        float,
        BeforeValidator(_read_share),
        WithJsonSchema({"type": ["number", "string"], "examples": ["70 %", 0.7]}),
    ]

Fraction = Annotated[Share, Field(ge=0, le=1)]
Efficiency = Annotated[Share, Field(gt=0, le=1)]
PositiveSeconds = Annotated[Seconds, Field(gt=0)]
NonNegativeSeconds = Annotated[Seconds, Field(ge=0)]
PositiveWatts = Annotated[Watts, Field(gt=0)]
NonNegativeWatts = Annotated[Watts, Field(ge=0)]
PositiveJoules = Annotated[Joules, Field(gt=0)]
PositivePerSecond = Annotated[PerSecond, Field(gt=0)]
