"""A report as a document: what its HTML and its Markdown both say, of runs and of many runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from factory_sim.report.causes import words
from factory_sim.report.layout import Table
from factory_sim.report.page.answer import Answer
from factory_sim.report.page.chapters import (
    Chapter,
    Part,
    Tile,
    Verdict,
    chapters,
    tiles,
    verdicts,
)
from factory_sim.report.saved import SavedRun
from factory_sim.report.summary import title
from factory_sim.report.text import number, plain_value


class Assumption(NamedTuple):
    """A figure of the catalogue. source: its number in the list of sources."""

    figure: str
    value: str
    kind: str
    source: int
    note: str


class Told(NamedTuple):
    """A run, or what many came to, as it is told. page: what tells its ids from those of others.
    assumptions: by the entry that they are of; sources: in the order of their numbers, from 1.
    scenario: as YAML, empty where there is none. command: what makes it again."""

    page: str
    name: str
    about: str
    tiles: list[Tile]
    verdicts: list[Verdict]
    chapters: list[Chapter]
    assumptions: Mapping[str, list[Assumption]]
    sources: list[str]
    kinds: Mapping[str, int]
    versions: Mapping[str, str]
    scenario: str
    command: str


class Document(NamedTuple):
    """runs: what is told of, one at least. compared: headline figures of runs side by side, where
    there are several."""

    title: str
    runs: list[Told]
    compared: Table | None


COMPARED = (
    ("output_tokens_per_s", "output tokens/s"),
    ("goodput_output_tokens_per_s", "of which within promise"),
    ("output_tokens_per_s_per_utility_mw", "output tokens/s per utility MW"),
    ("ttft_ms.p50", "TTFT p50, ms"),
    ("ttft_ms.p99", "TTFT p99, ms"),
    ("tpot_ms.p50", "TPOT p50, ms"),
    ("tpot_ms.p99", "TPOT p99, ms"),
    ("e2e_ms.p99", "end to end p99, ms"),
    ("requests_completed", "requests completed"),
    ("requests_failed", "requests failed"),
    ("grid_power_mw.mean", "mean at the meter, MW"),
    ("grid_power_mw.max", "highest at the meter, MW"),
    ("pue", "PUE"),
    ("energy_per_output_token_j", "J per output token"),
    ("usd_per_million_output_tokens", "USD per million output tokens"),
    ("energy_usd_per_million_output_tokens", "USD of energy per million output tokens"),
    ("oee.oee", "OEE"),
    ("gpus", "GPUs"),
)
"""What runs are compared by, and what it is called."""


def document(things: Sequence[SavedRun | Answer]) -> Document:
    """Return what is to be said of runs, and of what many runs came to, in their order."""
    names = _names(things)
    told = [
        _run(thing, name, f"r{place}")
        if isinstance(thing, SavedRun)
        else _answer(thing, name, f"r{place}")
        for place, (thing, name) in enumerate(zip(things, names, strict=True))
    ]
    runs = {n: t for t, n in zip(things, names, strict=True) if isinstance(t, SavedRun)}
    return Document(", ".join(names), told, _compared(runs) if len(runs) > 1 else None)


def _names(things: Sequence[SavedRun | Answer]) -> list[str]:
    """Return what things are called, told apart by a number where they share a name."""
    found: list[str] = []
    for index, thing in enumerate(things):
        run = isinstance(thing, SavedRun)
        name = str(thing.scenario.get("name", "run")) if run else thing.title  # type: ignore[union-attr]
        found.append(f"{name} ({index + 1})" if name in found else name)
    return found


def _run(run: SavedRun, name: str, page: str) -> Told:
    sources: dict[str, int] = {}
    assumptions: dict[str, list[Assumption]] = {}
    for each in run.assumed:
        number_of = sources.setdefault(str(each["source"]), len(sources) + 1)
        value = ", ".join(_values(each["value"]))
        row = Assumption(each["figure"], value, each["kind"], number_of, each.get("note", ""))
        assumptions.setdefault(each["of"], []).append(row)
    about = title(name, run.summary, run.record).removeprefix(name).removeprefix(": ")
    return Told(
        page,
        name,
        about,
        list(tiles(run.summary)),
        list(verdicts(run.summary)),
        chapters(run),
        assumptions,
        list(sources),
        run.record.get("kinds", {}),
        {"factory_sim": run.record["version"], **run.record.get("versions", {})},
        _yaml(run.scenario),
        "factory-sim run scenario.yaml",
    )


def _answer(answer: Answer, name: str, page: str) -> Told:
    """Return what a command over many runs has said; what each rests on is in the runs."""
    told = [Chapter("What came of it", [Part("", list(answer.blocks))], [])]
    if answer.pictures:
        told.append(Chapter("Plots", [], list(answer.pictures)))
    versions = {"factory_sim": answer.version}
    scenario = _yaml(answer.scenario) if answer.scenario else ""
    return Told(
        page, name, answer.about, [], [], told, {}, [], {}, versions, scenario, answer.command
    )


def _yaml(scenario: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(scenario), sort_keys=False, allow_unicode=True)


def _values(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{name} {text}" for name, held in value.items() for text in _values(held)]
    if isinstance(value, list):
        return [text for held in value for text in _values(held)]
    return [plain_value(value)]


def _compared(named: Mapping[str, SavedRun]) -> Table:
    """Return the headline figures of runs, each but the first with its difference to that."""
    rows, runs = [["", *named]], list(named.values())
    for key, label in COMPARED:
        values = [_at(run.summary, key) for run in runs]
        if any(isinstance(value, int | float) for value in values):
            rows.append([label, *(_beside(value, values[0]) for value in values)])
    binds = [run.summary.get("bottleneck") for run in runs]
    rows.append(["what binds", *("" if cause is None else words(cause) for cause in binds)])
    return Table(rows)


def _at(summary: Mapping[str, Any], key: str) -> Any:
    found: Any = summary
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _beside(value: Any, first: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    if value is first or not isinstance(first, int | float) or not first or value == first:
        return number(value)
    return f"{number(value)} ({100.0 * (value / first - 1.0):+.3g} %)"
