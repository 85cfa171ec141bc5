"""Reading the catalogue's YAML: a plain mapping of name to fields, never the same key twice."""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from factory_sim.errors import InputError, Problem

if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    # libyaml's parser where it is there: the catalogue loads in half the time.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

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


class _Loader(SafeLoader):
    """Safe YAML that refuses a repeated key, where plain YAML keeps the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


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
    try:
        return _entries(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(Problem(str(path), "there is no such file")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), f"cannot be read: {error}")) from None
    except yaml.YAMLError as error:
        raise InputError(Problem(str(path), f"is not readable YAML: {error}")) from None
    except ValueError as error:
        raise InputError(Problem(str(path), str(error))) from None


def _sections(folder: Traversable | Path, shown: str) -> dict[str, Section]:
    sections: dict[str, Section] = {}
    problems: list[Problem] = []
    for section in SECTIONS:
        file = folder.joinpath(f"{section}.yaml")
        if not file.is_file():
            continue
        path = f"{shown}/{section}.yaml"
        try:
            sections[section] = _entries(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            problems.append(Problem(path, f"is not readable YAML: {error}"))
        except ValueError as error:
            problems.append(Problem(path, str(error)))
    if problems:
        raise InputError(problems)
    return sections


def _entries(text: str) -> Section:
    given = yaml.load(text, Loader=_Loader)
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError("must be a mapping of names to entries, such as 'h100-sxm: {...}'")
    for name, fields in given.items():
        if not isinstance(name, str) or not isinstance(fields, dict):
            raise ValueError(f"entry {name!r} must be a mapping of fields, as '{{title: ...}}'")
    return given
