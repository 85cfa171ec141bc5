"""A moment in the world: a date and a time with their offset from UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_EXAMPLE = "write for example '2025-07-15T14:00+02:00'"


def moment(given: Any) -> datetime:
    """Return the moment that ISO 8601 text names, or that YAML has read as one.

    Raises ValueError where it names none, or says no offset from UTC.
    """
    if isinstance(given, datetime):
        read = given
    else:
        try:
            read = datetime.fromisoformat(given)
        except (TypeError, ValueError):
            raise ValueError(f"{given!r} is no date and time; {_EXAMPLE}") from None
    if read.tzinfo is None:
        raise ValueError(f"{given!r} has no offset from UTC; {_EXAMPLE}")
    return read


def moments(texts: list[str], timezone: str | None) -> list[datetime]:
    """Return the moments of a column of a file; those without an offset are local to `timezone`.

    Local times that a change to winter time repeats are taken in turn: first summer, then winter.
    Raises ValueError, naming the first text that is wrong.
    """
    zone = _zone(timezone) if timezone else None
    found: list[datetime] = []
    for text in texts:
        try:
            read = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is no date and time; {_EXAMPLE}") from None
        if read.tzinfo is None:
            if zone is None:
                raise ValueError(
                    f"{text!r} has no offset from UTC; say which zone it is local to, for "
                    "example 'timezone: Europe/Berlin'"
                )
            read = read.replace(tzinfo=zone)
            if found and read.timestamp() <= found[-1].timestamp():
                read = read.replace(fold=1)
        found.append(read)
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no time zone; write a name such as 'Europe/Berlin' or 'UTC'"
        ) from None


def start_of(context: Any) -> datetime | None:
    """Return when the run starts, from the context in which a scenario is read."""
    given = context.get("starts_at") if isinstance(context, Mapping) else None
    return given if isinstance(given, datetime) else None


Moment = Annotated[
    datetime,
    BeforeValidator(moment),
    PlainSerializer(lambda value: value.isoformat(), return_type=str),
    WithJsonSchema({"type": "string", "examples": ["2025-07-15T14:00+02:00"]}),
]
