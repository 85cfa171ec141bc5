"""Whole numbers from a model's `config.json`, under whichever of their names it has."""

from __future__ import annotations

from typing import Any

from factory_sim.errors import InputError, Problem

Config = dict[str, Any]


def whole(config: Config, *keys: str) -> int:
    """Return the number under the first of `keys` that is there; InputError without one."""
    value = maybe(config, *keys)
    if value is None:
        also = f" (or {', '.join(keys[1:])})" if keys[1:] else ""
        raise InputError(Problem(keys[0], f"is required but missing{also}"))
    return value


def maybe(config: Config, *keys: str) -> int | None:
    """Return the number under the first of `keys` that is there; InputError for another thing."""
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(Problem(key, f"must be a whole number, not {value!r}"))
        return value
    return None
