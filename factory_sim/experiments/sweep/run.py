"""A sweep from its file to its table: who is wanted, batch by batch, until nobody is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from factory_sim.atomic import write
from factory_sim.errors import InputError
from factory_sim.experiments.runs.crews import Crew, crew_of
from factory_sim.experiments.runs.gather import Progress, Results, gather
from factory_sim.experiments.runs.store import INDEX, Store
from factory_sim.experiments.runs.task import Failed, Task, seeded, task_of
from factory_sim.experiments.sweep.design import Point, points
from factory_sim.experiments.sweep.spec import Described, Stop, Sweep, read_sweep
from factory_sim.experiments.sweep.table import (
    Row,
    check_metrics,
    field_column,
    frame,
    means,
    to_parquet,
)
from factory_sim.metrics.statistics import interval


@dataclass(frozen=True)
class Swept:
    """What a sweep came to. runs: a row for each run. fields, metrics: columns of it, those of an
    axis together and those of figures. folder: where everything is kept. unsaved: why the index
    could not be written there, if so."""

    sweep: Sweep
    runs: pd.DataFrame
    axes: dict[str, list[str]]
    metrics: list[str]
    folder: Path
    unsaved: str = ""

    @cached_property
    def fields(self) -> list[str]:
        """Return the columns of all fields."""
        return [field for fields in self.axes.values() for field in fields]

    @cached_property
    def points(self) -> pd.DataFrame:
        """Return a row for each point: means over replications, and their 95 % intervals."""
        return means(self.runs, self.fields, self.metrics)

    @property
    def failures(self) -> dict[str, int]:
        """Return how many runs failed, by cause, in the order in which they come up."""
        failed = self.runs[self.runs["status"] == "failed"]
        return dict(failed.groupby("cause", sort=False).size())


def sweep(
    source: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    workers: int | None = None,
    dask: Any = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run a sweep, or what is missing of it, and return its table: a row for each run.

    source: a sweep file, or its content. out: the folder that keeps the runs; by default
    sweeps/NAME. workers: processes; by default one for each core. dask: in place of processes, the
    address of a scheduler, a cluster or a `distributed.Client`. progress: told how many runs are
    done, and how many there are at the most. The table is the same whoever does the runs.
    Raises InputError for a sweep, or a folder, that cannot be used.
    """
    described = read_sweep(source)
    with crew_of(workers, dask) as crew:
        return run_sweep(described, crew, out, progress).runs


def run_sweep(
    described: Described,
    crew: Crew,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Swept:
    """Run a sweep with a crew and return what it came to, which is kept as the index of `out`."""
    own = described.sweep
    store = Store(Path(out) if out is not None else default_folder(own.name))
    grid = points(own)
    first = [_task(described, point) for point in grid]
    rows: list[list[Row]] = [[] for _ in grid]
    undecided: Sequence[int] = range(len(grid))
    for batch in _batches(own):
        wanted = [(place, number) for place in undecided for number in batch]
        done = sum(map(len, rows))
        most = done + len(undecided) * (own.replications - batch.start)
        tell = None if progress is None else partial(_tell, progress, done, most)
        for row in _rows(wanted, first, partial(gather, crew=crew, store=store, progress=tell)):
            rows[row.point].append(row)
        if batch.start == 0:
            check_metrics(own, [row.outcome for each in rows for row in each])
        if own.stop is not None:
            undecided = [place for place in undecided if not _narrow(rows[place], own.stop)]
    seed, decided = described.base.get("seed", 0), [own.stop.metric] if own.stop else []
    runs = frame([row for each in rows for row in each], grid, [*own.metrics, *decided], seed)
    axes = {
        name: [field_column(path, [point[path] for point in grid])[0] for path in fields]
        for name, fields in own.fields.items()
    }
    metrics = list(runs.columns)[list(runs.columns).index("run") + 1 :]
    return Swept(own, runs, axes, metrics, store.folder, _save(store.folder / INDEX, runs))


def _tell(progress: Progress, before: int, most: int, done: int, _: int) -> None:
    """Report the runs of a batch that are done as so many of all that there may be."""
    progress(before + done, most)


def default_folder(name: str) -> Path:
    """Return where a sweep is kept unless told: `sweeps/<name>`."""
    return Path("sweeps") / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "sweep")


def _task(described: Described, point: Point) -> Task | Failed:
    """Return the first replication of a point, or why it is no scenario."""
    try:
        return task_of(described.at(point), described.sweep.requests)
    except InputError as error:
        return Failed("; ".join(map(str, error.problems)))


def _batches(own: Sweep) -> Iterator[range]:
    """Yield the replications after which it is looked at who needs no more of them."""
    if own.stop is None:
        yield range(own.replications)
        return
    yield range(own.stop.least)
    for start in range(own.stop.least, own.replications, own.stop.batch):
        yield range(start, min(start + own.stop.batch, own.replications))


def _rows(
    wanted: Sequence[tuple[int, int]],
    first: Sequence[Task | Failed],
    gathered: Callable[[dict[str, Task]], Results],
) -> Iterator[Row]:
    """Yield the rows of replications of points, in their order."""
    tasks = {}
    keys: list[str | Failed] = []
    for place, number in wanted:
        task = first[place]
        if isinstance(task, Failed):
            keys.append(task)
        else:
            own = seeded(task, number)
            tasks[own.key] = own
            keys.append(own.key)
    found = gathered(tasks)
    for (place, number), key in zip(wanted, keys, strict=True):
        if isinstance(key, Failed):
            yield Row(place, number, "", key)
        else:
            yield Row(place, number, key, found[key])


def _narrow(rows: Sequence[Row], stop: Stop) -> bool:
    """Tell whether the interval of a point is narrow; never while a run of it has no figure."""
    outcomes = [{} if isinstance(row.outcome, Failed) else row.outcome for row in rows]
    values = [figures.get(stop.metric) for figures in outcomes]
    if not all(isinstance(value, float) for value in values):
        return False
    mean, half_width = interval(np.array(values))
    return half_width <= stop.half_width * abs(mean)


def _save(index: Path, runs: pd.DataFrame) -> str:
    """Write the index of a sweep; return why it cannot be, if so: no reason to lose it."""
    try:
        write(index, to_parquet(runs))
    except OSError as error:
        return f"{index} could not be written: {error.strerror or error}"
    return ""
