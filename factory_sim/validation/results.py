"""Cases from the results of benchmark tools, several files of several tools at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.validation.readers import READERS

PROFILE = "vllm"
"""The engine profile of a result that names none, where its user names none either."""


def read_results(
    results: Mapping[str, Sequence[Path]], known: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the case documents of every file, by tool as READERS names it; ids made unique.

    known: what the user says of all of them (`readers.conditions.FACTS`, and `lengths`).
    Raises InputError with the problems of every file.
    """
    found: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for tool, paths in results.items():
        for path in paths:
            try:
                found += _read(tool, path, known)
            except InputError as error:
                problems += error.problems
    if problems:
        raise InputError(dict.fromkeys(problems))
    return _told_apart(found)


def _read(tool: str, path: Path, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        return READERS[tool](path, known)
    except InputError as error:
        engine = known.get("engine", {})
        if "profile" in engine or all(p.path != "engine.profile" for p in error.problems):
            raise
        # The file does not say either: it is the profile that a scenario has by default.
        return READERS[tool](path, {**known, "engine": {**engine, "profile": PROFILE}})


def _told_apart(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the documents with `-2`, `-3`, ... after an id that an earlier one has."""
    taken: set[str] = set()
    apart = []
    for document in documents:
        name, number = str(document["id"]), 2
        while name in taken:
            name, number = f"{document['id']}-{number}", number + 1
        taken.add(name)
        apart.append({**document, "id": name})
    return apart
