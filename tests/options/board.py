"""The table of options, read: what each is set to, on which small scenario, and what comes out."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import factory_sim as fs
from factory_sim.errors import InputError, Problem
from factory_sim.scenario.load import override, scenario_from

HERE = Path(__file__).parent
NAMES = {
    "racks": "0",
    "schedule": "0",
    "links": "kv",
    "deployments": "d",
    "classes": "c",
    "services": "s",
    "regions": "r",
    "workload": "w",
    "mix": "m",
    "states": "0",
    "stages": "0",
    "training": "t",
    "ranges": "equipment",
}
"""What things are called in the small scenarios: the `*` of an option's path."""

KEYS = {"set", "each", "with", "refused", "alike", "required", "says", "needs"}


class Row(NamedTuple):
    """How one option is shown to matter.

    given: the small scenario that it is set in. values: each gives another outcome than the
    scenario and than the others. refused: values for which there is no run, but a problem. alike:
    values that give the same as another. required: whether the scenario is refused without it.
    says: why it changes nothing. needs: a package.
    """

    path: str
    given: str
    values: tuple[Any, ...] = ()
    refused: tuple[Any, ...] = ()
    alike: tuple[tuple[Any, Any], ...] = ()
    required: bool = False
    says: str = ""
    needs: str = ""

    def scenario(self, *value: Any) -> dict[str, Any]:
        """Return the scenario as plain data, with the option at a value."""
        plain: dict[str, Any] = json.loads(self.given)
        for each in value:
            beside = each.get("with", {}) if isinstance(each, dict) and "to" in each else {}
            put(plain, self.path, each["to"] if beside else each)
            for path, other in beside.items():
                put(plain, path, other)
        return plain


@cache
def _written() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((HERE / "table.yaml").read_text(encoding="utf-8"))
    return read


def base(name: str) -> dict[str, Any]:
    """Return a small scenario of the table, as plain data."""
    return _base(_written()["bases"], name)


@cache
def table() -> dict[str, Row]:
    """Return the rows by the path of their option."""
    read = _written()
    rows: dict[str, Row] = {}
    for group in read["groups"]:
        for path, said in group["options"].items():
            assert path not in rows, f"{path} has two rows"
            rows[path] = _row(read["bases"], group, path, said)
    return rows


def _row(bases: dict[str, Any], group: dict[str, Any], path: str, said: Any) -> Row:
    cell = said if isinstance(said, dict) and said.keys() <= KEYS else {"set": said}
    given = _base(bases, group["base"])
    for extra in (group, cell):
        for where, value in extra.get("with", {}).items():
            put(given, where, value)
    return Row(
        path,
        json.dumps(given),
        tuple(cell["each"] if "each" in cell else [cell["set"]] if "set" in cell else []),
        tuple(cell.get("refused", ())),
        tuple(cell.get("alike", {}).items()),
        cell.get("required", False),
        cell.get("says", ""),
        cell.get("needs", ""),
    )


def _base(bases: dict[str, Any], name: str) -> dict[str, Any]:
    base = copy.deepcopy(bases[name])
    if "over" not in base:
        whole: dict[str, Any] = base
        return whole
    given = _base(bases, base.pop("over"))
    for where, value in base.items():
        put(given, where, value)
    return given


def place(path: str) -> str:
    """Return where an option is in the small scenarios."""
    parts = re.sub(r"\[[^\]]*\]", "", path).split(".")
    return ".".join(NAMES[parts[i - 1]] if part == "*" else part for i, part in enumerate(parts))


def put(given: dict[str, Any], path: str, value: Any) -> None:
    """Set an option, or a field by its name; None takes it away."""
    if value is not None:
        override(given, place(path), _files(value))
        return
    *parents, last = place(path).split(".")
    here: Any = given
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here.get(part, {})
    here.pop(last, None)


def _files(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _files(inner) for key, inner in value.items()}
    if not (isinstance(value, str) and value.startswith("files/")):
        return copy.deepcopy(value)
    return _epw(value) if value.endswith(".epw") else str(HERE / value)


@cache
def _epw(name: str) -> str:
    """Write a year of weather that never changes; its name says the dry bulb."""
    file = Path(tempfile.mkdtemp()) / Path(name).name
    lines = ["LOCATION,Somewhere,-,DEU,Test,000000,50.0,8.6,1.0,100.0"]
    lines += [f"HEADER {number}" for number in range(7)]
    hours = [
        f"2020,1,1,{hour % 24 + 1},60,flags,{file.stem},5.0,50,100000,0" for hour in range(8760)
    ]
    file.write_text("\n".join([*lines, *hours, ""]))
    return str(file)


def outcome(given: dict[str, Any]) -> str:
    """Return a digest of what a run of the scenario gave: its summary and both tables."""
    return _outcome(json.dumps(given, sort_keys=True))


@cache
def _outcome(given: str) -> str:
    run = fs.simulate(scenario_from(json.loads(given)))
    series = run.timeseries.drop(columns="grid_limit_mw")
    tables = [series] if run.rows is None else [run.rows, series]
    rows = "".join(table.to_csv(index=False) for table in tables)
    told = json.dumps(_told(run.summary), default=str)
    return hashlib.sha256((told + rows).encode()).hexdigest()


def _told(summary: Any) -> Any:
    """Return the summary without what it repeats of the scenario."""
    if not isinstance(summary, dict):
        return summary
    return {
        key: _promise(value) if key == "slo" else _told(value)
        for key, value in summary.items()
        if key != "grid_limit_mw"
    }


def _promise(slo: Any) -> Any:
    return slo.get("met") if isinstance(slo, dict) else slo


def problems(given: dict[str, Any]) -> tuple[Problem, ...]:
    """Return what is wrong with a scenario."""
    try:
        fs.simulate(scenario_from(given))
    except InputError as error:
        return error.problems
    return ()
