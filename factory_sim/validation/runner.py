"""Running many cases side by side, and what came of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from factory_sim.catalog import Catalog, load_catalog
from factory_sim.catalog.parameters import with_values
from factory_sim.errors import InputError
from factory_sim.validation.case import Case
from factory_sim.validation.measure import simulate_case

Values = Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """A case and its simulated metrics, or the reason why it cannot be run."""

    case: Case
    simulated: dict[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def errors(self) -> dict[str, float]:
        """Return simulated over measured, less one, by metric."""
        found, measured = self.simulated, self.case.measured
        return {str(m): found[m] / value - 1.0 for m, value in measured.items() if m in found}


class Task:
    """A case to run on the catalogue of `folder` with some parameters at other `values`.

    It travels to another process, where the catalogue is read again: figures are light.
    """

    def __init__(self, case: Case, values: Values, folder: Path | None) -> None:
        self.case, self.values, self.folder = case, dict(values), folder

    def run(self) -> Outcome:
        """Run the case; what it cannot be run for becomes its reason."""
        facts = with_values(_catalog(self.folder), self.values)
        try:
            return Outcome(self.case, simulate_case(self.case, facts))
        except InputError as error:
            return Outcome(self.case, reason="; ".join(map(str, error.problems)))


@cache
def _catalog(folder: Path | None) -> Catalog:
    return load_catalog(folder)


def run_cases(
    cases: Sequence[Case],
    values: Values | None = None,
    folder: Path | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Run every case, in order; the same outcomes on any number of workers.

    values: parameters to set otherwise than the catalogue has them; folder: of the user's own
    catalogue files. progress: told how many cases are done.
    """
    tasks = [Task(case, values or {}, folder) for case in cases]
    outcomes: list[Outcome] = []
    for outcome in _outcomes(tasks, workers):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes))
    return outcomes


def run_tasks(tasks: Iterable[Task], pool: Executor) -> list[Outcome]:
    """Run tasks on the workers of a pool that is kept open; outcomes in order."""
    return list(pool.map(Task.run, tasks, chunksize=8))


def _outcomes(tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    if workers <= 1 or len(tasks) <= 1:
        yield from (task.run() for task in tasks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(Task.run, tasks, chunksize=4)
