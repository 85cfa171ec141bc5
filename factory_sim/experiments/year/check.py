"""The year against the engine: hours drawn at random, run whole, and how far off the year was."""

from __future__ import annotations

import numpy as np
import pandas as pd

from factory_sim.experiments.runs.crews import Crew
from factory_sim.experiments.runs.gather import Progress, gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, Task, task_of
from factory_sim.experiments.year.answers import Asked

BUSIEST = 0.05
"""Share of the hours that are the busiest: a third of those that are drawn are of them."""

CHECKED = {
    "output_tokens_per_s": "output_tokens_per_s",
    "grid_power_mw": "grid_power_mw.mean",
    "ttft_ms.p99": "ttft_ms.p99",
    "tpot_ms.p99": "tpot_ms.p99",
}
"""What is held against the engine, and what that calls it."""


def drawn(asked: Asked, count: int, seed: int) -> list[int]:
    """Return `count` hours (fewer, if there are not so many), in order: a third of the busiest.

    Hours in which nothing is up, or nobody asks, are not drawn.
    """
    load = asked.each
    some = np.flatnonzero(load > 0.0)
    busy = some[load[some] >= np.quantile(load[some], 1.0 - BUSIEST)] if len(some) else some
    rng = np.random.default_rng(seed)
    top = rng.choice(busy, min(len(busy), -(-count // 3)), replace=False)
    others, more = np.setdiff1d(some, busy), count - len(top)
    if len(others) < more:
        others = np.setdiff1d(some, top)
    rest = rng.choice(others, min(len(others), more), replace=False)
    return sorted(int(each) for each in (*top, *rest))


def checked(
    asked: Asked,
    table: pd.DataFrame,
    count: int,
    crew: Crew,
    store: Store,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return a row for each hour of the table that is drawn, with every figure of the year, of the
    engine, and the error over the engine's; and of hours whose run failed the cause.

    Of faster software the engine plays the same hour at less load, and what it gives is counted at
    that speed.
    """
    subject, hours = asked.subject, asked.hours
    seed = subject.scenario.seed
    places = drawn(asked, count, seed)
    tasks: dict[int, Task] = {
        place: task_of(subject.hour_at(hours, place, seed + 1 + number))
        for number, place in enumerate(places)
    }
    done = gather({task.key: task for task in tasks.values()}, crew, store, progress)
    busy = np.quantile(asked.each[asked.each > 0.0], 1.0 - BUSIEST) if places else 0.0
    rows: list[dict[str, float | bool]] = []
    failed: dict[int, str] = {}
    for place, task in tasks.items():
        run = done[task.key]
        if isinstance(run, Failed):
            failed[place] = run.cause
            continue
        speed = float(hours.speed[place])
        row: dict[str, float | bool] = {"hour": place, "busiest": bool(asked.each[place] >= busy)}
        for name, key in CHECKED.items():
            engine = float(run.get(key, np.nan))  # a percentile is not there if nobody was answered
            if name == "output_tokens_per_s":
                engine *= speed
            elif name != "grid_power_mw":
                engine /= speed
            year = float(table[name].iloc[place])
            row |= {f"{name}.year": year, f"{name}.engine": engine}
            row[f"{name}.error"] = year / engine - 1.0
        rows.append(row)
    return pd.DataFrame(rows), failed


def median_errors(checks: pd.DataFrame) -> dict[str, float]:
    """Return of each figure the median of how far off it was, over the engine's."""
    if not len(checks):
        return {}
    return {name: float(checks[f"{name}.error"].abs().median()) for name in CHECKED}
