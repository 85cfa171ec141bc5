"""Sizing by a search over runs: of every size several seeds, which all must keep every promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.crews import Crew, crew_of
from factory_sim.experiments.runs.gather import gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, Figures, Task, seeded, task_of
from factory_sim.experiments.sizing.bounds import Bounds
from factory_sim.experiments.sizing.promises import PRESETS, Kept, kept, unpromised
from factory_sim.experiments.sizing.questions import Cap, Demand, Given, Question
from factory_sim.experiments.sizing.search import threshold
from factory_sim.scenario.load import load, plain
from factory_sim.scenario.scenario import Scenario

Aim = Literal["demand", "cap"]

FOLDER = Path("sweeps") / "size"

MANY_REQUESTS = 50_000
"""Of a run that takes SimPy some seconds, and the search half a minute."""

HEADLINES = (
    "goodput_requests_per_s",
    "goodput_output_tokens_per_s",
    "output_tokens_per_s",
    "grid_power_mw.mean",
    "grid_power_mw.max",
    "provisioned.utility_mw",
    "gpus",
)
"""Figures told of every size: means over the runs."""


class Looked(NamedTuple):
    """A size that was looked at: its runs, and every promise over them."""

    size: float
    runs: list[Figures]
    promises: list[Kept]

    @property
    def met(self) -> bool:
        """Tell whether every run kept every promise."""
        return all(promise.met for promise in self.promises)


@dataclass(frozen=True)
class Sized:
    """What a search came to. unit: of sizes: replicas, racks, or load (a multiple of the traffic).

    answer: None where no size keeps the promises. beyond: the nearest size that was seen to break
    them: one replica or rack fewer, or the next load; None where there is none. looked: every size,
    in order. scenario: resolved data at the answer. bounds: of a perfect system.
    """

    aim: Aim
    unit: str
    answer: Looked | None
    beyond: Looked | None
    looked: list[Looked]
    scenario: Given | None
    bounds: Bounds
    replications: int

    @property
    def table(self) -> pd.DataFrame:
        """Return a row for each size that was looked at: see `size`."""
        return pd.DataFrame([self._row(looked) for looked in self.looked])

    def _row(self, looked: Looked) -> dict[str, Any]:
        row: dict[str, Any] = {self.unit: looked.size, "met": looked.met}
        row["answer"] = looked is self.answer
        for promise in looked.promises:
            row[f"{promise.who}.{promise.what}_ms"] = promise.value_ms
            row[f"{promise.who}.{promise.what}_mean_ms"] = promise.mean_ms
            row[f"{promise.who}.{promise.what}_half_width_ms"] = promise.half_width_ms
        for name in HEADLINES:
            values = [float(run[name]) for run in looked.runs]
            row[name] = sum(values) / len(values)
        return row


def size(
    scenario: str | Path | Scenario,
    aim: Aim,
    slo: str | None = None,
    replications: int = 3,
    precision: float = 0.02,
    out: str | Path | None = None,
    workers: int | None = None,
    dask: Any = None,
    progress: Callable[[int, float], None] | None = None,
) -> pd.DataFrame:
    """Return what was looked at to size a site: a row for each size, the answer among them.

    aim: `demand`, the fewest replicas, or racks where replicas fill them, that keep every promise
    at the scenario's traffic; or `cap`, the most traffic, as a multiple of the scenario's, that its
    site carries with every promise kept. slo: a preset in place of the scenario's promises.
    replications: runs of every size, each with its own seed, the same for all sizes; every one has
    to keep the promises. precision: of the load, from one that is looked at to the next. out: the
    folder that keeps the runs; by default sweeps/size. progress: told how many sizes were looked
    at, and of the next.
    Columns: the size, met, answer; of each promise the largest value of the runs, their mean and
    the half width of its 95 % interval, ms; then means over the runs.
    Raises InputError for a scenario that cannot be sized or run.
    """
    given = scenario if isinstance(scenario, Scenario) else load(scenario)
    with crew_of(workers, dask) as crew:
        return run_size(given, aim, crew, slo, replications, precision, out, progress).table


def run_size(
    scenario: Scenario,
    aim: Aim,
    crew: Crew,
    slo: str | None = None,
    replications: int = 3,
    precision: float = 0.02,
    out: str | Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Sized:
    """Return what a search by a crew came to; as `size`."""
    if replications < 1:
        raise InputError(Problem("--replications", f"must be 1 at least, not {replications}"))
    if not 0.0 < precision <= 0.5:
        raise InputError(Problem("--precision", f"must be above 0 and at most 50 %: {precision}"))
    given = promised(plain(scenario), slo)
    question: Question = Demand(given) if aim == "demand" else Cap(given, precision)
    kernel = {"kernel": kernel_of(scenario, question.bounds)}
    store = Store(Path(out) if out is not None else FOLDER)
    found: dict[int, Looked] = {}

    def looked_at(place: int) -> Looked:
        if place not in found:
            if progress is not None:
                progress(len(found), question.size(place))
            first = task_of(question.at(place) | kernel)
            found[place] = _look(question, place, first, replications, crew, store)
        return found[place]

    changes = threshold(
        lambda place: looked_at(place).met == question.more_is_better,
        *(question.start, question.lowest, question.highest, question.stride),
    )
    edge = question.highest + 1 if changes is None else changes
    answer, beyond = (edge, edge - 1) if question.more_is_better else (edge - 1, edge)
    return Sized(
        aim,
        question.unit,
        found.get(answer),
        found.get(beyond),
        [found[place] for place in sorted(found)],
        question.at(answer) | kernel if answer in found else None,
        question.bounds,
        replications,
    )


def _look(
    question: Question, place: int, first: Task, replications: int, crew: Crew, store: Store
) -> Looked:
    """Return what a size came to. Raises InputError where a run of it failed."""
    tasks = {task.key: task for task in (seeded(first, n) for n in range(replications))}
    runs: list[Figures] = []
    for outcome in gather(tasks, crew, store).values():
        if isinstance(outcome, Failed):
            where = f"{question.unit} {question.size(place):,.4g}"
            raise InputError(Problem(where, outcome.cause))
        runs.append(outcome)
    promises = kept(runs)
    if not promises:
        raise unpromised()
    return Looked(question.size(place), runs, promises)


def kernel_of(scenario: Scenario, bounds: Bounds) -> str:
    """Return what serves the runs, unless the scenario says so: the compiled kernel, where it can,
    if they are long enough to be worth its compilation on a machine that has not done it yet."""
    if "kernel" in scenario.model_fields_set:
        return scenario.kernel
    per_s = max((pool.asked_per_s or 0.0 for pool in bounds.pools), default=0.0)
    return "auto" if per_s * scenario.duration >= MANY_REQUESTS else "simpy"


def promised(given: Given, slo: str | None) -> Given:
    """Return the data with a preset in place of what deployments promise."""
    if slo is None:
        return given
    if slo not in PRESETS:
        raise InputError(Problem("--slo", f"'{slo}' is none of {', '.join(sorted(PRESETS))}"))
    deployments: Mapping[str, Any] = given["deployments"]
    changed = {name: {**spec, "slo": dict(PRESETS[slo])} for name, spec in deployments.items()}
    return {**given, "deployments": changed}
