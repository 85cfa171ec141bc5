"""What does a site give at the pace that users get? The same site at several loads.

Interactivity is tokens/s that a user receives; throughput is tokens/s for each megawatt. More load
gives more of one and less of the other: the points of one scenario are its curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.quick import MOST, sample_of
from factory_sim.experiments.runs.crews import Crew
from factory_sim.experiments.runs.gather import Progress, gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, task_of
from factory_sim.experiments.sizing.bounds import Perfect, bounds
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.scenario.load import plain, scenario_from

LOADS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
"""Shares of what a perfect system could do, at which a site is looked at."""

INTERACTIVITY = "interactivity_tokens_per_s_per_user"
THROUGHPUT = "output_tokens_per_s_per_utility_mw_provisioned"


def run_pace(
    scenarios: Mapping[str, Mapping[str, Any]],
    crew: Crew,
    out: Path,
    loads: Sequence[float] = LOADS,
    most: float = MOST,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return a row for each scenario and load that ran: scenario, load, INTERACTIVITY, THROUGHPUT.

    scenarios: plain data, by name. loads: shares of what a perfect system could do. most: requests
    of a run, beyond which a sample stands for it. Raises InputError for a scenario without rates,
    or of which a run fails.
    """
    tasks = {
        (name, load): task_of(each)
        for name, given in scenarios.items()
        for load, each in _at_loads(given, loads, most)
    }
    found = gather({task.key: task for task in tasks.values()}, crew, Store(out), progress)
    rows = []
    for (name, load), task in tasks.items():
        outcome = found[task.key]
        if isinstance(outcome, Failed):
            raise InputError(Problem(name, f"at {100 * load:g} % of the best: {outcome.cause}"))
        if INTERACTIVITY in outcome:  # else nobody had a second token
            figures = {key: outcome[key] for key in (INTERACTIVITY, THROUGHPUT)}
            rows.append({"scenario": name, "load": load, **figures})
    return pd.DataFrame(rows, columns=["scenario", "load", INTERACTIVITY, THROUGHPUT])


def _at_loads(
    given: Mapping[str, Any], loads: Sequence[float], most: float
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield each load, and the scenario, or its sample, at that share of the best."""
    scenario = scenario_from(dict(given))
    found = bounds(scenario)
    for load in loads:
        factor = load if found.load is None else load / found.load
        asked = [p if p.asked_per_s is None else _more(p, factor) for p in found.pools]
        moved = scenario_from(at_load(plain(scenario), factor))
        yield load, plain(sample_of(moved, found._replace(pools=asked), most).scenario)


def _more(pool: Perfect, factor: float) -> Perfect:
    return pool._replace(asked_per_s=(pool.asked_per_s or 0.0) * factor)
