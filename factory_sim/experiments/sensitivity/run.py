"""What goodput, latency, energy and money do when one thing is moved a little.

At the scenario's own traffic a site that keeps up makes no more tokens whatever it is given, only
sooner or with fewer joules. So every change is seen twice: there, and at the most traffic that the
site carries with every promise kept, where goodput is all that the site can do. Each seed has a
most of its own, found for the site as given and for every change of it: pairs of one seed differ by
the change and hardly by chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from factory_sim.atomic import write
from factory_sim.catalog.files import user_folder
from factory_sim.economics.capital import HOUR_S, YEAR_S
from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.crews import Crew, crew_of
from factory_sim.experiments.runs.gather import Progress, gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, Figures, Task, seeded, task_of
from factory_sim.experiments.sensitivity.levers import LEVERS, Change, Given, Ground, Overlay
from factory_sim.experiments.sizing.carried import Carried, Ladder, carried
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.experiments.sizing.promises import check_promised
from factory_sim.experiments.sizing.questions import Cap
from factory_sim.experiments.sizing.size import kernel_of, promised
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.metrics.statistics import interval
from factory_sim.scenario.load import load, plain, scenario_from
from factory_sim.scenario.scenario import Scenario

At = Literal["capacity", "traffic"]

FOLDER = Path("sweeps") / "sensitivity"

BASE = "as given"
"""What the site without a change is called."""

GOODPUT = "goodput_output_tokens_per_s"
PROFIT = "profit_usd_per_h"
WORTH = "usd_per_year_per_unit"
"""Profit of a year, for one more of what is moved."""

_BOTH = (
    "energy_per_output_token_j",
    "usd_per_million_output_tokens",
    "gco2_per_million_output_tokens",
    PROFIT,
)
CAPACITY = (GOODPUT, "load", *_BOTH)
TRAFFIC = (GOODPUT, "ttft_ms.p99", "tpot_ms.p99", "grid_power_mw.mean", "gpus", *_BOTH)
"""Figures that are compared at the most traffic, and at the scenario's; those that a run has."""


@dataclass(frozen=True)
class Sensed:
    """What came of it. table: see `sensitivity`. left_out: why, by lever. folder: of everything."""

    table: pd.DataFrame
    left_out: dict[str, str]
    folder: Path
    share: float
    replications: int

    @property
    def at_capacity(self) -> bool:
        """Tell whether the most traffic was sought."""
        return f"capacity.{GOODPUT}" in self.table


def sensitivity(
    scenario: str | Path | Scenario,
    share: float = 0.1,
    at: At = "capacity",
    levers: Sequence[str] | None = None,
    slo: str | None = None,
    replications: int = 3,
    precision: float = 0.04,
    out: str | Path | None = None,
    workers: int | None = None,
    dask: Any = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return what moving one thing by a share does: a row for each lever, the largest effect first.

    at: `capacity`, at the scenario's traffic and at the most that the site carries with every
    promise kept; `traffic`, at the first alone. levers: names of LEVERS; by default all that the
    scenario has. slo: a preset in place of its promises. replications: seeds, the same for all.
    precision: from one load that is looked at to the next. out: the folder of runs and scenarios;
    by default sweeps/sensitivity. progress: told of how many runs, or of searches, are there.
    Columns: lever (the first row is `as given`), title, before, after, unit, contrary (surely worse
    where better was expected); of every figure its mean, `.difference` to the first row and the
    `.half_width` of its 95 % interval, of `capacity.` and of `traffic.`;
    `capacity.tokens_per_s_per_unit`: goodput for one more of the unit; with costs and prices, of
    both, `usd_per_year_per_unit` and its half width: profit of a year for one more of it.
    Raises InputError for a scenario that cannot be run, or that carries nothing.
    """
    given = scenario if isinstance(scenario, Scenario) else load(scenario)
    with crew_of(workers, dask) as crew:
        return run_sensitivity(
            given, crew, share, at, levers, slo, replications, precision, out, progress
        ).table


def run_sensitivity(
    scenario: Scenario,
    crew: Crew,
    share: float = 0.1,
    at: At = "capacity",
    levers: Sequence[str] | None = None,
    slo: str | None = None,
    replications: int = 3,
    precision: float = 0.04,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Sensed:
    """Return what came of it with the runs done by a crew; as `sensitivity`."""
    _check(share, levers, replications, precision)
    given = promised(plain(scenario), slo)
    if at == "capacity":
        check_promised(scenario_from(given))
    cap = Cap(given, precision) if at == "capacity" else None
    if cap is not None:
        given |= {"kernel": kernel_of(scenario, cap.bounds)}
    folder = Path(out) if out is not None else FOLDER
    store = Store(folder)
    changes, left_out = _changes(given, share, levers, folder)
    points = {BASE: given} | {name: change.given for name, change in changes.items()}
    found = {"traffic": _at_traffic(points, replications, crew, store, progress)}
    if cap is not None:
        most = _at_most(points, cap, replications, crew, store, progress)
        found = {"capacity": most} | found
    table = pd.DataFrame(_rows(changes, found))
    if cap is not None and len(table) > 1:
        size = table[f"capacity.{GOODPUT}.difference"].abs()
        size[0] = np.inf
        table = table.iloc[np.argsort(-size.to_numpy(), kind="stable")].reset_index(drop=True)
    return Sensed(table, left_out, folder, share, replications)


def _check(share: float, levers: Sequence[str] | None, replications: int, precision: float) -> None:
    if not 0.0 < share <= 0.5:
        raise InputError(Problem("--change", f"must be above 0 and at most 50 %: {share}"))
    if replications < 1:
        raise InputError(Problem("--replications", f"must be 1 at least, not {replications}"))
    if not 0.0 < precision <= 0.5:
        raise InputError(Problem("--precision", f"must be above 0 and at most 50 %: {precision}"))
    for name in levers or ():
        if name not in LEVERS:
            raise InputError(Problem("--lever", f"'{name}' is none of {', '.join(LEVERS)}"))


def _changes(
    given: Given, share: float, levers: Sequence[str] | None, folder: Path
) -> tuple[dict[str, Change], dict[str, str]]:
    """Return every change that can be made, written as a scenario of its own; or why not."""
    scenario = scenario_from(given)
    fleets = [fleet for fleet in fleets_of(lay_out_sites(scenario)) if not fleet.encodes]
    ground = Ground(given, scenario, fleets, share)
    changes: dict[str, Change] = {}
    left_out: dict[str, str] = {}
    for name in levers or LEVERS:
        change = LEVERS[name].move(ground)
        if isinstance(change, str):
            left_out[name] = change
            continue
        if change.before == change.after:
            left_out[name] = "there is none of it to move"
            continue
        own = dict(change.given)
        if change.overlay:
            own["catalog"] = str(_catalog(given.get("catalog"), change.overlay, folder))
        try:
            lay_out_sites(scenario_from(own))
        except InputError as error:
            left_out[name] = "; ".join(map(str, error.problems))
            continue
        _write(folder, name, own)
        changes[name] = change._replace(given=own)
    _write(folder, "as_given", given)
    return changes, left_out


def _catalog(own: str | None, overlay: Overlay, folder: Path) -> Path:
    """Return a folder with a scenario's own catalogue and other figures laid over it.

    It is named by what it holds: a folder of one name never says two things.
    """
    sections: dict[str, dict[str, dict[str, Any]]] = user_folder(Path(own)) if own else {}
    for section, entries in overlay.items():
        known = dict(sections.get(section, {}))
        known |= {name: known.get(name, {}) | fields for name, fields in entries.items()}
        sections[section] = known
    texts = {name: yaml.safe_dump(known, sort_keys=False) for name, known in sections.items()}
    digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:12]
    place = (folder / "catalogs" / digest).resolve()
    place.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write(place / f"{name}.yaml", text.encode(), durable=False)
    return place


def _write(folder: Path, name: str, given: Given) -> None:
    """Write a scenario; a catalogue in the folder is named from there, so that it may move."""
    place = folder / "points"
    place.mkdir(parents=True, exist_ok=True)
    catalog = Path(given.get("catalog", place))
    if catalog.parent == (folder / "catalogs").resolve():
        given = {**given, "catalog": f"../catalogs/{catalog.name}"}
    text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
    write(place / f"{name}.yaml", text.encode(), durable=False)


def _at_traffic(
    points: Mapping[str, Given],
    replications: int,
    crew: Crew,
    store: Store,
    progress: Progress | None,
) -> dict[str, list[Figures]]:
    """Return the figures of every point and seed at the scenario's own traffic."""
    tasks = {
        name: [seeded(first, number) for number in range(replications)]
        for name, first in ((name, task_of(given)) for name, given in points.items())
    }
    wanted = {task.key: task for own in tasks.values() for task in own}
    outcomes = gather(wanted, crew, store, progress)
    found: dict[str, list[Figures]] = {}
    for name, own in tasks.items():
        found[name] = []
        for outcome in (outcomes[task.key] for task in own):
            if isinstance(outcome, Failed):
                raise InputError(Problem(name, outcome.cause))
            found[name].append(outcome)
    return found


def _at_most(
    points: Mapping[str, Given],
    cap: Cap,
    replications: int,
    crew: Crew,
    store: Store,
    progress: Progress | None,
) -> dict[str, list[Figures]]:
    """Return the figures of every point and seed at the most traffic that it carries.

    The site as given is sought first; the others start from what it carries.
    """

    @cache
    def task(name: str, place: int) -> Task:
        return task_of(at_load(points[name], cap.size(place)))

    def ladder(name: str, seed: int, start: int, stride: int) -> Ladder:
        def at(place: int) -> Task:
            return seeded(task(name, place), seed)

        return Ladder(at, cap.size, start, cap.lowest, cap.highest, stride)

    seeds = range(replications)
    first = _sought(
        {f"{seed}": ladder(BASE, seed, cap.start, cap.stride) for seed in seeds},
        *(crew, store, progress),
    )
    starts = [_place(first[f"{seed}"]) for seed in seeds]
    others = _sought(
        {
            f"{name} {seed}": ladder(name, seed, starts[seed], 1)
            for name in points
            for seed in seeds
            if name != BASE
        },
        *(crew, store, progress),
    )
    found = {BASE: [_most(first[f"{seed}"]) for seed in seeds]}
    for name in points:
        if name != BASE:
            found[name] = [_most(others[f"{name} {seed}"]) for seed in seeds]
    return found


def _sought(
    ladders: Mapping[str, Ladder], crew: Crew, store: Store, progress: Progress | None
) -> dict[str, Carried]:
    found: dict[str, Carried] = {}
    for name, own in carried(ladders, crew, store, progress).items():
        if isinstance(own, Failed):
            raise InputError(Problem(name.rpartition(" ")[0] or BASE, own.cause))
        found[name] = own
    return found


def _place(own: Carried) -> int:
    """Return the rung up to which the site as given keeps its promises, if there is such a one."""
    mend = "promise {}, take another --slo, or look at this traffic alone: --at traffic"
    if own.held is None:
        said = f"even hardly any traffic breaks a promise; {mend.format('less')}"
        raise InputError(Problem("slo", said))
    if own.broken is None:
        said = "no promise breaks at twice the best that a perfect system does, so that the most "
        raise InputError(Problem("slo", f"{said}traffic is unknown; {mend.format('more')}"))
    return own.held.place


def _most(own: Carried) -> Figures:
    figures: Figures = {GOODPUT: own.goodput_output_tokens_per_s, "load": own.load}
    for name in _BOTH:
        value = own.figure(name)
        if value is not None:
            figures[name] = value
    return figures


def _rows(
    changes: Mapping[str, Change], found: Mapping[str, Mapping[str, Sequence[Figures]]]
) -> Iterator[dict[str, Any]]:
    """Yield the row of the site as given, then one for each change."""
    for name in (BASE, *changes):
        change = changes.get(name)
        row: dict[str, Any] = {"lever": name, "title": LEVERS[name].title if change else BASE}
        row |= {"before": nan, "after": nan, "unit": "", "contrary": False}
        if change is not None:
            row |= {"before": change.before, "after": change.after, "unit": change.unit}
        for where, figures in {"capacity": CAPACITY, "traffic": TRAFFIC}.items():
            for figure in figures:
                if where in found:
                    row |= _compared(f"{where}.{figure}", figure, name, found[where])
            profit = f"{where}.{PROFIT}"
            if change is not None and profit in row:
                yearly = YEAR_S / HOUR_S / (change.after - change.before)
                row[f"{where}.{WORTH}"] = row[f"{profit}.difference"] * yearly
                row[f"{where}.{WORTH}.half_width"] = row[f"{profit}.half_width"] * abs(yearly)
        if change is not None and "capacity" in found:
            difference = row[f"capacity.{GOODPUT}.difference"]
            surely = abs(difference) > row[f"capacity.{GOODPUT}.half_width"]
            row["contrary"] = bool(surely and difference < 0.0 and LEVERS[name].better)
            row["capacity.tokens_per_s_per_unit"] = difference / (change.after - change.before)
        yield row


def _compared(
    column: str, figure: str, name: str, runs: Mapping[str, Sequence[Figures]]
) -> dict[str, float]:
    """Return a figure of a point, and how it differs from the site as given, seed by seed."""
    own, base = ([run.get(figure) for run in runs[each]] for each in (name, BASE))
    if all(value is None for value in own):
        return {}
    here, there = (np.array([nan if v is None else float(v) for v in each]) for each in (own, base))
    mean, _ = interval(here)
    difference, half_width = interval(here - there)
    return {column: mean, f"{column}.difference": difference, f"{column}.half_width": half_width}
