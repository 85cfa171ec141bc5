"""Values that an option cannot have, by what its type says that it can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import TypeAdapter

from tests.options.schema import Option

SIGNED = {"priority", "power_priority", "phase", "price"}
"""Numbers below zero are meant; power at a negative price is paid for by who makes it."""

FREE = {"name"}
"""Any text is meant."""

NOT_A_NUMBER = float("nan")


def wrong(option: Option) -> Iterator[Any]:
    """Yield values that the option must refuse."""
    field = option.model.model_fields[option.field]
    kind: Any = field.annotation
    for each in field.metadata:
        kind = Annotated[kind, each]
    told = TypeAdapter(kind).json_schema()
    forms = list(_forms(told, told.get("$defs", {})))
    kinds = {form.get("type") if isinstance(form.get("type"), str) else "share" for form in forms}
    units = [form["x-unit"] for form in forms if "x-unit" in form]
    yield [[["nonsense"]]]
    for unit in units:
        yield from (5, NOT_A_NUMBER, "5", "5 parsec" if unit != "K" else "5", "many", f"5 {unit}x")
        if option.field not in SIGNED:
            yield f"-1e6 {unit}"
    if kinds & {"integer", "number", "share"}:
        yield from ("many", NOT_A_NUMBER, "5 parsec")
        if option.field not in SIGNED:
            yield -1000000
    if "integer" in kinds and not kinds & {"number", "share"}:
        yield 1.5
    if "boolean" in kinds:
        yield "perhaps"
    if "string" in kinds and not units:
        yield 5 if not kinds & {"integer", "number", "share"} else "nonsense"
        if option.field not in FREE:
            yield "nonsense"
    if not kinds & {"string", "integer", "number", "share", "boolean"}:
        yield "nonsense"


def _forms(told: dict[str, Any], known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the plain alternatives of a JSON schema, without null."""
    if "$ref" in told:
        yield from _forms(known[told["$ref"].rpartition("/")[2]], known)
    elif "anyOf" in told or "oneOf" in told:
        for each in told.get("anyOf", told.get("oneOf", [])):
            yield from _forms(each, known)
    elif told.get("type") != "null":
        yield told
