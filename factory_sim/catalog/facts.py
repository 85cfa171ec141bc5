"""A fact: one figure of the catalogue, with its unit, its source and how it came about.

Like a label on a crate: the value, where it came from, and whether somebody measured it, printed it
in a datasheet, fitted it or guessed it.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BeforeValidator, Field

from factory_sim.frozen import Frozen
from factory_sim.units import Share

Precision = Literal["fp32", "bf16", "fp8", "int8", "int4", "nvfp4", "mxfp4"]
Kind = Literal["measured", "datasheet", "calibrated", "estimate"]
PositiveInt = Annotated[int, Field(gt=0)]
NaturalInt = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=0)]

T = TypeVar("T")


class Fact(Frozen, Generic[T]):
    """One figure: `value` in SI units, its `kind`, its `source` and, where needed, a `note`.

    error: its standard error as a share of the value, where a fit has found one. date: of what
    changes from month to month, as prices do: when it was so.
    """

    value: T
    kind: Kind
    source: Annotated[str, Field(min_length=1)]
    note: str = ""
    error: Share | None = None
    date: Annotated[str, BeforeValidator(str)] = ""
