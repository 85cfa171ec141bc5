"""Fitting parameters to measurements: least squares on what the real engine simulates.

Residuals are log(simulated / measured), parameters are fitted as logarithms around the value
and spread that were known before (a Gaussian prior), and rare large misses count linearly
(soft L1). Every case that a parameter touches is run again for its derivative, so nothing
stands between the engine and the fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from factory_sim.catalog import Catalog, load_catalog
from factory_sim.catalog.calibration import EVERY, parts
from factory_sim.catalog.parameters import fact_of
from factory_sim.validation.case import Case
from factory_sim.validation.runner import Outcome, Task, run_tasks

Array = NDArray[np.float64]

STEP = 0.02
"""Relative step of the finite differences: above the noise of a changed schedule."""

ROBUST = 0.1
"""Log residuals beyond this count linearly, as the other half of a heavy tail."""


@dataclass(frozen=True)
class Knob:
    """A parameter to fit: its name, what it was before, and how sure that is (log spread).

    kin: a name that it shares with others of which the same was misjudged, if anything was: their
    priors may be off together, by a log spread of `together`. Without a name: each by itself.
    """

    name: str
    value: float
    spread: float
    low: float = 0.0
    high: float = math.inf
    kin: str = ""
    together: float = 0.0


@dataclass(frozen=True)
class Target:
    """A case to fit to, and the weight of each metric that counts. group: errs as one (a model)."""

    case: Case
    weights: Mapping[str, float]
    group: str = ""


@dataclass(frozen=True)
class Fit:
    """Fitted values; the covariance of their logarithms; derivatives and residuals by row.

    rows: (target number, metric) of each residual. The covariance takes rows of one group
    (a model, say) to err together: errors of a model's cases are no independent draws.
    """

    knobs: tuple[Knob, ...]
    values: dict[str, float]
    covariance: Array
    jacobian: Array
    residuals: Array
    rows: list[tuple[int, str]]
    cost: float

    @property
    def errors(self) -> dict[str, float]:
        """Return the standard error of each value, relative."""
        spread = np.sqrt(np.diag(self.covariance))
        return {k.name: float(s) for k, s in zip(self.knobs, spread, strict=True)}


def touches(case: Case, knob: str, facts: Catalog) -> bool:
    """Tell whether a parameter has a part in a case at all."""
    section, entry, field = parts(knob)
    family = facts.accelerator(case.gpu).family
    if section == "engines":
        routed = facts.model(case.model).moe is not None
        scans = facts.model(case.model).mamba_layers > 0
        narrow = facts.accelerator(case.gpu).arithmetic(case.weights(facts)) in ("fp8", "int8")
        return facts.engine(case.engine.profile).name == entry and (
            (routed or field not in OF_EXPERTS)
            and (narrow or field != "quantise_per_layer")
            and (scans or field != "scan_per_mamba_layer")
        )
    if section == "power":
        watched = bool({"gpu_power_w", "server_power_w"} & set(case.measured))
        routed = facts.model(case.model).moe is not None
        return watched and entry in (family, EVERY) and (routed or field != "expert_factor")
    if field in OF_EXPERTS and facts.model(case.model).moe is None:
        return False
    if entry == EVERY:
        return True
    accelerator = facts.accelerator(case.gpu)
    if field in OF_THE_CACHE:
        used = facts.efficiency(family, accelerator.arithmetic(case.kv_precision))
    else:
        used = facts.efficiency_of(accelerator, case.weights(facts))
    return facts.families[entry] is used


OF_EXPERTS = ("moe_per_layer", "expert_compute", "expert_spread", "launch_per_moe_layer")
"""Fields that matter to models with experts only."""

OF_THE_CACHE = ("kv_memory", "attention_compute")
"""Fields of a family's row that go by the precision of the KV cache."""


def fit(
    targets: Sequence[Target],
    knobs: Sequence[Knob],
    pool: Executor,
    folder: Path | None = None,
    rounds: int = 12,
    start: Mapping[str, float] | None = None,
    held: Mapping[str, float] | None = None,
) -> Fit:
    """Return the parameters under which the engine comes nearest to the targets.

    start: values to set out from (default: the prior's). held: other parameters, and the
    values to hold them at. rounds: most evaluations.
    """
    problem = _Problem(targets, knobs, pool, folder, held or {})
    begin = np.array([math.log((start or {}).get(k.name, k.value) / k.value) for k in knobs])
    low = [math.log(max(k.low, 1e-12) / k.value) for k in knobs]
    high = [math.log(k.high / k.value) if k.high < math.inf else 20.0 for k in knobs]
    found = least_squares(
        problem.residuals,
        np.clip(begin, np.array(low) + 1e-6, np.array(high) - 1e-6),
        jac=problem.jacobian,
        bounds=(low, high),
        loss=problem.loss,  # type: ignore[arg-type]
        x_scale=[k.spread for k in knobs],
        ftol=1e-3,
        xtol=1e-3,
        max_nfev=rounds,
    )
    residuals, jacobian = problem.residuals(found.x), problem.jacobian(found.x)
    values = {k.name: k.value * math.exp(x) for k, x in zip(knobs, found.x, strict=True)}
    measured = len(residuals) - len(knobs)
    groups = [targets[number].group for number, _ in problem.rows]
    covariance = _covariance(jacobian, residuals, measured, groups)
    return Fit(
        tuple(knobs), values, covariance, jacobian, residuals, problem.rows, float(found.cost)
    )


class _Problem:
    """Residuals and derivatives of a fit, with the last runs remembered."""

    def __init__(
        self,
        targets: Sequence[Target],
        knobs: Sequence[Knob],
        pool: Executor,
        folder: Path | None,
        held: Mapping[str, float],
    ) -> None:
        self.targets, self.knobs, self.pool, self.folder = targets, knobs, pool, folder
        self._held = dict(held)
        facts = load_catalog(folder)
        for knob in knobs:
            fact_of(facts, knob.name)
        self.touching = [
            [n for n, t in enumerate(targets) if touches(t.case, knob.name, facts)]
            for knob in knobs
        ]
        self.rows = [(n, metric) for n, t in enumerate(targets) for metric in t.weights]
        self._weights = np.array([targets[n].weights[metric] for n, metric in self.rows])
        self._prior = prior_of(knobs)
        self._seen: dict[bytes, list[Outcome]] = {}
        self._slopes: dict[bytes, Array] = {}

    def residuals(self, x: Array) -> Array:
        """Return weighted log residuals of every row, then the distance of x from the prior."""
        outcomes = self._run(x)
        logs = [_log_error(outcomes[n], metric) for n, metric in self.rows]
        return np.concatenate([np.array(logs) * self._weights, self._prior @ x])

    def jacobian(self, x: Array) -> Array:
        """Return the derivatives of `residuals` by forward differences."""
        if (key := x.tobytes()) not in self._slopes:
            self._slopes = {key: self._differences(x)}
        return self._slopes[key]

    def _differences(self, x: Array) -> Array:
        base = self._run(x)
        tasks, places = [], []
        for column, numbers in enumerate(self.touching):
            moved = x.copy()
            moved[column] += STEP
            values = self._values(moved)
            for n in numbers:
                tasks.append(Task(self.targets[n].case, values, self.folder))
                places.append((column, n))
        row_of: dict[int, list[tuple[int, str]]] = {}
        for row, (n, metric) in enumerate(self.rows):
            row_of.setdefault(n, []).append((row, metric))
        jacobian = np.zeros((len(self.rows) + len(self.knobs), len(self.knobs)))
        for (column, n), outcome in zip(places, run_tasks(tasks, self.pool), strict=True):
            for row, metric in row_of.get(n, []):
                change = _log_error(outcome, metric) - _log_error(base[n], metric)
                jacobian[row, column] = self._weights[row] * change / STEP
        jacobian[len(self.rows) :] = self._prior
        return jacobian

    def loss(self, z: Array) -> Array:
        """Soft L1 for the measured rows; the prior stays Gaussian (scipy's rho, rho', rho'')."""
        scaled = z / ROBUST**2
        t = 1.0 + scaled
        rho = np.array([2.0 * (np.sqrt(t) - 1.0), 1.0 / np.sqrt(t), -0.5 / t**1.5])
        rho *= np.array([[ROBUST**2], [1.0], [1.0 / ROBUST**2]])
        tail = len(self.rows)
        rho[0, tail:], rho[1, tail:], rho[2, tail:] = z[tail:], 1.0, 0.0
        return rho

    def _values(self, x: Array) -> dict[str, float]:
        moved = {k.name: k.value * math.exp(v) for k, v in zip(self.knobs, x, strict=True)}
        return {**self._held, **moved}

    def _run(self, x: Array) -> list[Outcome]:
        key = x.tobytes()
        if key not in self._seen:
            values = self._values(x)
            tasks = [Task(target.case, values, self.folder) for target in self.targets]
            self._seen = {key: run_tasks(tasks, self.pool)}
        return self._seen[key]


def prior_of(knobs: Sequence[Knob]) -> Array:
    """Return the matrix that turns log parameters, over their priors, into as many residuals.

    They are independent, and one of ROBUST is a spread: prior and data in the same coin.
    """
    spread = np.array([knob.spread for knob in knobs])
    kin = [knob.kin for knob in knobs]
    same = np.array([[a == b != "" for b in kin] for a in kin])
    shared = np.array([knob.together for knob in knobs]) * (same.sum(axis=0, initial=0) > 1)
    covariance = np.diag(spread**2) + np.outer(shared, shared) * same
    return ROBUST * np.asarray(np.linalg.cholesky(np.linalg.inv(covariance)).T)


def _log_error(outcome: Outcome, metric: str) -> float:
    """Return log(simulated / measured); a case that stops running counts as no residual."""
    if metric not in outcome.simulated:
        return 0.0
    return math.log(outcome.simulated[metric] / outcome.case.measured[metric])  # type: ignore[index]


def robust(residuals: Array, measured: int) -> Array:
    """Return the square roots of the weights that soft L1 gives the rows; 1 for the prior's."""
    weights = (1.0 + (residuals / ROBUST) ** 2) ** -0.25
    weights[measured:] = 1.0
    return weights


def _covariance(jacobian: Array, residuals: Array, measured: int, groups: Sequence[str]) -> Array:
    """Return the covariance of the log parameters, clustered by group (Liang, Zeger 1986).

    bread = (J'J)^-1; meat = sum over groups of (J_g' r_g)(J_g' r_g)', times G/(G-1); rows are
    weighted as the robust loss does. Never below the plain s^2 (J'J)^-1.
    """
    weights = robust(residuals, measured)
    slope, miss = jacobian * weights[:, None], residuals * weights
    bread = np.linalg.inv(slope.T @ slope)
    size = max(1, measured - jacobian.shape[1])
    plain = bread * float(np.sum(miss[:measured] ** 2)) / size
    names = sorted(set(groups))
    if len(names) < 3:
        return np.asarray(plain)
    meat = np.zeros_like(bread)
    for name in names:
        rows = [row for row, group in enumerate(groups) if group == name]
        score = slope[rows].T @ miss[rows]
        meat += np.outer(score, score)
    clustered = bread @ meat @ bread * len(names) / (len(names) - 1)
    # The larger of the two, direction by direction, stays a covariance: their sum less overlap.
    wider = np.sqrt(np.maximum(np.diag(clustered), np.diag(plain)) / np.diag(plain))
    return np.asarray(plain * np.outer(wider, wider))


def without(found: Fit, targets: Sequence[Target], group: str) -> dict[str, float]:
    """Return the parameters that the fit would have found without a group's rows.

    One Gauss-Newton step from the whole fit: exact where the engine is linear in the
    logarithms of its parameters, which between neighbouring fits it nearly is.
    """
    measured = len(found.rows)
    weights = robust(found.residuals, measured)
    keep = np.ones(len(found.residuals), dtype=bool)
    keep[:measured] = [targets[number].group != group for number, _ in found.rows]
    slope = (found.jacobian * weights[:, None])[keep]
    miss = (found.residuals * weights)[keep]
    step = -np.linalg.solve(slope.T @ slope, slope.T @ miss)
    values = {}
    for knob, change in zip(found.knobs, step, strict=True):
        moved = found.values[knob.name] * math.exp(float(np.clip(change, -1.0, 1.0)))
        values[knob.name] = min(max(moved, knob.low), knob.high)
    return values
