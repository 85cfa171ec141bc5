"""Every option of a scenario, read off its pydantic models, by a dotted path.

`*` stands for a name or an index. The arms of a union that a key tells apart are options of their
own, `services.*[cascade]`, and their fields follow, `services.*[cascade].escalate`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from factory_sim.app.schema import kinds_of
from factory_sim.scenario import Scenario

ONCE = {
    "steps": "shape",
    "daily": "shape",
    "sinusoid": "shape",
    "csv": "shape",
    "months": "shape",
    "week": "shape",
    "Fixed": "prompt",
    "Uniform": "prompt",
    "Lognormal": "prompt",
    "Quantiles": "prompt",
}
"""Forms of signals and of lengths: one reader turns them into a value wherever they stand, so that
their own fields are listed at the first field of this name alone."""

ALIKE = {"sites.*": "site", "workload.*.mix.*.lengths": "workload.*.lengths"}
"""Places that take what another takes."""


class Option(NamedTuple):
    """One field of the schema, or one arm of a union.

    words: what a text may say, if fixed. holds: whether it only holds options of its own. varies:
    whether it is a signal over time. model: whose field it is, by the name there.
    """

    path: str
    model: type[BaseModel]
    field: str = ""
    words: tuple[Any, ...] = ()
    holds: bool = False
    varies: bool = False


def options() -> dict[str, Option]:
    """Return every option by its path, in the order of the models."""
    return {option.path: option for option in _fields(Scenario, "", set())}


def _fields(model: type[BaseModel], path: str, told: set[str]) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        if name == _tag(model):
            continue  # the arm says it
        here = f"{path}.{field.alias or name}".lstrip(".")
        kinds = list(kinds_of(field.annotation))
        yield Option(
            here,
            model,
            name,
            tuple(word for kind in kinds for word in _words(kind)),
            all(_is_model(kind) or _element(kind) for kind in kinds)
            and not any(_form(kind) for kind in kinds),
            any(_form(kind) == "steps" for kind in kinds),
        )
        yield from _below(field.annotation, here, told)


def _below(annotation: Any, path: str, told: set[str]) -> Iterator[Option]:
    if path in ALIKE:
        return
    for kind in kinds_of(annotation):
        inner = _element(kind)
        if inner is not None:
            yield from _below(inner, f"{path}.*", told)
        elif _is_model(kind):
            form = _form(kind)
            if form is not None:
                if path.rpartition(".")[2] != ONCE[form] or form in told:
                    continue
                told.add(form)
            tag = _tag(kind)
            if tag is not None:
                (word,) = _words(kind.model_fields[tag].annotation)
                path_of_arm = f"{path}[{word}]"
                yield Option(path_of_arm, kind)
                yield from _fields(kind, path_of_arm, told)
            else:
                yield from _fields(kind, path, told)


def _element(kind: Any) -> Any:
    """Return what a list or a mapping holds, if it holds models."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin not in (list, tuple, dict, Mapping):
        return None
    inner = parts[1] if origin in (dict, Mapping) else parts[0]
    return inner if all(_is_model(k) for k in kinds_of(inner)) else None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _words(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _tag(model: type[BaseModel]) -> str | None:
    """Return the field whose one word tells the arm from the others of its union."""
    for name, field in model.model_fields.items():
        if len(_words(field.annotation)) == 1 and field.is_required():
            return name
    return None


def _form(kind: Any) -> str | None:
    """Return which form of a signal or a length this is."""
    if not _is_model(kind):
        return None
    name = kind.model_config.get("title") or kind.__name__
    return name if name in ONCE else None
