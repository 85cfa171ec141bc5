"""Published measurements as validation cases: one file for each source, one line here.

The figures themselves are not shipped (their licences differ); a folder of the tables, as
`docs/validation.md` describes it, is read and turned into cases.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.validation.case import Case, cases_from
from factory_sim.validation.sources import (
    inferencex,
    llmservingsim,
    mlenergy,
    mlperf,
    openloop,
    splitwise,
    wide,
)

SOURCES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "openloop": openloop.cases,
    "mlenergy": mlenergy.cases,
    "inferencex": inferencex.cases,
    "splitwise": splitwise.cases,
    "llmservingsim": llmservingsim.cases,
    "mlperf": mlperf.cases,
    "wide": wide.cases,
}


def source_cases(name: str, folder: Path) -> list[Case]:
    """Return the cases of one source from the tables in `folder`; InputError without them."""
    try:
        given = SOURCES[name](folder)
    except FileNotFoundError as error:
        raise InputError(Problem(str(folder), f"lacks the table {error.filename}")) from None
    return cases_from(given, name, folder)
