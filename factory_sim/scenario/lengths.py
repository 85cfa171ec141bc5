"""Lengths of prompts and answers in tokens, as a scenario or the catalogue gives them.

1000     {uniform: {low: 1, high: 90}}     {lognormal: {median: 300, sigma: 0.9}}
{quantiles: [[0, 10], [0.5, 200], [1, 4000]]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, TypeAdapter, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.signal_forms import OrPlain
from factory_sim.units import Share

ProperShare = Annotated[Share, Field(ge=0, le=1)]

Proportion = Annotated[Share, Field(gt=0, le=1e9)]
"""One of several parts in proportion to each other, of any sum that numbers can have."""

MOST_TOKENS = 2**30
"""Of a prompt, an answer, or an image: a request is kept in numbers of 32 bits, and no model's
context comes near it."""

Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS, strict=True)]


class Fixed(Frozen):
    """Always the same number of tokens. A plain integer in a file means this."""

    fixed: Tokens


class Range(Frozen):
    """Whole numbers from `low` to `high`, both included."""

    low: Tokens
    high: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.high < self.low:
            raise ValueError(f"high ({self.high}) must be at least low ({self.low})")
        return self


class Uniform(Frozen):
    """Every whole number in a range equally likely."""

    uniform: Range


class Spread(Frozen):
    """A lognormal: its median or its mean, and its sigma (of the logarithm) or its p99.

    max: longer draws count as `max`, as an engine's token limit cuts them.
    """

    median: Annotated[float, Field(gt=0)] | None = None
    mean: Annotated[float, Field(gt=0)] | None = None
    sigma: Annotated[float, Field(ge=0)] | None = None
    p99: Annotated[float, Field(gt=0)] | None = None
    max: Annotated[int, Field(ge=1, le=MOST_TOKENS, strict=True)] | None = None

    @model_validator(mode="after")
    def _determined(self) -> Spread:
        if (self.median is None) == (self.mean is None):
            raise ValueError("give either median or mean, for example {median: 300, sigma: 0.9}")
        if (self.sigma is None) == (self.p99 is None):
            raise ValueError("give either sigma or p99, for example {median: 300, p99: 2000}")
        self.log_parameters()
        return self

    def log_parameters(self) -> tuple[float, float]:
        """Return mean and standard deviation of the logarithm of the length."""
        z99 = 2.3263478740408408
        if self.median is not None:
            mu = math.log(self.median)
            if self.sigma is not None:
                return mu, self.sigma
            assert self.p99 is not None
            if self.p99 < self.median:
                raise ValueError(f"p99 ({self.p99:g}) lies below the median ({self.median:g})")
            return mu, (math.log(self.p99) - mu) / z99
        assert self.mean is not None
        if self.sigma is not None:
            return math.log(self.mean) - self.sigma**2 / 2.0, self.sigma
        assert self.p99 is not None
        # log p99 = log mean - sigma^2/2 + z sigma: the smaller root is the less extreme lognormal.
        gap = math.log(self.p99 / self.mean)
        inside = z99**2 - 2.0 * gap
        if gap < 0 or inside < 0:
            most = self.mean * math.exp(z99**2 / 2.0)
            raise ValueError(
                f"no lognormal of mean {self.mean:g} has p99 {self.p99:g}; it can lie between "
                f"{self.mean:g} and {most:.4g}"
            )
        sigma = z99 - math.sqrt(inside)
        return math.log(self.mean) - sigma**2 / 2.0, sigma


class Lognormal(Frozen):
    """A lognormal, rounded to whole tokens, at least one."""

    lognormal: Spread


class Quantiles(Frozen):
    """Points [share, tokens] of the quantile function from share 0 to 1, straight between them."""

    quantiles: Annotated[
        list[tuple[ProperShare, Annotated[float, Field(ge=0, le=MOST_TOKENS)]]],
        Field(min_length=2),
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Quantiles:
        shares = [share for share, _ in self.quantiles]
        tokens = [count for _, count in self.quantiles]
        if shares[0] != 0.0 or shares[-1] != 1.0:
            raise ValueError("the points must run from share 0 (shortest) to share 1 (longest)")
        if sorted(set(shares)) != shares or sorted(tokens) != tokens:
            raise ValueError("shares must increase and tokens must not decrease along the points")
        return self


_FORMS = {"fixed": Fixed, "uniform": Uniform, "lognormal": Lognormal, "quantiles": Quantiles}


def _form_of(given: Any) -> str | None:
    if isinstance(given, tuple(_FORMS.values())):
        return type(given).__name__
    found = [f.__name__ for key, f in _FORMS.items() if isinstance(given, Mapping) and key in given]
    return found[0] if found else None


def _plain_is_fixed(given: Any) -> Any:
    if isinstance(given, int) and not isinstance(given, bool):
        return {"fixed": given}
    return given


Length = Annotated[
    Annotated[Fixed, Tag("Fixed")]
    | Annotated[Uniform, Tag("Uniform")]
    | Annotated[Lognormal, Tag("Lognormal")]
    | Annotated[Quantiles, Tag("Quantiles")],
    Discriminator(
        _form_of,
        custom_error_type="length_form",
        custom_error_message="is no length; write a whole number of tokens, or a mapping with one "
        f"of the keys {', '.join(_FORMS)}",
    ),
    BeforeValidator(_plain_is_fixed),
    OrPlain(TypeAdapter(int)),
]


class Lengths(Frozen):
    """Prompt and output lengths, and how they hang together.

    rank_correlation: Spearman's, made by a Gaussian copula.
    """

    prompt: Length
    output: Length
    rank_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.0

    @model_validator(mode="after")
    def _at_least_one(self) -> Lengths:
        for name, length in (("prompt", self.prompt), ("output", self.output)):
            if shortest(length) < 1:
                raise ValueError(f"{name} can be {shortest(length):g} tokens; the least is 1")
        return self


class MeasuredLengths(Lengths):
    """Lengths of the catalogue: `n` requests of a published trace."""

    title: str
    kind: Literal["measured", "datasheet", "calibrated", "estimate"]
    source: str
    licence: str = ""
    n: Annotated[int, Field(ge=1)] | None = None
    note: str = ""


def shortest(length: Length) -> float:
    """Return the least that can be drawn."""
    if isinstance(length, Fixed):
        return length.fixed
    if isinstance(length, Uniform):
        return length.uniform.low
    if isinstance(length, Quantiles):
        return float(length.quantiles[0][1])
    return 1.0
