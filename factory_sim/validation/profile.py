"""An engine profile fitted to somebody's own benchmark: the host times of their engine.

Like setting a clock by a few sightings: the hardware's figures stay as the catalogue has them,
and what the engine adds on top (a step, a sequence, a request, a layer) is moved until the
simulated latencies and rates come nearest to the measured ones. What the cases cannot tell
apart stays near the profile that it started from: each figure has a prior around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from factory_sim.catalog import Catalog, Engine, load_catalog
from factory_sim.errors import InputError, Problem
from factory_sim.validation.case import Case
from factory_sim.validation.catalog_fit import ENGINES
from factory_sim.validation.fit import ROBUST, Fit, Knob, Target, fit, robust, without
from factory_sim.validation.runner import Outcome, Task, run_tasks

FIELDS = ENGINES
"""Figures that are fitted, as in the catalogue's own fit: log spread of the prior, least, most."""

UNTIMED = ("gpu_power_w", "server_power_w", "energy_per_output_token_j")
"""Metrics that say nothing of host time: not fitted to, and shown all the same."""

FELT = 0.01
"""A figure is fitted if one spread of its prior moves some metric by this share: less is lost
in the noise of any benchmark (our judgement)."""

DIGITS = 5
"""Significant digits of a fitted figure as written."""


@dataclass(frozen=True)
class Fitted:
    """A host time in seconds, before and after. error: relative; None where it is not fitted."""

    before: float
    value: float
    error: float | None


@dataclass(frozen=True)
class Profile:
    """A fitted profile and how well it does.

    before, after: every case with the profile `like`, and with this one. left_out: each group
    of cases under the fit to the other groups; empty where there is one group only. groups:
    what was left out in turn, models or cases. unused: cases that cannot be run.
    """

    name: str
    like: str
    source: str
    figures: dict[str, Fitted]
    before: list[Outcome]
    after: list[Outcome]
    left_out: list[Outcome]
    groups: str
    unused: list[Outcome]


def start_of(cases: Sequence[Case], like: str | None, facts: Catalog) -> str:
    """Return the profile to set out from: `like`, or the one that the cases name.

    Raises InputError where there is no such profile, or the cases name several.
    """
    named = sorted({case.engine.profile for case in cases})
    if like is None and len(named) > 1:
        raise InputError(
            Problem("--like", f"the cases name {', '.join(named)}; say which to set out from")
        )
    try:
        return facts.engine(like or named[0]).name
    except InputError as error:
        raise InputError(Problem("--like", p.message) for p in error.problems) from None


def fit_profile(
    cases: Sequence[Case],
    name: str,
    like: str,
    source: str,
    folder: Path | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Profile:
    """Return the host times under which the engine comes nearest to the cases.

    Every case is taken to be of this engine, whatever profile it names. like: the catalogue's
    profile to set out from. folder: of the user's own catalogue files. progress: told how many
    simulations are done. The same profile on any number of workers. Raises InputError where no
    case can be run, or none depends on host time.
    """
    facts = load_catalog(folder)
    start = facts.engine(like).name
    with ProcessPoolExecutor(workers) as processes:
        pool = _Counted(processes, progress)
        ours = [_of(case, start) for case in cases]
        first = run_tasks([Task(case, {}, folder) for case in ours], pool)
        before = [outcome for outcome in first if outcome.simulated]
        unused = [outcome for outcome in first if not outcome.simulated]
        if not before:
            raise InputError(Problem(o.case.id, o.reason) for o in unused)
        targets = _targets([outcome.case for outcome in before])
        found = fit(targets, _knobs(facts.engine(start), start), pool, folder)
        felt = _felt(found)
        if not felt:
            raise InputError(
                Problem(
                    "measured",
                    "no figure of the cases depends on the engine's host time; measure a latency "
                    "or a rate of tokens, and small batches too",
                )
            )
        figures = dict(_figures(found, targets, felt, facts.engine(start)))
        values = {knob: figures[knob.rpartition(".")[2]].value for knob in felt}
        after = run_tasks([Task(t.case, values, folder) for t in targets], pool)
        left_out = run_tasks(_tasks_apart(found, targets, felt, folder), pool)
    return Profile(
        name,
        start,
        source,
        figures,
        before,
        after,
        left_out,
        "model" if len({t.case.model for t in targets}) > 1 else "case",
        unused,
    )


def to_yaml(profile: Profile, facts: Catalog) -> str:
    """Return the profile as the text of an engine file: one entry, as in engines.yaml.

    Fitted figures are calibrated, with their standard errors; the rest is that of `like`.
    """
    pattern = facts.engine(profile.like).model_dump(
        mode="json", exclude={"name"}, exclude_none=True
    )
    entry: dict[str, Any] = pattern | {"title": f"{pattern['title']}, {profile.source}"}
    for field, figure in profile.figures.items():
        if figure.error is not None:
            entry[field] = {
                "value": written(figure.value),
                "kind": "calibrated",
                "source": profile.source,
                "error": float(f"{figure.error:.3g}"),
            }
    text = yaml.safe_dump(
        {profile.name: entry},
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=1000,
    )
    head = "# Host times of a serving engine, fitted by `factory-sim calibrate` to measurements.\n"
    return head + text


def written(seconds: float) -> str:
    """Return a host time as YAML has it: `912.4 us`."""
    return f"{seconds * 1e6:.{DIGITS}g} us"


class _Counted(Executor):
    """A pool that tells how many results have come out of it."""

    def __init__(self, pool: Executor, progress: Callable[[int], None] | None) -> None:
        self._pool, self._progress, self._done = pool, progress, 0

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        for result in self._pool.map(fn, *iterables, timeout=timeout, chunksize=chunksize):
            self._done += 1
            if self._progress is not None:
                self._progress(self._done)
            yield result


def _of(case: Case, profile: str) -> Case:
    engine = case.engine.model_copy(update={"profile": profile})
    return case.model_copy(update={"engine": engine})


def _knobs(engine: Engine, name: str) -> list[Knob]:
    """Return what may be moved: not a time of zero, which no factor makes longer."""
    values = {field: float(getattr(engine, field).value) for field in FIELDS}
    knobs = [Knob(f"engines.{name}.{f}", v, *FIELDS[f]) for f, v in values.items() if v]
    if not knobs:
        raise InputError(
            Problem(
                "--like",
                f"the host times of '{name}' are all zero, and no factor makes them longer; set "
                "out from the profile of an engine, such as vllm",
            )
        )
    return knobs


def _targets(cases: Sequence[Case]) -> list[Target]:
    """Return what to fit to. The metrics of one quantity (TTFT, say) count as one, together."""
    several = len({case.model for case in cases}) > 1
    targets = []
    for case in cases:
        kinds = [_kind(metric) for metric in case.measured]
        weights = {
            str(metric): kinds.count(kind) ** -0.5
            for metric, kind in zip(case.measured, kinds, strict=True)
            if metric not in UNTIMED
        }
        targets.append(Target(case, weights, case.model if several else case.id))
    return targets


def _kind(metric: str) -> str:
    """Return the quantity of a metric: one step's time goes by two names, so do rates."""
    return {"itl": "tpot", "total": "output"}.get(first := metric.partition("_")[0], first)


def _felt(found: Fit) -> list[str]:
    """Return the parameters that some metric of the cases depends on."""
    slopes = np.abs(found.jacobian[: len(found.rows)])
    most = slopes.max(axis=0, initial=0.0)
    return [k.name for k, slope in zip(found.knobs, most, strict=True) if slope * k.spread >= FELT]


def _figures(
    found: Fit, targets: Sequence[Target], felt: Sequence[str], engine: Engine
) -> Iterator[tuple[str, Fitted]]:
    errors = standard_errors(found, targets)
    names = {name.rpartition(".")[2]: name for name in felt}
    for field in FIELDS:
        before = float(getattr(engine, field).value)
        if field in names:
            value = float(f"{found.values[names[field]]:.{DIGITS}g}")
            yield field, Fitted(before, value, errors[names[field]])
        else:
            yield field, Fitted(before, before, None)


def standard_errors(found: Fit, targets: Sequence[Target]) -> dict[str, float]:
    """Return the standard error of each fitted value, relative: what data and prior leave open.

    The estimate is x = -B J'r with B = (J'J)^-1 over the rows and the prior; the rows err by
    s, estimated from their residuals, the prior by its own spread. So its covariance is
    B (s^2 J_rows'J_rows + J_prior'J_prior ROBUST^2) B. s^2 counts what the fit takes a row's
    error to be, ROBUST, as one more residual: a few rows met exactly do not prove themselves.
    """
    measured = len(found.rows)
    weights = robust(found.residuals, measured)
    slope, miss = found.jacobian * weights[:, None], found.residuals * weights
    rows, prior = slope[:measured], slope[measured:]
    bread = np.linalg.inv(slope.T @ slope)
    taken = float(np.trace(bread @ rows.T @ rows))
    given = sum(targets[number].weights[metric] ** 2 for number, metric in found.rows)
    noise = ROBUST**2 + float(np.sum(miss[:measured] ** 2))
    noise /= 1.0 + max(0.0, given - taken)
    covariance = bread @ (noise * rows.T @ rows + ROBUST**2 * prior.T @ prior) @ bread
    spread = np.sqrt(np.diag(covariance))
    return {knob.name: float(s) for knob, s in zip(found.knobs, spread, strict=True)}


def _tasks_apart(
    found: Fit, targets: Sequence[Target], felt: Sequence[str], folder: Path | None
) -> list[Task]:
    """Return every case with the parameters fitted to the other groups; none for one group."""
    groups = {target.group for target in targets}
    if len(groups) < 2:
        return []
    values: dict[str, Mapping[str, float]] = {}
    for group in sorted(groups):
        apart = without(found, targets, group)
        values[group] = {name: apart[name] for name in felt}
    return [Task(target.case, values[target.group], folder) for target in targets]
