"""What every part of a scenario shares: it is frozen, strict, and its errors speak plainly."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from factory_sim.errors import InputError, Problem


class Frozen(BaseModel):
    """A part of a scenario: immutable once read, unknown keys refused, no NaN, no infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False
    )


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], given: Mapping[str, Any], context: Any = None) -> M:
    """Return `given` as a `model`, or raise InputError with every problem pydantic found."""
    try:
        return model.model_validate(given, context=context)
    except ValidationError as error:
        raise InputError(plain_problems(error, model)) from None


def plain_problems(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return what is wrong as a person would say it: one problem for each thing to mend.

    The branches of a union become one sentence. A list that is too short only because its
    items are wrong is no problem of its own. An InputError inside keeps its own problems, below
    the path where it was raised.
    """
    found: dict[str, list[str]] = {}
    for problem, item in zip(problems_of(error, model), error.errors(), strict=True):
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            for inner in cause.problems:
                path = ".".join(part for part in (problem.path, inner.path) if part)
                found.setdefault(path, []).append(inner.message)
        elif item["type"] != "too_short" or not item["input"]:
            found.setdefault(problem.path, []).append(problem.message)
    return [
        Problem(path, message) for path, messages in found.items() for message in _joined(messages)
    ]


def _joined(messages: list[str]) -> list[str]:
    """Return the messages of one field, those of the form 'must be X, not Y' made one."""
    first, *others = dict.fromkeys(messages)
    core, comma, given = first.rpartition(", not ")
    end = comma + given
    if not (core.startswith("must be ") and all(m.startswith("must be ") for m in others)):
        return [first, *others]
    if not all(message.endswith(end) for message in others):
        return [first, *others]
    parts = [core, *(m.removeprefix("must be ").removesuffix(end) for m in others)]
    return [", or ".join(parts) + end]


def problems_of(error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
    """Yield one Problem per pydantic error: dotted path, and a sentence that helps."""
    for item in error.errors(include_url=False):
        path, names, here = _walk(model, item["loc"])
        if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
            key = item["ctx"]["discriminator"].strip("'")
            kinds = ", ".join(f"'{kind}'" for kind in _kinds(here, key))
            said = f"is required but missing; it is one of {kinds}"
            if item["type"] == "union_tag_invalid":
                said = f"must be one of {kinds}, not '{item['ctx']['tag']}'"
            yield Problem(".".join([*path, key]), said)
            continue
        yield Problem(".".join(path), _sentence(item, names))


def _walk(model: Any, location: tuple[int | str, ...]) -> tuple[list[str], set[str], list[Any]]:
    """Follow an error location, dropping the union tags pydantic puts in between.

    Return the path as a person would write it, the keys known where it ends, and the types there.
    """
    path: list[str] = []
    here: list[Any] = [model]
    known: set[str] = set()
    for part in location:
        models = [m for m in _expand(here) if isinstance(m, type) and issubclass(m, BaseModel)]
        fields = [(f.alias or name, f) for m in models for name, f in m.model_fields.items()]
        known = {name for name, _ in fields}
        if len(models) > 1 and part in _tags(models):  # a tag may be called as a field of its arm
            here = [m for m in models if part in _tags([m])]
        elif part in known:
            path.append(str(part))
            here = [field.annotation for name, field in fields if name == part]
        elif part in {m.__name__ for m in models}:
            here = [m for m in models if m.__name__ == part]
        elif models and not _looks_like_tag(part) and not _containers(here):
            path.append(str(part))
            here = []
        elif _looks_like_tag(part):
            continue
        else:
            path.append(str(part))
            here = [_element(c) for c in _containers(here) if get_args(c)]
    return path, known, here


def _kinds(here: list[Any], key: str) -> Iterator[str]:
    """Yield what `key` may say, of models of which it tells which is meant."""
    for model in _expand(here):
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from get_args(model.model_fields[key].annotation)


def _element(container: Any) -> Any:
    """Return the type of a container's values: X of dict[str, X], list[X] and tuple[X, ...]."""
    return [part for part in get_args(container) if part is not Ellipsis][-1]


def _looks_like_tag(part: int | str) -> bool:
    return (
        isinstance(part, str)
        and any(c in part for c in "[(-")
        and part.startswith(
            (
                "function-",
                "tuple[",
                "list[",
                "dict[",
                "constrained-",
                "lax-or-strict",
                "is-instance",
                "literal[",
            )
        )
    )


def _expand(annotations: list[Any]) -> Iterator[Any]:
    for annotation in annotations:
        origin = get_origin(annotation)
        if origin is Union or (origin is not None and str(origin) == "<class 'types.UnionType'>"):
            yield from _expand(list(get_args(annotation)))
        elif hasattr(annotation, "__metadata__"):
            yield from _expand([annotation.__origin__])
        else:
            yield annotation


def _containers(annotations: list[Any]) -> list[Any]:
    return [a for a in _expand(annotations) if get_origin(a) in (dict, list, tuple, Mapping)]


def _tags(models: list[type[BaseModel]]) -> set[str]:
    return {
        tag
        for m in models
        for field in m.model_fields.values()
        for tag in get_args(field.annotation)
        if isinstance(tag, str)
    }


def _sentence(item: Any, known: set[str]) -> str:
    kind, given = item["type"], item.get("input")
    if kind == "extra_forbidden":
        name = str(item["loc"][-1])
        close = difflib.get_close_matches(name, sorted(known), n=1)
        guess = (
            f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(sorted(known))}"
        )
        return f"unknown key; {guess}"
    if kind == "missing":
        return "is required but missing"
    if kind in ("value_error", "assertion_error"):
        return str(item["ctx"]["error"])
    if kind == "too_short":
        return f"must hold at least {item['ctx']['min_length']}, not {item['ctx']['actual_length']}"
    text: str = _KINDS.get(kind) or _must(item["msg"])
    if given is None:
        text += ", and is empty"
    elif isinstance(given, str | int | float | bool):
        text += f", not {given!r}"
    return text


def _must(message: str) -> str:
    return message.replace("Input should", "must").replace("String should", "must")


_KINDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(
        ("model_type", "dict_type", "model_attributes_type"), "must be a mapping of keys and values"
    ),
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list"),
    "string_type": "must be a text",
    "finite_number": "must be a finite number",
}
"""What pydantic says in a programmer's words, by the kind of its error."""
