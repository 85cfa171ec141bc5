"""A result file opened and read by key, so that every problem names the file and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from factory_sim.errors import InputError, Problem

Key: TypeAlias = str | int


class Document:
    """A part of a result file: `name` for people, what it holds, and where in the file it is."""

    def __init__(self, name: str, data: Any, where: tuple[Key, ...] = ()) -> None:
        self.name = name
        self.data = data
        self.where = where

    @property
    def short(self) -> str:
        """Return the file's name without its folders."""
        return Path(self.name).name

    def get(self, *keys: Key) -> Any:
        """Return what lies under `keys`; None where a key is absent or its value is null."""
        found = self.data
        for key in keys:
            if isinstance(found, Mapping):
                found = found.get(str(key))
            elif isinstance(found, list) and isinstance(key, int) and key < len(found):
                found = found[key]
            else:
                return None
        return found

    def at(self, *keys: Key) -> Document:
        """Return the part under `keys`; its problems name the whole path."""
        return Document(self.name, self.get(*keys), self.where + keys)

    def number(self, *keys: Key) -> float | None:
        """Return a number, or None where there is none. InputError unless it is finite."""
        found = self.get(*keys)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self.error(keys, f"must be a number, not {found!r}")
        if not math.isfinite(found):
            raise self.error(keys, f"is {found}, which is no measurement")
        return float(found)

    def need(self, *keys: Key) -> float:
        """Return a number that must be there."""
        found = self.number(*keys)
        if found is None:
            raise self.error(keys, "is missing; the file is cut short, or of another version")
        return found

    def count(self, *keys: Key) -> int:
        """Return a whole number, 0 or more, that must be there."""
        found = self.need(*keys)
        if found != int(found) or found < 0:
            raise self.error(keys, f"must be a whole number, 0 or more, not {found:g}")
        return int(found)

    def error(self, keys: tuple[Key, ...], message: str) -> InputError:
        """Return the error that says `message` of what lies under `keys`."""
        path = ".".join(str(key) for key in self.where + keys)
        return InputError(Problem(f"{self.name}: {path}" if path else self.name, message))


def read_text(path: Path) -> str:
    """Return the text of a file, or raise InputError that says why not."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(Problem(str(path), "there is no such file")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), f"cannot be read: {error}")) from None


def read_json(path: Path) -> Document:
    """Return a JSON object read from `path`, or raise InputError."""
    return parse(str(path), read_text(path))


def parse(name: str, text: str) -> Document:
    """Return the JSON object in `text`. Raises InputError where it is none."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(Problem(f"{name}, line {error.lineno}", "is not valid JSON")) from None
    if not isinstance(data, dict):
        raise InputError(Problem(name, "must hold a JSON object, {...}"))
    return Document(name, data)


def in_folder(path: Path, usual: str) -> Path:
    """Return the file of the tool's `usual` name in a folder, or the file that `path` is."""
    return path / usual if path.is_dir() else path
