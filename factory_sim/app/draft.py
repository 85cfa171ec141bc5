"""A scenario with changes: what a user has before it is run, in a link, or in a file.

A change is a field's dotted path and a text, as after `--set`: `site.grid_limit` and `300 kW`. An
empty text leaves the field out. Fields keep the words of the file they came from, so that what is
downloaded reads like it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from factory_sim.app.uploads import safe
from factory_sim.errors import InputError, Problem
from factory_sim.scenario.load import built_in, override, read_mapping

STARTS = (
    "quickstart",
    "air_5mw",
    "liquid_50mw",
    "priced_20mw",
    "curtailed_50mw",
    "oversubscribed_5mw",
    "reasoning",
    "agents",
    "classes",
    "two_sites",
    "autoscaling",
    "cascade",
    "cdu_loss",
    "cotenant",
    "drafts",
    "encoder",
    "fabric",
    "images",
    "long_context",
    "partitions",
    "regions",
    "scaled_pools",
    "together",
    "uploads",
    "whole_5mw",
)
"""Scenarios that ship and that a page can start from: without a file, answered within seconds."""

BASE = "from"
"""The key of a link that names the scenario which its changes are to."""

MOST_TEXT, MOST_CHANGES = 4_000, 200
"""Characters of a change, and changes of a link."""

_SHORT = {"provisioning": "basis"}
"""Parts that may be one word, and which of their fields that is."""

Changes = Mapping[str, str]


@dataclass(frozen=True)
class Draft:
    """name: of the scenario that is changed. base: its plain data. sent: whether a user sent it."""

    name: str
    base: Mapping[str, Any]
    changes: Changes
    sent: bool = False

    def with_change(self, path: str, text: str) -> Draft:
        """Return the draft with a field changed; one that says what the base does is no change."""
        changes = {key: value for key, value in self.changes.items() if key != path}
        if text.strip() != self.base_text(path):
            changes[path] = text.strip()
        return replace(self, changes=changes)

    def base_text(self, path: str) -> str:
        """Return what the base says of a field; nothing where it does not."""
        return written(found_at(self.base, path))

    def text(self, path: str) -> str:
        """Return what the draft says of a field."""
        if path in self.changes:
            return self.changes[path]
        return written(self.value(path))

    def value(self, path: str) -> Any:
        """Return the value of a field in the data; None where there is none."""
        try:
            return found_at(self.given(), path)
        except InputError:
            return found_at(self.base, path)

    def given(self) -> dict[str, Any]:
        """Return the data of the scenario with its changes. InputError for one that is no value."""
        found = copy.deepcopy(dict(self.base))
        problems: list[Problem] = []
        for path, text in self.changes.items():
            try:
                _apply(found, path, text)
            except InputError as error:
                problems += [Problem(path, problem.message) for problem in error.problems]
        if problems:
            raise InputError(problems)
        return found

    def yaml(self) -> str:
        """Return the scenario with its changes as a file for `factory-sim run`."""
        return yaml.safe_dump(self.given(), sort_keys=False, allow_unicode=True)

    def link(self) -> dict[str, str]:
        """Return the query of a link to this draft: what it starts from, and its changes alone."""
        return {BASE: self.name, **self.changes}


def shipped(name: str) -> Draft:
    """Return a draft of a scenario that ships. InputError for a name that is none of STARTS."""
    if name not in STARTS:
        known = ", ".join(STARTS)
        raise InputError(Problem(BASE, f"there is no scenario '{name[:80]}' here; known: {known}"))
    return Draft(name, spread(read_mapping(built_in(name))), {})


def sent(given: Mapping[str, Any]) -> Draft:
    """Return a draft of a scenario that a user has sent."""
    name = str(given.get("name", "scenario"))[:80]
    return Draft(f"{name} (sent)" if name in STARTS else name, spread(given), {}, True)


def linked(query: Mapping[str, str], known: Draft | None = None) -> Draft:
    """Return the draft of a link. known: one that its user has sent.

    Raises InputError for a link to a scenario that is not here, or with more than a link may hold.
    """
    changes = {path: text for path, text in query.items() if path != BASE}
    if len(changes) > MOST_CHANGES or any(len(text) > MOST_TEXT for text in changes.values()):
        raise InputError(Problem(BASE, "the link holds more than a link of this page does"))
    name = query.get(BASE, STARTS[0])
    if name in STARTS:
        return replace(shipped(name), changes=changes)
    if known is None or known.name != name:
        said = f"this link changes '{name[:80]}', which does not ship; send that file first"
        raise InputError(Problem(BASE, said))
    return replace(known, changes=changes)


def spread(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return data in which parts that are one word are written out, so that others may join it."""
    return {
        key: {_SHORT[key]: value} if key in _SHORT and isinstance(value, str) else value
        for key, value in given.items()
    }


def found_at(given: Any, path: str) -> Any:
    """Return the value at a dotted path, None where there is none."""
    here = given
    for part in path.split("."):
        if isinstance(here, Mapping):
            here = here.get(part)
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            return None
    return here


def written(value: Any) -> str:
    """Return a value as a person would write it in one line; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, str) and _reads_back(value):
        return value
    text = _in_line(value)
    if "\n" in text and not isinstance(value, str):  # a name in it is of several lines
        text = _in_line(value, style='"')
    return text


def _in_line(value: Any, style: str | None = None) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, sort_keys=False, width=1e9
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _reads_back(value: str) -> bool:
    try:
        return bool(yaml.safe_load(value) == value)
    except yaml.YAMLError:
        return False


def _apply(given: dict[str, Any], path: str, text: str) -> None:
    """Change a field in place; one that is left out goes with the parts that held nothing else."""
    if text.strip():
        override(given, path, safe(text, path))
        return
    trail = list(_trail(given, path))
    for parent, key in reversed(trail):
        if isinstance(parent, dict) and (parent.get(key) in (None, {}) or parent is trail[-1][0]):
            parent.pop(key, None)


def _trail(given: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Yield what holds each part of a path, as far as there is any."""
    here = given
    for part in path.split("."):
        yield here, part
        here = found_at(here, part)
