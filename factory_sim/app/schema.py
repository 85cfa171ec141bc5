"""What the schema says of a field: its unit, an example, between what it lies, what words it takes.

Read off the models of a scenario, so that the page and the command line cannot disagree.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from factory_sim.scenario.scenario import Scenario

SAID = {"W": "W", "s": "s", "1/s": "requests/s", "USD/J": "USD/kWh", "g/J": "g/kWh", "degC": "°C"}
"""Units as people say them beside a field; others go by their own name."""

_ENDS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}


class Hint(NamedTuple):
    """unit: in SI, empty for a plain number or a text. example: of a value. limits: in words.
    words: that the field takes. about: what its model says of it."""

    unit: str
    example: str
    limits: str
    words: tuple[str, ...]
    about: str

    @property
    def help(self) -> str:
        """Return all of it in a sentence or two."""
        told = [f"{self.about[:1].upper()}{self.about[1:]}."] if self.about else []
        if self.limits:
            told.append(f"{self.limits[:1].upper()}{self.limits[1:]}.")
        if self.example:
            told.append(f"For example {self.example}.")
        return " ".join(told)


@cache
def hint(path: str) -> Hint:
    """Return what the schema says of the field at a dotted path. KeyError where there is none."""
    found = list(_fields(Scenario, path.split(".")))
    if not found:
        raise KeyError(path)
    model, name, field = found[0]
    marks = list(_marks(field.annotation)) + list(field.metadata)
    schemas = [s for m in marks if isinstance(s := getattr(m, "json_schema", None), dict)]
    unit = next((str(s["x-unit"]) for s in schemas if "x-unit" in s), "")
    examples = next((s["examples"] for s in schemas if s.get("examples")), [""])
    ends: dict[str, float] = {}
    for mark in marks:
        for end in _ENDS:
            if getattr(mark, end, None) is not None:
                ends.setdefault(end, getattr(mark, end))
    limits = " and ".join(
        text.format(f"{ends[end]:g}") for end, text in _ENDS.items() if end in ends
    )
    words = tuple(dict.fromkeys(word for f in found for word in _words(f[2].annotation)))
    return Hint(unit, str(examples[0]), limits, words, _about(model, name))


def _fields(model: Any, path: list[str]) -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """Yield the fields at a path, one for each arm of a union that has it."""
    first, *rest = path
    for kind in kinds_of(model):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                if (field.alias or name) == first:
                    if rest:
                        yield from _fields(field.annotation, rest)
                    else:
                        yield kind, first, field
            continue
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        inner = (
            parts[-1]
            if origin in (dict, Mapping)
            else parts[0]
            if origin in (tuple, list)
            else None
        )
        if inner is not None and rest:
            yield from _fields(inner, rest)


def kinds_of(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, and what an annotation is about."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from kinds_of(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for each in typing.get_args(annotation):
            yield from kinds_of(each)
    elif annotation is not type(None):
        yield annotation


def _marks(annotation: Any) -> Iterator[Any]:
    """Yield what is noted beside a type, in the parts of a union and the values of a signal too."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        for mark in parts[1:]:
            yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)
        parts = parts[:1]
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        parts = annotation.__pydantic_generic_metadata__["args"]  # of a signal: what it gives
    elif origin is Literal:
        return
    for part in parts:
        yield from _marks(part)


def _words(annotation: Any) -> Iterator[str]:
    for kind in kinds_of(annotation):
        if typing.get_origin(kind) is Literal:
            yield from map(str, typing.get_args(kind))


def _about(model: type[BaseModel], name: str) -> str:
    """Return what a model's docstring says of a field, as `name: so and so.`, if it does."""
    text = " ".join((model.__doc__ or "").split()).replace("`", "")
    found = re.search(rf"(?:^|[.;:] ){re.escape(name)}: (.+?)(?=[.;] [\w, ]+: |\.$|$)", text)
    return found[1] if found else ""
