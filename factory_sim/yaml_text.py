"""Reading YAML as people write it: what is wrong is said by file and line, and nothing is lost.

Plain YAML keeps the last of two equal keys in silence, lets a part hold itself, and fails with a
bare error at a date that no calendar has; all three are problems here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


class Loader(SafeLoader):
    """Safe YAML in which no mapping has a key twice and no part holds itself."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.deep_construct = True  # finish each part before the next: one that holds itself cannot

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what goes wrong with YAML inside into an InputError that names it and the line."""
    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "is malformed"
        raise InputError(Problem(f"{name}{line}", f"is not valid YAML: {what}")) from None
    except InputError:
        raise
    except (ValueError, OverflowError) as error:  # a date such as 2024-02-30
        said = f"holds a number or a date that cannot be read: {error}"
        raise InputError(Problem(name, said)) from None
    except RecursionError:
        raise InputError(Problem(name, "is nested too deep; write it flatter")) from None


def parse(text: str, name: str) -> Any:
    """Return what a YAML text says; InputError, which names it and the line, for what is none."""
    with explained(name):
        return yaml.load(text, Loader=Loader)


def read(path: Path | Traversable, name: str = "") -> Any:
    """Return what a YAML file says; InputError for one that cannot be read.

    name: of the file, for messages, where that is not its path.
    """
    name = name or str(path)
    try:
        # A file saved by Windows may begin with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(Problem(name, "there is no such file")) from None
    except IsADirectoryError:
        said = f"is a folder; name a YAML file, such as {name}/scenario.yaml of a run's folder"
        raise InputError(Problem(name, said)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(name, f"cannot be read: {error}")) from None
    return parse(text, name)
