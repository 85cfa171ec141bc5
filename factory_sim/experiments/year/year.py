"""A year from its scenario to its tables: surfaces as far as they are needed, hours, a check."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from factory_sim.atomic import write
from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.crews import Crew, crew_of
from factory_sim.experiments.runs.gather import gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, Figures, task_of
from factory_sim.experiments.sweep.table import to_parquet
from factory_sim.experiments.year.answers import Asked, answers, fits
from factory_sim.experiments.year.broken import up_shares
from factory_sim.experiments.year.check import checked, median_errors
from factory_sim.experiments.year.hours import hours_of
from factory_sim.experiments.year.subject import Subject, subject_of
from factory_sim.experiments.year.surface import (
    Column,
    Promise,
    Surface,
    column_of,
    loads_between,
    promises_of,
)
from factory_sim.experiments.year.tables import hours_table, months_table
from factory_sim.scenario.load import built_in, load
from factory_sim.scenario.scenario import Scenario

EXAMPLE = "year_20mw"
"""The built-in scenario of a year."""

EVERY = 2
"""Surfaces are run at every second clock that the power policy may choose."""

MOST_STEPS = 1_000_000

Progress = Callable[[str, int, int], None]
"""Told what is run, and how many of how many runs are there."""


@dataclass(frozen=True)
class Year:
    """What a year came to. hours, months: its tables. checks: hours that the engine has played;
    errors: medians over them; failed: hours that it could not play, and why. promises: what was
    promised. runs, clocks: of the surfaces. folder: where all of it is kept.
    """

    name: str
    hours: pd.DataFrame
    months: pd.DataFrame
    checks: pd.DataFrame
    promises: list[Promise]
    runs: int
    clocks: list[float]
    failed: dict[int, str]
    growth: float
    faster: float
    folder: Path

    @property
    def errors(self) -> dict[str, float]:
        """Return the median error of each figure that was checked, over the engine's."""
        return median_errors(self.checks)


def year(
    scenario: str | Path | Scenario | None = None,
    steps: int = 8760,
    step_s: float = 3600.0,
    growth: float = 0.0,
    faster: float = 0.0,
    check_hours: int = 0,
    by: str = "hours",
    out: str | Path | None = None,
    workers: int | None = None,
    dask: Any = None,
) -> pd.DataFrame:
    """Return what a site makes of a year: a row for each hour, or for each month.

    scenario: of one deployment at one site, with `starts_at`; its duration is that of each run that
    the year rests on. steps, step_s: how many steps, and of which length. growth, faster: of demand
    and of the software's speed, shares a year, compounded. check_hours: hours that the engine plays
    as well; the median errors are in the table's `attrs`. by: `hours` or `months`. out: the folder
    that keeps the runs and the tables; by default years/NAME.
    Raises InputError for a scenario that cannot be taken through a year.
    """
    if by not in ("hours", "months"):
        raise InputError(Problem("by", f"'{by}' is neither hours nor months"))
    given = scenario if isinstance(scenario, Scenario) else load(scenario or built_in(EXAMPLE))
    with crew_of(workers, dask) as crew:
        found = run_year(given, crew, steps, step_s, growth, faster, check_hours, out)
    table = found.hours if by == "hours" else found.months
    table.attrs["median_errors"] = found.errors
    return table


def run_year(
    scenario: Scenario,
    crew: Crew,
    steps: int = 8760,
    step_s: float = 3600.0,
    growth: float = 0.0,
    faster: float = 0.0,
    check_hours: int = 12,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Year:
    """Return what a crew made of a year, whose tables are kept in `out`; as `year`."""
    _check(steps, step_s, growth, faster, check_hours)
    subject = subject_of(scenario, steps * step_s)
    up = up_shares(scenario, subject.given, step_s * np.arange(steps + 1.0))
    climate = subject.layout.climate
    hours = hours_of(scenario, climate, steps, step_s, growth, faster, up)
    asked = Asked(subject, hours)
    store = Store(Path(out) if out is not None else default_folder(scenario.name))
    surface, promises, runs = _surface(asked, crew, store, progress)
    lowest = surface.columns[-1].clock
    found = answers(asked, surface, [c for c in subject.clocks if c >= lowest - 1e-9])
    tell = None if progress is None else partial(progress, "hours to check")
    table = hours_table(asked, found, promises)
    checks, failed = checked(asked, table, check_hours, crew, store, tell)
    months = months_table(table)
    _keep(store.folder, {"hours": table, "months": months, "checks": checks})
    clocks = [column.clock for column in surface.columns]
    return Year(
        scenario.name,
        table,
        months,
        checks,
        promises,
        runs,
        clocks,
        failed,
        growth,
        faster,
        store.folder,
    )


def default_folder(name: str) -> Path:
    """Return where a year is kept unless told: `years/<name>`."""
    return Path("years") / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "year")


def _check(steps: int, step_s: float, growth: float, faster: float, check_hours: int) -> None:
    if not 60.0 <= step_s <= 86_400.0:
        said = f"must be from a minute to a day, not {step_s:g} s"
        raise InputError(Problem("--step", f"{said}; replicas settle within a minute or so"))
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(Problem("--days", f"from 1 to {MOST_STEPS:,} steps in all, not {steps:,}"))
    for name, share in (("--growth", growth), ("--faster", faster)):
        if not -0.9 <= share <= 99.0:
            raise InputError(Problem(name, f"must be from -90 to 9,900 % a year: {share:.0%}"))
    if check_hours < 0:
        raise InputError(Problem("--check-hours", f"must be 0 at least, not {check_hours}"))


def _surface(
    asked: Asked, crew: Crew, store: Store, progress: Progress | None
) -> tuple[Surface, list[Promise], int]:
    """Return the surface, with as many clocks as the hours need; what is promised; and its runs.

    The first column is of the highest clock and all hours. While some hours are over their limit
    at the lowest clock that there is, a lower one is added for them.
    """
    subject = asked.subject
    rungs = subject.clocks
    clocks = [*rungs[:1], *rungs[EVERY:-1:EVERY], *rungs[1:][-1:]]
    best = {clock: subject.best_per_s(clock) for clock in rungs}
    open_ = np.arange(len(asked.hours))
    columns: list[Column] = []
    promises: list[Promise] = []
    runs = 0
    for number, clock in enumerate(clocks):
        each = asked.each[open_]
        # Between two columns both are asked for the loads of hours at clocks in between.
        least = each.min() / best[clocks[max(number - 1, 0)]]
        most = each.max() / best[clocks[min(number + 1, len(clocks) - 1)]]
        tell = None if progress is None else partial(progress, f"runs at {clock:.0%} of the clock")
        points = _points(subject, clock, loads_between(least, most), crew, store, tell)
        runs += len(points)
        promises = promises_of(next(iter(points.values())))
        name, idle_w = subject.fleet.deployment, subject.fleet.power.idle_w
        output = subject.asked.output
        columns.append(column_of(clock, best[clock], points, name, output, idle_w))
        surface = Surface(columns, best.__getitem__)
        open_ = open_[~fits(asked, surface, clock, open_)]
        if not len(open_):
            break
    return surface, promises, runs


def _points(
    subject: Subject,
    clock: float,
    loads: list[float],
    crew: Crew,
    store: Store,
    progress: Callable[[int, int], None] | None,
) -> dict[float, Figures]:
    """Return the runs at a clock by their loads. Raises InputError where one failed."""
    best_per_s = subject.best_per_s(clock)
    tasks = {each: task_of(subject.run_at(clock, each * best_per_s)) for each in loads}
    done = gather({task.key: task for task in tasks.values()}, crew, store, progress)
    found: dict[float, Figures] = {}
    for share, task in tasks.items():
        run = done[task.key]
        if isinstance(run, Failed):
            raise InputError(Problem(f"load {share:g}, clock {clock:.0%}", run.cause))
        found[share] = run
    return found


def _keep(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write the tables of a year; InputError where they cannot be."""
    try:
        for name, table in tables.items():
            write(folder / f"{name}.parquet", to_parquet(table))
        write(folder / "months.csv", tables["months"].to_csv(index=False).encode())
    except OSError as error:
        said = f"{folder} cannot be written: {error.strerror or error}"
        raise InputError(Problem("--out", said)) from None
