"""The values that a field takes along an axis of a sweep.

    [least-outstanding, round-robin]                    # any values, as the scenario takes them
    {from: 100 kW, to: 1 MW, steps: 4, spacing: log}    # `steps` in a grid, none where sampled
    {normal: {mean: 70 %, std: 5 %, low: 0 %, high: 100 %}}
    {lognormal: {median: 20 /s, sigma: 0.5}}
    {triangular: {low: 1 s, mode: 2 s, high: 5 s}}

A grid takes an axis by its levels; a sampled design draws a share between 0 and 1, and the axis
says which value has that share of all others below it. Ends that are whole numbers without a unit
give whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator
from scipy import stats

from factory_sim.frozen import Frozen
from factory_sim.units import in_unit, split


class Amount(NamedTuple):
    """A number, the unit it was written in, and whether it was written as a whole number."""

    value: float
    unit: str = ""
    whole: bool = False


def amount(given: Any) -> Amount:
    """Return what `20 MW`, 0.5 or 3 says; ValueError for anything else."""
    if isinstance(given, Amount):
        return given
    if isinstance(given, str):
        return Amount(*split(given))
    if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given):
        return Amount(float(given), "", isinstance(given, int))
    raise ValueError(f"{given!r} is no number; write for example 20, 0.5 or '20 MW'")


End = Annotated[
    Amount,
    BeforeValidator(amount),
    WithJsonSchema({"type": ["number", "string"], "examples": ["20 MW", 0.5, 3]}),
]


class _Amounts(Frozen):
    """Amounts that are all said in the unit of the first."""

    def _same_units(self, *amounts: Amount | None) -> list[float]:
        given = [each for each in amounts if each is not None]
        unit = given[0].unit
        return [in_unit(f"{each.value!r} {each.unit}".strip(), unit) for each in given]


class Range(_Amounts):
    """From one end to the other, both included, evenly or evenly in the logarithm."""

    from_: Annotated[End, Field(alias="from")]
    to: End
    steps: Annotated[int, Field(ge=2, le=10_000, strict=True)] | None = None
    spacing: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _orderly(self) -> Range:
        low, high = self._ends()
        if not low < high:
            raise ValueError("'to' must be more than 'from'")
        if self.spacing == "log" and low <= 0.0:
            raise ValueError("'from' must be more than 0 for 'spacing: log'")
        if self.steps is not None and len(set(self.levels())) < self.steps:
            raise ValueError(
                f"there are no {self.steps} different whole numbers in it; take fewer steps, or "
                "write its ends as 1.0"
            )
        return self

    def levels(self) -> list[Any]:
        """Return the values of a grid; none without `steps`."""
        if self.steps is None:
            return []
        low, high = self._ends()
        between = (self._between(index / (self.steps - 1)) for index in range(1, self.steps - 1))
        numbers = [low, *between, high]
        return [self._as_written(value) for value in numbers]

    def at(self, share: float) -> Any:
        """Return the value that has a share of the range below it."""
        if not self._whole:
            return self._as_written(self._between(share))
        low, high = self._ends()
        log = self.spacing == "log"
        found = low * ((high + 1.0) / low) ** share if log else low + share * (high + 1.0 - low)
        return min(math.floor(found), int(high))

    @property
    def _whole(self) -> bool:
        return self.from_.whole and self.to.whole

    def _ends(self) -> tuple[float, float]:
        low, high = self._same_units(self.from_, self.to)
        return low, high

    def _between(self, share: float) -> float:
        low, high = self._ends()
        log = self.spacing == "log"
        value = low * (high / low) ** share if log else low + share * (high - low)
        return _rounded(value, low, high)

    def _as_written(self, value: float) -> Any:
        return round(value) if self._whole else _written(value, self.from_.unit)


class NormalShape(_Amounts):
    """Mean and standard deviation; cut off at `low` and `high` where they are given."""

    mean: End
    std: End
    low: End | None = None
    high: End | None = None

    @model_validator(mode="after")
    def _orderly(self) -> NormalShape:
        _, std, low, high = self.numbers()
        if std <= 0.0:
            raise ValueError("'std' must be more than 0")
        if not low < high:
            raise ValueError("'high' must be more than 'low'")
        return self

    def numbers(self) -> tuple[float, float, float, float]:
        """Return mean, std, low and high in one unit; infinite where there is no bound."""
        unit = self.mean.unit
        bounds = [
            open_end if end is None else self._same_units(Amount(0.0, unit), end)[1]
            for end, open_end in ((self.low, -math.inf), (self.high, math.inf))
        ]
        mean, std = self._same_units(self.mean, self.std)
        return mean, std, bounds[0], bounds[1]


class Normal(Frozen):
    """A normal distribution."""

    normal: NormalShape

    def at(self, share: float) -> Any:
        """Return the value that has a share of the distribution below it."""
        mean, std, low, high = self.normal.numbers()
        drawn = stats.truncnorm.ppf(share, (low - mean) / std, (high - mean) / std, mean, std)
        return _written(_rounded(drawn, low, high), self.normal.mean.unit)


class LognormalShape(_Amounts):
    """A median, and the standard deviation of the logarithm."""

    median: End
    sigma: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _positive(self) -> LognormalShape:
        if self.median.value <= 0.0:
            raise ValueError("'median' must be more than 0")
        return self


class Lognormal(Frozen):
    """A lognormal distribution."""

    lognormal: LognormalShape

    def at(self, share: float) -> Any:
        """Return the value that has a share of the distribution below it."""
        median, sigma = self.lognormal.median, self.lognormal.sigma
        value = median.value * math.exp(sigma * float(stats.norm.ppf(share)))
        return _written(_rounded(value), median.unit)


class TriangularShape(_Amounts):
    """The least, the likeliest and the most."""

    low: End
    mode: End
    high: End

    @model_validator(mode="after")
    def _orderly(self) -> TriangularShape:
        low, mode, high = self.numbers()
        if not (low <= mode <= high and low < high):
            raise ValueError("give 'low', 'mode' and 'high' in this order")
        return self

    def numbers(self) -> tuple[float, float, float]:
        """Return low, mode and high in one unit."""
        low, mode, high = self._same_units(self.low, self.mode, self.high)
        return low, mode, high


class Triangular(Frozen):
    """A triangular distribution: what three guesses amount to."""

    triangular: TriangularShape

    def at(self, share: float) -> Any:
        """Return the value that has a share of the distribution below it."""
        low, mode, high = self.triangular.numbers()
        drawn = stats.triang.ppf(share, (mode - low) / (high - low), low, high - low)
        return _written(_rounded(drawn, low, high), self.triangular.low.unit)


_FORMS = {"from": Range, "normal": Normal, "lognormal": Lognormal, "triangular": Triangular}


def _form_of(given: Any) -> str | None:
    if isinstance(given, tuple(_FORMS.values())):
        return type(given).__name__
    if isinstance(given, list):
        return "list[values]"
    found = [f.__name__ for key, f in _FORMS.items() if isinstance(given, Mapping) and key in given]
    return found[0] if found else None


Values = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("list[values]")]
    | Annotated[Range, Tag("Range")]
    | Annotated[Normal, Tag("Normal")]
    | Annotated[Lognormal, Tag("Lognormal")]
    | Annotated[Triangular, Tag("Triangular")],
    Discriminator(
        _form_of,
        custom_error_type="axis_form",
        custom_error_message="must be a list of values, or a mapping with one of the keys "
        f"{', '.join(_FORMS)}",
    ),
]
"""What a field takes along an axis."""


class Together(Frozen):
    """Fields that move together: all take their first values, then all their second, ..."""

    fields: Annotated[dict[str, Values], Field(min_length=2)]

    @model_validator(mode="after")
    def _as_many(self) -> Together:
        counts = {path: len(levels(each)) for path, each in self.fields.items() if levels(each)}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"'{path}' has {count}" for path, count in counts.items())
            raise ValueError(f"fields that move together need as many values each, but {told}")
        return self


Axis = Annotated[
    Annotated[Together, Tag("Together")] | Annotated[Values, Tag("list[one]")],
    Discriminator(
        lambda given: (
            "Together"
            if isinstance(given, Together) or (isinstance(given, Mapping) and "fields" in given)
            else "list[one]"
        )
    ),
]
"""The values of the field that the axis is named by, or of several that move together."""


def levels(values: Values) -> list[Any]:
    """Return the values of an axis in a grid; none where it has no levels."""
    if isinstance(values, list):
        return values
    return values.levels() if isinstance(values, Range) else []


def at(values: Values, share: float) -> Any:
    """Return the value of an axis that has a share between 0 and 1 of all others below it."""
    if isinstance(values, list):
        return values[min(int(share * len(values)), len(values) - 1)]
    return values.at(share)


def extremes(values: Values) -> Sequence[Any]:
    """Return values enough to see whether a field takes what an axis gives it."""
    return levels(values) or [at(values, share) for share in (0.001, 0.5, 0.999)]


def _rounded(value: float, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a value to twelve digits, as many as anybody reads, and never out of its bounds."""
    return min(max(float(f"{value:.12g}"), low), high)


def _written(value: float, unit: str) -> Any:
    return f"{value!r} {unit}" if unit else value
