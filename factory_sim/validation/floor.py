"""How near a smooth model could come: what is left where each series of rows has its own curve.

A series is what one benchmark made of one model, precision, degree and kind of prompt, batch size
by batch size. Whatever formula a model has, between batch sizes it is smooth; so what lies off a
curve that each series may choose for itself is scatter, which no formula meets. Like a ruler's
divisions: nobody reads between the finest.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory_sim.catalog import Catalog
from factory_sim.catalog.shapes import Shape
from factory_sim.validation.case import Case
from factory_sim.validation.runner import Outcome

Array = NDArray[np.float64]

LEVEL, CURVE = 0, 2
"""Degrees, in the logarithm of the batch, of what a series may choose: a factor, a parabola."""

FEWEST = CURVE + 3
"""Batch sizes of a series: a row left out, as many as a parabola has coefficients, and one more."""


class Left(NamedTuple):
    """Median absolute errors where each series was put right by its own rows.

    seen: with the row itself among them; unseen: from the others alone.
    """

    seen: float
    unseen: float


class Floor(NamedTuple):
    """What is left of the errors in one metric, over series of FEWEST batch sizes and more.

    level, curve: with a factor, or a parabola in the logarithm of the batch, for each series.
    alike: the median difference of two rows that differ in no more than their model's name, or
    in nothing, of which there are `pairs`; None without any.
    """

    series: int
    rows: int
    level: Left
    curve: Left
    pairs: int
    alike: float | None


def floor_of(outcomes: Iterable[Outcome], metric: str, facts: Catalog) -> Floor | None:
    """Return what is left of the errors in a metric of cases whose batch fills `max_num_seqs`.

    None where no series is long enough.
    """
    own = [o for o in outcomes if o.case.load["kind"] == "offline" and metric in o.errors]
    series: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in own:
        series[_alike(outcome.case, outcome.case.model)].append(outcome)
    long = [rows for rows in series.values() if len({_batch(o.case) for o in rows}) >= FEWEST]
    if not long:
        return None
    differences = _differences(own, metric, facts)
    return Floor(
        len(long),
        sum(map(len, long)),
        _left(long, metric, LEVEL),
        _left(long, metric, CURVE),
        len(differences),
        _median(np.array(differences)) if differences else None,
    )


def off_curve(batches: Array, errors: Array, degree: int) -> tuple[Array, Array]:
    """Return how far log errors lie off their curve: fitted with each of them, and without it.

    batches, errors: float64[rows]; degree: of the polynomial in log batch. The second follows from
    the first by the hat matrix (Allen 1974), without fitting again. ValueError where a row is the
    only one that says something about the curve.
    """
    powers = np.vander(np.log(batches / batches.mean()), degree + 1)
    hat = powers @ np.linalg.pinv(powers)
    own = np.diag(hat)
    if own.max() > 1.0 - 1e-9:
        raise ValueError("a curve needs more batch sizes than it has coefficients")
    seen = errors - hat @ errors
    return seen, seen / (1.0 - own)


def _left(series: Iterable[Sequence[Outcome]], metric: str, degree: int) -> Left:
    parts = [
        off_curve(
            np.array([float(_batch(o.case)) for o in rows]),
            np.log1p([o.errors[metric] for o in rows]),
            degree,
        )
        for rows in series
    ]
    seen, unseen = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    return Left(_median(seen), _median(unseen))


def _median(log_errors: Array) -> float:
    return float(np.median(np.abs(np.expm1(log_errors))))


def _differences(own: Sequence[Outcome], metric: str, facts: Catalog) -> list[float]:
    """Return the differences in log errors between any two rows of the same shape and batch."""
    same: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for outcome in own:
        model = facts.model(outcome.case.model)
        shape = json.dumps(model.model_dump(include=set(Shape.model_fields)), default=str)
        place = _alike(outcome.case, shape), _batch(outcome.case)
        same[place].append(float(np.log1p(outcome.errors[metric])))
    return [one - other for errors in same.values() for one, other in combinations(errors, 2)]


def _alike(case: Case, model: str) -> str:
    """Return what rows of one series have in common; model: whatever stands for theirs."""
    prompts = case.lengths.get("prompt") if isinstance(case.lengths, dict) else case.lengths
    degrees = case.parallelism.model_dump()
    engine = case.engine.profile
    return json.dumps([case.gpu, model, case.precision, degrees, engine, prompts], sort_keys=True)


def _batch(case: Case) -> int:
    return case.engine.max_num_seqs or case.load["requests"]
