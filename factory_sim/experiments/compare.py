"""Scenarios side by side: what differs, how surely, and where it comes from.

Every scenario is run with the same seeds, so that its requests come at the same times and are of
the same lengths where both describe them alike. What chance does then moves all of them together,
and the interval of a difference, taken pair by pair, is narrower than those of the means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.crews import Crew, crew_of
from factory_sim.experiments.runs.gather import Progress, gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, Figures, Task, seeded, task_of
from factory_sim.experiments.sweep.spec import METRICS
from factory_sim.metrics.statistics import interval
from factory_sim.scenario.load import anchored, plain, read_mapping
from factory_sim.scenario.scenario import Scenario

GROUPS = ("figures", "time_lost", "power_mw", "energy_per_output_token_j")
"""What is compared: headline figures; and three ledgers, each of which adds up: shares of
GPU-seconds by cause, mean power at the meter by part, and joules a token by part."""

Compared = dict[tuple[str, str], float]
"""What is compared of a run, by group and figure."""

FOLDER = Path("sweeps") / "compare"


def compare(
    *scenarios: str | Path | Mapping[str, Any] | Scenario,
    replications: int = 5,
    out: str | Path | None = None,
    workers: int | None = None,
    dask: Any = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run scenarios with the same seeds and return how each differs from the first.

    scenarios: two or more, as files, plain data, or loaded. replications: seeds, from that of the
    first on. out: the folder that keeps the runs; by default sweeps/compare. workers, dask: who
    does the runs, as of `sweep`.
    Columns: scenario, group (one of GROUPS), figure, mean, half_width (of the 95 % interval, over
    replications), difference to the first and its half width, taken pair by pair.
    Raises InputError for a scenario that cannot be used or run.
    """
    with crew_of(workers, dask) as crew:
        return run_compare(scenarios, crew, replications, out, progress)


def run_compare(
    scenarios: Sequence[str | Path | Mapping[str, Any] | Scenario],
    crew: Crew,
    replications: int = 5,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return the table of `compare`, with the runs done by a crew."""
    if len(scenarios) < 2:
        raise InputError(Problem("scenarios", "give two at least, the first to compare with"))
    if replications < 2:
        raise InputError(Problem("replications", f"must be 2 at least, not {replications}"))
    given = [_plain(scenario) for scenario in scenarios]
    names = _names(given)
    seed = given[0].get("seed", 0)
    tasks: dict[str, list[Task]] = {}
    for name, own in zip(names, given, strict=True):
        first = _task(name, own | {"seed": seed})
        tasks[name] = [seeded(first, number) for number in range(replications)]
    wanted = {task.key: task for own in tasks.values() for task in own}
    found = gather(wanted, crew, Store(Path(out) if out is not None else FOLDER), progress)
    runs = {name: [_figures(name, found[task.key]) for task in own] for name, own in tasks.items()}
    return pd.DataFrame(_rows(runs))


def _plain(scenario: str | Path | Mapping[str, Any] | Scenario) -> dict[str, Any]:
    """Return the plain data of a scenario, file names absolute."""
    if isinstance(scenario, Scenario):
        return plain(scenario)
    if isinstance(scenario, Mapping):
        return {**anchored(dict(scenario), Path.cwd())}
    path = Path(scenario)
    return {**anchored(read_mapping(path), path.resolve().parent)}


def _names(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the scenarios are called, told apart by a number where they have one name."""
    names: list[str] = []
    for index, own in enumerate(given):
        name = str(own.get("name", "scenario"))
        names.append(f"{name} ({index + 1})" if name in names else name)
    return names


def _task(name: str, plain: Mapping[str, Any]) -> Task:
    try:
        return task_of(plain)
    except InputError as error:
        problems = [Problem(f"{name}: {p.path}", p.message) for p in error.problems]
        raise InputError(problems) from None


def _figures(name: str, outcome: Figures | Failed) -> Compared:
    """Return what is compared of a run; InputError for one that failed."""
    if isinstance(outcome, Failed):
        raise InputError(Problem(name, outcome.cause))
    numbers = {key: value for key, value in outcome.items() if isinstance(value, float)}
    found: Compared = {("figures", key): numbers[key] for key in METRICS if key in numbers}
    hours = (numbers["window_s.end"] - numbers["window_s.start"]) / 3600.0
    pace = numbers["output_tokens_per_s"]
    for key, value in numbers.items():
        group, _, part = key.partition(".")
        if group == "time_lost":
            found["time_lost", part] = value
        elif group == "energy_mwh":
            found["power_mw", part] = value / hours
            if pace:
                found["energy_per_output_token_j", part] = 1e6 * value / hours / pace
    return found


def _rows(
    runs: Mapping[str, Sequence[Mapping[tuple[str, str], float]]],
) -> Iterator[dict[str, Any]]:
    """Yield a row for each scenario and figure, by group."""
    keys = dict.fromkeys(key for own in runs.values() for run in own for key in run)
    base = next(iter(runs.values()))
    for name, own in runs.items():
        for group, figure in sorted(keys, key=lambda key: GROUPS.index(key[0])):
            absent = np.nan if group == "figures" else 0.0  # what a ledger leaves out is nothing
            here, there = (
                np.array([run.get((group, figure), absent) for run in each]) for each in (own, base)
            )
            mean, half_width = interval(here)
            difference, uncertain = interval(here - there)
            yield {
                "scenario": name,
                "group": group,
                "figure": figure,
                "mean": mean,
                "half_width": half_width,
                "difference": difference,
                "difference_half_width": uncertain,
            }
