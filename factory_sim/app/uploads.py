"""What strangers may send: scenarios without bombs, and files that stay where they were put.

A scenario of the page names files by their bare names, of files that its user has sent. It never
sees another file of the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from factory_sim.errors import InputError, Problem
from factory_sim.scenario.load import anchored, files_of
from factory_sim.yaml_text import Loader, explained
from factory_sim.yaml_text import parse as parse_yaml

MOST_BYTES = 256_000
"""Of a scenario's text."""

MOST_DEPTH, MOST_PARTS = 30, 50_000
"""Of what is nested in a scenario, and of its keys and values."""

ENDINGS = (".csv", ".jsonl", ".json", ".epw")
"""Of the files that a scenario may name: traces, models, weather."""

_NAME = re.compile(r"[A-Za-z0-9][\w. +-]{0,99}")


def read_text(content: bytes, name: str) -> dict[str, Any]:
    """Return the keys and values of a scenario that was sent. InputError for what is none.

    name: of the file, for messages.
    """
    if len(content) > MOST_BYTES:
        size = f"{len(content) / 1e3:,.0f} kB"
        said = f"{size} are too much for a scenario (at most {MOST_BYTES / 1e3:,.0f} kB)"
        raise InputError(Problem(name, f"{said}; send a trace as a file of its own"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(Problem(name, "is no text in UTF-8; send the YAML file")) from None
    given = safe(text, name)
    if not isinstance(given, dict):
        raise InputError(Problem(name, "must hold keys and values, such as 'name: my-site'"))
    strange = next((key for key in given if not isinstance(key, str)), None)
    if strange is not None:
        raise InputError(Problem(name, f"has a key that is no text: {strange!r}"))
    return given


def safe(text: str, name: str) -> Any:
    """Return what a YAML text says. InputError for what is no YAML, or grows when it is read."""
    with explained(name):
        depth = parts = 0
        for event in yaml.parse(text, Loader=Loader):
            parts += isinstance(event, yaml.NodeEvent)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise InputError(
                    Problem(
                        name,
                        "refers to a part of itself (*name), which may grow without end; "
                        "write the part out",
                    )
                )
            if depth > MOST_DEPTH or parts > MOST_PARTS:
                said = (
                    f"is nested deeper than {MOST_DEPTH}" if depth > MOST_DEPTH else "is too long"
                )
                raise InputError(Problem(name, f"{said}; no scenario needs that"))
    return parse_yaml(text, name)


def file_name(name: str) -> str:
    """Return the name of a file that may be kept. InputError for another."""
    if not _NAME.fullmatch(name) or not name.lower().endswith(ENDINGS):
        known = ", ".join(ENDINGS)
        said = f"{name[:60]!r} will not do: letters, digits, '.', '-' and '_', and the ending"
        raise InputError(Problem("file", f"{said} one of {known}; rename it"))
    return name


def keep(folder: Path, name: str, content: bytes) -> Path:
    """Keep a file that was sent in its user's folder. InputError for a name that will not do."""
    target = folder / file_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def names(folder: Path) -> list[str]:
    """Return the files that a user has sent."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def homed(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a scenario's data with its files where they are kept.

    Raises InputError for each that is not one of those that its user has sent.
    """
    known = names(folder)
    strange = dict.fromkeys(str(path) for path in files_of(given) if str(path) not in known)
    if strange:
        sent = f"those sent are {', '.join(known)}" if known else "none was sent yet"
        raise InputError(
            Problem(_where(given, name), f"{name[:80]!r} is no file that you have sent; {sent}")
            for name in strange
        )
    return {**anchored(dict(given), folder)}


def _where(given: Any, name: str, path: str = "") -> str:
    """Return the dotted path of the field that names a file."""
    pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
    for key, value in pairs:
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, str) and str(Path(value)) == name:
            return here
        if isinstance(value, Mapping | list) and (found := _where(value, name, here)):
            return found
    return ""
