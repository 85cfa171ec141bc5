"""Every option of a scenario changes what a run gives, or is refused where it would not."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.options.board import Row, outcome, place, problems, table
from tests.options.schema import options

OPTIONS = options()
ROWS = {path: row for path, row in table().items() if not row.says}


def moved(given: dict[str, Any]) -> dict[str, Any]:
    """Return a scenario of one `site` as one of `sites`."""
    there = dict(given, sites={"a": given["site"]})
    del there["site"]
    there["racks"] = [row | {"site": "a"} for row in given["racks"]]
    there["deployments"] = {k: spec | {"site": "a"} for k, spec in given["deployments"].items()}
    for failure in there.get("failures", {}).get("schedule", ()):
        failure["what"] = f"a/{failure['what']}"
    return there


def outcomes(row: Row, at_site: bool = False) -> dict[str, str]:
    """Return what a run gives without the option, unless it is required, and with each value."""
    cases = {str(value): row.scenario(value) for value in row.values}
    if not row.required:
        cases["left out"] = row.scenario()
    return {name: outcome(moved(case) if at_site else case) for name, case in cases.items()}


def test_every_option_has_a_row_and_every_row_an_option() -> None:
    refused = tuple(f"{path}." for path, row in ROWS.items() if not row.values and row.refused)
    wanted = {p for p, o in OPTIONS.items() if not o.holds and not p.startswith(refused)}
    assert wanted - set(table()) == set()
    assert set(table()) - set(OPTIONS) == set()


@pytest.mark.parametrize("path", ROWS)
def test_it_changes_what_a_run_gives(path: str) -> None:
    row = ROWS[path]
    if row.needs and importlib.util.find_spec(row.needs) is None:
        pytest.skip(f"needs {row.needs}")
    found = outcomes(row)
    assert len(set(found.values())) == len(found), "some of them give the same"
    assert len(found) > 1 or row.refused or row.alike or row.required
    for value, other in row.alike:
        assert outcome(row.scenario(value)) == outcome(row.scenario(other))
    for value in row.refused:
        assert_refused(row, row.scenario(value))
    if row.required:
        assert_refused(row, row.scenario())


def assert_refused(row: Row, given: dict[str, Any]) -> None:
    """Assert that a scenario is refused for an option: at its place, or around or beside it."""
    here = place(row.path)
    around = here.rpartition(".")[0]
    paths = [problem.path for problem in problems(given)]
    assert any(p and (here.startswith(p) or p.startswith(around)) for p in paths), paths


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in ROWS if path.startswith("site.")])
def test_so_it_does_at_one_of_several_sites(path: str) -> None:
    found = outcomes(ROWS[path], at_site=True)
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("path", [path for path, option in OPTIONS.items() if option.words])
def test_every_word_is_tried(path: str) -> None:
    if path not in ROWS:
        return  # refused as a whole
    row, default = ROWS[path], OPTIONS[path].model.model_fields[OPTIONS[path].field].default
    tried = {v["to"] if isinstance(v, dict) else v for v in row.values} | set(row.refused)
    for pair in row.alike:
        tried |= set(pair)
    given = row.scenario()
    here: Any = given
    for part in place(path).split("."):
        here = (here[int(part)] if isinstance(here, list) else here.get(part)) if here else None
    assert set(OPTIONS[path].words) - tried <= {here, default, None} | _usual(path)


def _usual(path: str) -> set[str]:
    """Return what engines and power chains have where an option is left out."""
    return {
        "batching": {"chunked"},
        "preemption": {"recompute"},
        "policy": {"least-outstanding", "fcfs"},
        "redundancy": {"N+1"} if ".pdu." not in path else {"N"},
    }.get(path.rpartition(".")[2], set())


@pytest.mark.parametrize("path", [path for path, option in OPTIONS.items() if option.varies])
def test_a_signal_is_followed_over_time(path: str) -> None:
    constant, *others = table()[path].values
    assert any(isinstance(value, dict) for value in others), constant
