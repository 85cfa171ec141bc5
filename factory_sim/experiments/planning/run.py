"""A plan: the candidates that promise most are run, the better ones for longer, and ranked.

Three rounds of successive halving (Jamieson and Talwalkar, 2016). In each the most traffic that a
candidate carries with every promise kept is sought: over a ninth of the scenario's duration, a
third, then all of it with several seeds; or over less, where that is requests enough. After the
first, the best get rivals of their own kind with another batch or clock; and some come in that are
faster for a single user, for the front of goodput and interactivity. What was never run is told
apart: proved worse, since a perfect system of its kind does less than the best that was seen to do;
or not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, exp, floor, log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from factory_sim.atomic import write
from factory_sim.errors import InputError, Problem
from factory_sim.experiments.front import best_of_all
from factory_sim.experiments.planning.candidates import Axes, Given, candidates, deployment_of
from factory_sim.experiments.planning.prospects import Prospect, Prospects, Refused
from factory_sim.experiments.planning.table import OBJECTIVES, Tried, points_of, table_of
from factory_sim.experiments.runs.crews import Crew, crew_of
from factory_sim.experiments.runs.gather import gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, Task, seeded, task_of
from factory_sim.experiments.sizing.carried import Ladder, carried, strain
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.experiments.sizing.promises import check_promised
from factory_sim.experiments.sizing.questions import LEAST_REQUESTS
from factory_sim.experiments.sizing.size import MANY_REQUESTS, promised
from factory_sim.experiments.sweep.table import to_parquet
from factory_sim.scenario.load import load, plain, scenario_from
from factory_sim.scenario.scenario import Scenario

Told = Callable[[str], None]
"""Told what is done now."""

FOLDER = Path("sweeps") / "plan"

SHORTEST_S = 30.0
"""A run of less, if the scenario is longer, has hardly a request from its beginning to its end."""

BELOW = (0.25, 0.5, 0.75)
"""Shares of the most traffic at which those that are left at the end are run too."""


SLACK = 0.05
"""By how much a run may do better than what lasts for ever: chance brings it more or longer
requests, and what waits at its end was never late. A bound proves nothing closer than that."""


class Round(NamedTuple):
    """share: of the scenario's duration that is run, unless a candidate would have more than so
    many requests at best, in the mean over all in the round. keep: how many go on after it."""

    share: float
    requests: float
    keep: int


ROUNDS = (Round(1 / 9, 2e4, 4), Round(1 / 3, 5e4, 3), Round(1.0, 3.5e5, 3))
RIVALS = 2
"""Of how many of the best rivals are tried, with another batch or clock."""

FASTER = 3
"""How many candidates come in for the front: by their bounds none gives more, and as fast."""


@dataclass(frozen=True)
class Planned:
    """What came of it. table, points: see `plan`. refused: those that cannot be. limit_mw: the
    least grid limit of the run. objective: what is sought, by name."""

    table: pd.DataFrame
    points: pd.DataFrame
    refused: list[Refused]
    objective: str
    limit_mw: float
    folder: Path
    replications: int


def plan(
    scenario: str | Path | Scenario,
    axes: Axes | None = None,
    objective: str = "goodput",
    simulate: int = 12,
    slo: str | None = None,
    replications: int = 2,
    precision: float = 0.05,
    out: str | Path | None = None,
    workers: int | None = None,
    dask: Any = None,
    progress: Told | None = None,
) -> pd.DataFrame:
    """Return what a site should be built of and run with: a row for each candidate, by rank.

    The site's meter, building, traffic and promises are the scenario's; how much of the traffic is
    carried is what is found. axes: what is tried. objective: goodput (output tokens/s within every
    promise, per MW of the grid limit), energy, cost or carbon (of a token). simulate: how many
    candidates are run, the best of every system first, then by their bounds. slo: a preset in
    place of the promises. replications: seeds of the last round. precision: from one load that is
    looked at to the next. out: the folder of runs, tables and scenarios; by default sweeps/plan.
    Columns: rank, candidate and what it is, status (`ranked`, `beaten in round N`, `failed`,
    `carries nothing`, `proved worse`, `not tried`, `refused: ...`), load (as a multiple of the
    traffic), goodput_output_tokens_per_s_per_mw with its half_width, other figures at that load,
    and bound_ of goodput.
    Raises InputError for a scenario that no plan can be made for.
    """
    given = scenario if isinstance(scenario, Scenario) else load(scenario)
    with crew_of(workers, dask) as crew:
        return run_plan(
            given, crew, axes, objective, simulate, slo, replications, precision, out, progress
        ).table


def run_plan(
    scenario: Scenario,
    crew: Crew,
    axes: Axes | None = None,
    objective: str = "goodput",
    simulate: int = 12,
    slo: str | None = None,
    replications: int = 2,
    precision: float = 0.05,
    out: str | Path | None = None,
    progress: Told | None = None,
) -> Planned:
    """Return what came of it with the runs done by a crew; as `plan`."""
    _check(objective, simulate, replications, precision)
    axes = axes or Axes()
    given = promised(plain(scenario), slo)
    deployment_of(given)
    check_promised(scenario_from(given))
    folder = Path(out) if out is not None else FOLDER
    store = Store(folder)
    tell = progress or (lambda _: None)
    tell("what each candidate could do at best")
    prospects = Prospects(given)
    at_load(given, 1.0)  # refuses what has no rate
    found, refused = prospects.of(candidates(given, scenario.facts, axes))
    if not found:
        raise InputError(Problem(each.candidate.name, each.why) for each in refused[:5])
    race = _Race(scenario, prospects, crew, store, objective, replications, precision, tell)
    chosen = first_of(found, simulate)
    named = axes.systems is not None
    tried = race.run([Tried(each) for each in chosen], _faster(found), axes, named)
    ranked = sorted(
        tried,
        key=lambda own: (not own.carries, -own.rounds, -own.score(objective, race.limit_mw)),
    )
    best = ranked[0].score(objective, race.limit_mw)
    others = [
        (each, _status(each, objective, best * race.limit_mw))
        for each in found
        if each not in chosen and each.candidate not in {own.prospect.candidate for own in tried}
    ]
    table = table_of(ranked, others, refused, race.limit_mw, len(ROUNDS))
    points = points_of(ranked, race.limit_mw)
    _keep(folder, table, points, [*ranked, *(Tried(each) for each, _ in others)])
    return Planned(table, points, refused, objective, race.limit_mw, folder, replications)


def _check(objective: str, simulate: int, replications: int, precision: float) -> None:
    if objective not in OBJECTIVES:
        said = f"'{objective}' is none of {', '.join(OBJECTIVES)}"
        raise InputError(Problem("--objective", said))
    for name, value in {"--simulate": simulate, "--replications": replications}.items():
        if value < 1:
            raise InputError(Problem(name, f"must be 1 at least, not {value}"))
    if not 0.0 < precision <= 0.5:
        raise InputError(Problem("--precision", f"must be above 0 and at most 50 %: {precision}"))


def first_of(found: Sequence[Prospect], simulate: int) -> list[Prospect]:
    """Return whom to run while there is room: the best of every system, then of each the best with
    and without data-parallel attention, then the best of all."""
    best = {each.candidate.system: each for each in reversed(found)}
    # Bounds of attention in ranks are far above what is seen: they must not keep the others out.
    kinds = {(each.candidate.system, each.ranked): each for each in reversed(found)}
    leaders = sorted(best.values(), key=found.index)
    leaders += sorted((each for each in kinds.values() if each not in leaders), key=found.index)
    leaders = leaders[:simulate]
    rest = [each for each in found if each not in leaders]
    return [*leaders, *rest[: simulate - len(leaders)]]


def _faster(found: Sequence[Prospect]) -> list[Prospect]:
    """Return some that are faster for a single user than any that could give as much goodput."""
    bounds = [(each.output_tokens_per_s, each.tokens_per_s_per_user) for each in found]
    on_front = best_of_all(np.array(bounds))
    front = [each for each, best in zip(found, on_front, strict=True) if best]
    front.sort(key=lambda each: -each.tokens_per_s_per_user)
    return front[:: ceil(len(front) / FASTER)]


def _status(prospect: Prospect, objective: str, best_per_s: float) -> str:
    """Tell whether a candidate that was not run could have won. best_per_s: goodput of the best."""
    bound = prospect.output_tokens_per_s
    if objective == "goodput" and bound * (1.0 + SLACK) <= best_per_s:
        return "proved worse"
    return "not tried"


class _Race:
    """Runs candidates round by round."""

    def __init__(
        self,
        scenario: Scenario,
        prospects: Prospects,
        crew: Crew,
        store: Store,
        objective: str,
        replications: int,
        precision: float,
        tell: Told,
    ) -> None:
        self._scenario = scenario
        self._prospects, self._crew, self._store = prospects, crew, store
        self._objective, self._replications, self._tell = objective, replications, tell
        self._step = log(1.0 + precision)
        limit_w = scenario.site.grid_limit.min_over(0.0, scenario.duration)
        self.limit_mw = float(limit_w) / 1e6

    def run(
        self, entered: list[Tried], faster: Sequence[Prospect], axes: Axes, named: bool
    ) -> list[Tried]:
        """Return all that were run. faster: who comes in for the front, after the first round.
        named: whether the best of every system stays to the end."""
        tried, running = list(entered), list(entered)
        shown: list[Tried] = []
        for number, each in enumerate(ROUNDS, 1):
            last = number == len(ROUNDS)
            self._tell(f"round {number} of {len(ROUNDS)}: {len(running)} candidates")
            self._look(running, each, self._replications if last else 1)
            running = [own for own in running if own.carries]
            running.sort(key=lambda own: -own.score(self._objective, self.limit_mw))
            if last:
                break
            kept = running[: each.keep]
            if named:
                best = {own.prospect.candidate.system: own for own in reversed(running)}
                kept += [own for own in best.values() if own not in kept]
            if number == 1:
                late = list(self._rivals(kept[:RIVALS], axes, tried))
                known = {own.prospect.candidate: own for own in [*tried, *late]}
                shown = [known.get(each.candidate, Tried(each, rounds=1)) for each in faster]
                late += [own for own in shown if own.prospect.candidate not in known]
                tried += late
                kept += late
                kept += [own for own in shown if own in running and own not in kept]
            running = kept
        self._tell("less traffic than the most")
        self._look_below([*running, *(own for own in shown if own.carries and own not in running)])
        return tried

    def _look(self, running: Sequence[Tried], each: Round, seeds: int) -> None:
        """Seek the most traffic that each candidate carries, all over the same time."""
        whole_s = self._scenario.duration
        per_s = np.mean([own.prospect.simulated_per_s for own in running]) if running else 1.0
        duration_s = min(each.share * whole_s, each.requests / float(per_s))
        duration_s = max(duration_s, min(whole_s, SHORTEST_S))
        for own in running:
            own.duration_s = duration_s
        ladders = {
            f"{own.prospect.candidate.name} {seed}": self._ladder(own, seed)
            for own in running
            for seed in range(seeds)
        }
        found = carried(ladders, self._crew, self._store)
        for own in running:
            own.rounds += 1
            outcomes = [found[f"{own.prospect.candidate.name} {seed}"] for seed in range(seeds)]
            failed = [each for each in outcomes if isinstance(each, Failed)]
            own.cause = failed[0].cause if failed else ""
            own.found = [] if failed else [o for o in outcomes if not isinstance(o, Failed)]
            self._check_figure(own)

    def _check_figure(self, own: Tried) -> None:
        """Refuse an objective that runs have no figure of."""
        if own.carries and np.isnan(own.score(self._objective, self.limit_mw)):
            figure = OBJECTIVES[self._objective][0]
            said = f"a run of this scenario has no '{figure}'; give the site what it follows from"
            raise InputError(Problem("--objective", said))

    def _ladder(self, own: Tried, seed: int) -> Ladder:
        """Return the loads of a candidate, multiples of the scenario's traffic."""
        prospect, step = own.prospect, self._step
        given, sent = self._run_of(own)
        best = prospect.requests_per_s / self._prospects.asked_per_s

        @cache
        def first(place: int) -> Task:
            return task_of(at_load(given, exp(step * place)))

        least = max(1e-3, min(1.0, LEAST_REQUESTS / sent))
        lowest, highest = floor(log(least * best) / step), floor(log(1.5 * best) / step)
        start, stride = floor(log(0.7 * best) / step), max(1, round(0.15 / step))
        if own.found and own.found[0].held is not None:
            start, stride = own.found[0].held.place, 1
        return Ladder(
            lambda place: seeded(first(place), seed),
            lambda place: exp(step * place),
            *(start, lowest, highest, stride),
        )

    def _run_of(self, own: Tried) -> tuple[Given, float]:
        """Return the scenario of a run of a candidate, and its requests at best."""
        given, duration_s = dict(own.prospect.given), own.duration_s
        sent = own.prospect.simulated_per_s * duration_s
        if duration_s < self._scenario.duration:
            warmup_s = self._scenario.warmup * duration_s / self._scenario.duration
            given |= {"duration": f"{duration_s!r} s", "warmup": f"{warmup_s!r} s"}
        if "kernel" not in self._scenario.model_fields_set:
            given["kernel"] = "auto" if sent >= MANY_REQUESTS else "simpy"
        return given, sent

    def _rivals(self, best: Sequence[Tried], axes: Axes, tried: Sequence[Tried]) -> Iterator[Tried]:
        """Yield candidates like the best, with half the batch, or a lower clock."""
        known = {own.prospect.candidate for own in tried}
        for own in best:
            candidate = own.prospect.candidate
            assert candidate.batch is not None
            changed = []
            if axes.batches is None:
                changed.append(candidate._replace(batch=max(1, candidate.batch // 2)))
            if axes.clocks is None:
                changed.append(candidate._replace(clock=0.85))
            for each in changed:
                looked = self._prospects.look(each)
                if isinstance(looked, Prospect) and looked.candidate not in known:
                    known.add(looked.candidate)
                    yield Tried(looked, rounds=1, found=own.found)

    def _look_below(self, running: Sequence[Tried]) -> None:
        """Run candidates at less traffic too, as long as the last round, to see what that buys."""
        longest_s = max((own.duration_s for own in running), default=0.0)
        wanted: dict[tuple[int, float], Task] = {}
        for index, own in enumerate(running):
            given, _ = self._run_of(replace(own, duration_s=longest_s))
            for share in BELOW:
                factor = share * float(np.mean([each.load for each in own.found]))
                wanted[index, factor] = task_of(at_load(given, factor))
        tasks = {task.key: task for task in wanted.values()}
        outcomes = gather(tasks, self._crew, self._store)
        for (index, factor), task in wanted.items():
            outcome = outcomes[task.key]
            if not isinstance(outcome, Failed) and strain(outcome) <= 0.0:
                running[index].below.append((longest_s, factor, outcome))


def _keep(
    folder: Path, table: pd.DataFrame, points: pd.DataFrame, feasible: Sequence[Tried]
) -> None:
    """Write the tables, and every candidate that can be as a scenario: with the most traffic at
    which all its runs kept their promises, or as much as is given where it was not run."""
    write(folder / "plan.parquet", to_parquet(table), durable=False)
    write(folder / "plan.csv", table.to_csv(index=False).encode(), durable=False)
    write(folder / "points.parquet", to_parquet(points), durable=False)
    place = folder / "candidates"
    place.mkdir(parents=True, exist_ok=True)
    for own in feasible:
        given = own.prospect.given
        if own.carries:
            given = at_load(given, min(each.held.load for each in own.found if each.held))
        text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
        write(place / file_of(own.prospect.candidate.name), text.encode(), durable=False)


def file_of(candidate: str) -> str:
    """Return the name of a candidate's scenario in the folder `candidates`."""
    return f"{candidate.replace(' ', '_')}.yaml"
