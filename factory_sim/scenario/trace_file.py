"""A file of recorded requests, and which of its columns hold what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.lengths import ProperShare
from factory_sim.units import span


class Columns(Frozen):
    """Which columns (or keys) of a file hold what. Times count in `time_unit`.

    time_unit: a unit of time such as `ms`, or `timestamp` for dates such as
    2023-11-16 18:15:46.6805900. hashes: a list of what the prompt's blocks hold, one hash for
    every `hash_tokens` tokens from the first on, each saying what came before as well.
    """

    prompt: str
    output: str
    arrival: str | None = None
    cached: str | None = None
    session: str | None = None
    hashes: str | None = None
    hash_tokens: Annotated[int, Field(ge=1, strict=True)] | None = None
    time_unit: str = "s"

    @field_validator("time_unit")
    @classmethod
    def _is_a_time(cls, unit: str) -> str:
        if unit != "timestamp":
            try:
                span(unit)
            except ValueError:
                raise ValueError(
                    f"{unit!r} is no unit of time; write for example 'ms', or 'timestamp' for dates"
                ) from None
        return unit

    @model_validator(mode="after")
    def _hashes_are_whole(self) -> Columns:
        if (self.hashes is None) != (self.hash_tokens is None):
            raise ValueError(
                "hashes and hash_tokens belong together: the column, and the prompt tokens that "
                "each of its hashes covers, for example {hashes: hash_ids, hash_tokens: 512}"
            )
        if self.hashes is not None and self.cached is not None:
            raise ValueError(
                "cached says what is found in a prefix cache, and hashes let the run find out; "
                "name one of the two"
            )
        return self


TraceFormat = Literal[
    "auto", "azure", "factory", "mooncake", "burstgpt", "sharegpt", "csv", "jsonl"
]


class TraceFile(Frozen):
    """A file of recorded requests.

    format: `auto` tells by the header or the first record; `csv` and `jsonl` need `columns`.
    allow_malformed: share of rows that may be unusable; they are skipped and reported.
    """

    path: str
    format: TraceFormat = "auto"
    columns: Columns | None = None
    allow_malformed: ProperShare = 0.0

    @model_validator(mode="after")
    def _mapped(self) -> TraceFile:
        if self.format in ("csv", "jsonl") and self.columns is None:
            raise ValueError(
                f"format {self.format} needs columns, for example "
                "{arrival: time, prompt: input_tokens, output: output_tokens, time_unit: ms}"
            )
        if self.format not in ("csv", "jsonl", "auto") and self.columns is not None:
            raise ValueError(
                f"format {self.format} has known columns; drop columns, or write format: csv"
            )
        return self
