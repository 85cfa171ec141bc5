"""What an option cannot be is refused in words that name it, wherever it stands."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.errors import Problem
from tests.options.board import place, problems, put, table
from tests.options.mistakes import wrong
from tests.options.schema import options

OPTIONS = options()
JARGON = ("Input should", "validation error", "type=", "pydantic", "Traceback", "<class")


def scenario_with(path: str) -> dict[str, Any]:
    """Return a small scenario in which an option is said, or could be."""
    rows = table()
    for name, row in rows.items():
        if path.startswith(f"{name}.") and row.refused and not row.values:
            return row.scenario(row.refused[0])  # refused as a whole
    row = rows.get(path) or next(row for name, row in rows.items() if name.startswith(path))
    return row.scenario(*row.values[:1])


def names(problem: Problem, here: str, value: object) -> bool:
    """Tell whether a problem names the option, or what is wrong in it from around or beside it."""
    if problem.path.startswith(here):
        return True
    around, _, field = here.rpartition(".")
    near = here.startswith(problem.path) or problem.path.startswith(around)
    return near and (str(value) in problem.message or field in problem.message)


@pytest.mark.parametrize("path", [p for p, option in OPTIONS.items() if option.field])
def test_a_wrong_value_is_refused_by_name(path: str) -> None:
    here = place(path)
    for value in wrong(OPTIONS[path]):
        given = scenario_with(path)
        put(given, path, value)
        found = [p for p in problems(given) if names(p, here, value)]
        assert found, (value, problems(given))
        for problem in found:
            assert len(problem.message) > 8
            assert not any(word in problem.message for word in JARGON), problem


@pytest.mark.parametrize("path", [p for p, option in OPTIONS.items() if option.field])
def test_an_unknown_key_beside_it_is_refused(path: str) -> None:
    beside = f"{path.rpartition('.')[0]}.nonsense".lstrip(".")
    given = scenario_with(path)
    put(given, beside, 1)
    (problem,) = problems(given)
    assert problem.path == place(beside)
    assert problem.message.startswith("unknown key; ")
