"""Reading a scenario: YAML file, overrides from the command line, every problem at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import plain_problems
from factory_sim.scenario.moment import moment
from factory_sim.scenario.scenario import Scenario
from factory_sim.yaml_text import parse as parse_yaml
from factory_sim.yaml_text import read as read_yaml

_FILES = ("path", "csv", "catalog", "epw")
"""Keys whose values name files: a relative one starts from the scenario's own folder."""

_FILES_BY_ENDING = {"model": ".json", "profile": ".yaml"}
"""Keys whose values name files where they end so, and entries of the catalogue elsewhere."""


def load(
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    catalog: str | Path | None = None,
) -> Scenario:
    """Return the scenario in the YAML file at `path`; the built-in quickstart without one.

    overrides: texts `a.b.c=value` that replace single fields; a file named in one starts from
    the working directory. catalog: a folder with catalogue entries of the user's own.
    Raises InputError with every problem found.
    """
    source = Path(path) if path is not None else built_in("quickstart")
    given = anchored(read_mapping(source), source.resolve().parent)
    for text in overrides:
        _override(given, text)
    if catalog is not None:
        given["catalog"] = str(Path(catalog).resolve())
    return scenario_from(given)


def scenario_from(given: dict[str, Any]) -> Scenario:
    """Return the scenario that plain data describe, as read from YAML.

    Raises InputError with every problem found.
    """
    try:
        return _validated(given)
    except ValidationError as error:
        raise InputError(plain_problems(error, Scenario)) from None


def field_problems(given: dict[str, Any]) -> list[Problem]:
    """Return what is wrong with single fields, before any is held against the others."""
    try:
        _validated(given)
    except ValidationError as error:
        if any(item["loc"] for item in error.errors()):
            return plain_problems(error, Scenario)
    return []


def _validated(given: dict[str, Any]) -> Scenario:
    folder = given.get("catalog")
    if isinstance(folder, str) and not Path(folder).is_dir():
        raise InputError(
            Problem("catalog", f"{folder} is not a folder; give one that holds catalog files")
        )
    facts = load_catalog(Path(folder) if isinstance(folder, str) else None)
    context = {"catalog": facts, "base": Path(), "starts_at": _start(given.get("starts_at"))}
    return Scenario.model_validate(given, context=context)


def _start(given: Any) -> datetime | None:
    """Return the moment that dates count from, or None: reading it reports what is wrong."""
    try:
        return moment(given)
    except ValueError:
        return None


def built_in(name: str) -> Path:
    """Return the path of a scenario that ships with the package, such as `quickstart`."""
    shipped = Path(str(resources.files("factory_sim"))) / "configs" / f"{name}.yaml"
    checkout = Path(__file__).parents[2] / "configs" / f"{name}.yaml"
    return shipped if shipped.exists() else checkout


def to_yaml(scenario: Scenario) -> str:
    """Return the resolved scenario as YAML text that `load` reads back as the same scenario."""
    return yaml.safe_dump(plain(scenario), sort_keys=False, allow_unicode=True)


def plain(scenario: Scenario) -> dict[str, Any]:
    """Return the data of a scenario, of which `scenario_from` makes the same one.

    What was not said stays so: some fields are refused where they would have nothing to say, such
    as those of liquid cooling at a site without it.
    """
    found: dict[str, Any] = scenario.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    return found


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a scenario file, for editors."""
    return Scenario.model_json_schema()


def read_mapping(source: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file; InputError, which names it, for anything else."""
    given = read_yaml(source)
    if not isinstance(given, dict):
        raise InputError(Problem(str(source), "must hold keys and values, such as 'name: my-site'"))
    return given


def files_of(given: Any, key: Any = None) -> Iterator[Path]:
    """Yield the files and folders that a scenario's plain data name, at any depth."""
    if isinstance(given, dict):
        for name, value in given.items():
            yield from files_of(value, name)
    elif isinstance(given, list):
        for value in given:
            yield from files_of(value)
    elif isinstance(given, str) and _names_file(key, given):
        yield Path(given)


def anchored(given: Any, base: Path) -> Any:
    """Return the data with relative file names made absolute, from `base`."""
    if isinstance(given, dict):
        return {key: anchor(key, value, base) for key, value in given.items()}
    if isinstance(given, list):
        return [anchored(value, base) for value in given]
    return given


def anchor(key: Any, value: Any, base: Path) -> Any:
    """Return the value of a key with relative file names made absolute, from `base`."""
    if isinstance(value, str) and _names_file(key, value):
        return str(base / value)
    return anchored(value, base)


def _names_file(key: Any, value: str) -> bool:
    ending = _FILES_BY_ENDING.get(key) if isinstance(key, str) else None
    return key in _FILES or (ending is not None and value.endswith(ending))


def _override(given: dict[str, Any], text: str) -> None:
    """Replace one field in place by an override `a.b.c=value`."""
    path, equals, written = text.partition("=")
    if not equals or not path:
        raise InputError(Problem("--set", f"write it as path.to.field=value, not {text!r}"))
    value = parse_yaml(written, f"--set {text}")
    override(given, path, anchor(path.rpartition(".")[2], value, Path.cwd()), text)


def override(given: dict[str, Any], path: str, value: Any, text: str = "") -> None:
    """Replace the field at a dotted `path` in place. text: what the user wrote, for messages.

    Raises InputError where there is no such place.
    """
    text = text or f"{path}={value}"
    *parents, last = path.split(".")
    here: Any = given
    for depth, part in enumerate(parents):
        here = _step(here, part, ".".join(parents[: depth + 1]), text)
    if isinstance(here, list):
        index = _index(here, last, path)
        here[index] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise InputError(
            Problem(f"--set {path}", f"'{'.'.join(parents)}' holds the value {here!r}, no fields")
        )


def _step(here: Any, part: str, path: str, text: str) -> Any:
    if isinstance(here, list):
        return here[_index(here, part, path)]
    if isinstance(here, dict):
        if here.get(part) is None:
            here[part] = {}
        return here[part]
    raise InputError(Problem(f"--set {text}", f"'{path}' is inside a plain value"))


def _index(here: list[Any], part: str, path: str) -> int:
    if not part.isdigit() or int(part) >= len(here):
        raise InputError(
            Problem(
                f"--set {path}",
                f"'{part}' is no index of a list of {len(here)}; they count from 0",
            )
        )
    return int(part)
