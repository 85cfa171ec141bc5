"""A sweep from its file to its table: who is wanted, batch by batch, until nobody is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

    @property
    def fields(self) -> list[str]:
        """Return the columns of all fields."""
        return [field for fields in self.axes.values() for field in fields]

    @property
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
    sweeps/NAME. workers: processes; by default one for each core. dask: the address of a
    scheduler or a `distributed.Client`, in place of processes. progress: told how many of how many
    runs are done. The table is the same whoever does the runs.
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
    rows: list[Row] = []
    open_points: Sequence[int] = range(len(grid))
    for batch in _batches(own):
        wanted = [(place, number) for place in open_points for number in batch]
        rows += _rows(wanted, first, lambda tasks: gather(tasks, crew, store, progress))
        if batch.start == 0:
            check_metrics(own, [row.outcome for row in rows])
        if own.stop is not None:
            open_points = _undecided(rows, open_points, own.stop)
    rows.sort(key=lambda row: (row.point, row.replication))
    decided = (own.stop.metric,) if own.stop is not None else ()
    runs = frame(rows, grid, (*own.metrics, *decided), described.base.get("seed", 0))
    axes = {
        name: [field_column(path, [p[path] for p in grid])[0] for path in fields]
        for name, fields in own.fields.items()
    }
    metrics = list(runs.columns)[list(runs.columns).index("run") + 1 :]
    return Swept(own, runs, axes, metrics, store.folder, _save(store.folder / INDEX, runs))


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


def _undecided(rows: Sequence[Row], places: Sequence[int], stop: Stop) -> list[int]:
    """Return the points whose interval is not yet narrow enough, by all their replications."""
    values: dict[int, list[Any]] = {place: [] for place in places}
    for row in rows:
        if row.point in values:
            outcome = row.outcome
            values[row.point].append(
                None if isinstance(outcome, Failed) else outcome.get(stop.metric)
            )
    return [place for place, own in values.items() if not _narrow(own, stop.half_width)]


def _narrow(values: Sequence[Any], share: float) -> bool:
    """Tell whether the interval of the mean is narrow; never while a run has no figure."""
    if not all(isinstance(value, float) for value in values):
        return False
    mean, half_width = interval(np.array(values))
    return half_width <= share * abs(mean)


def _save(index: Path, runs: pd.DataFrame) -> str:
    """Write the index of a sweep; return why it cannot be, if so: no reason to lose it."""
    try:
        write(index, to_parquet(runs))
    except OSError as error:
        return f"{index} could not be written: {error.strerror or error}"
    return ""
