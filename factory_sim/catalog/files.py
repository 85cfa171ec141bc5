"""Reading the catalogue's YAML: a plain mapping of name to fields, never the same key twice."""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.yaml_text import read as read_yaml

SECTIONS = (
    "accelerators",
    "systems",
    "models",
    "engines",
    "efficiency",
    "power",
    "enclosures",
    "power_chains",
    "cooling",
    "failures",
    "fabrics",
    "gpu_prices",
    "site_costs",
    "token_prices",
    "lengths",
)

Fields = dict[str, Any]
Section = dict[str, Fields]


@cache
def built_in() -> dict[str, Section]:
    """Return the sections that ship with the package, read once and never changed."""
    return _sections(resources.files("factory_sim.catalog").joinpath("data"), "catalog")


def user_folder(folder: Path) -> dict[str, Section]:
    """Return the sections of a user's own folder; any of the files may be absent.

    Raises InputError for a folder that is none, and for a YAML file of another name.
    """
    if not folder.is_dir():
        raise InputError(Problem(str(folder), "is not a folder; give one that holds catalog files"))
    known = {f"{section}.yaml" for section in SECTIONS}
    strange = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in (".yaml", ".yml") and path.name not in known
    )
    if strange:
        raise InputError(
            Problem(str(folder / name), f"is no catalog file; known: {', '.join(sorted(known))}")
            for name in strange
        )
    return _sections(folder, str(folder))


def single_file(path: Path) -> Section:
    """Return the entries of one file on disk, or raise InputError naming it."""
    return _entries(read_yaml(path), str(path))


def _sections(folder: Traversable | Path, shown: str) -> dict[str, Section]:
    sections: dict[str, Section] = {}
    problems: list[Problem] = []
    for section in SECTIONS:
        file = folder.joinpath(f"{section}.yaml")
        if not file.is_file():
            continue
        path = f"{shown}/{section}.yaml"
        try:
            sections[section] = _entries(read_yaml(file, path), path)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return sections


def _entries(given: Any, path: str) -> Section:
    if given is None:
        return {}
    if not isinstance(given, dict):
        said = "must be a mapping of names to entries, such as 'h100-sxm: {...}'"
        raise InputError(Problem(path, said))
    for name, fields in given.items():
        if not isinstance(name, str) or not isinstance(fields, dict):
            said = f"entry {name!r} must be a mapping of fields, as '{{title: ...}}'"
            raise InputError(Problem(path, said))
    return given
