"""The points of a sweep: by field, the value it has there."""

from __future__ import annotations

from itertools import product
from typing import Any

from scipy.stats import qmc

from factory_sim.experiments.sweep.axes import at, levels
from factory_sim.experiments.sweep.spec import Sweep

Point = dict[str, Any]

_DESIGNS = {"latin-hypercube": qmc.LatinHypercube, "sobol": qmc.Sobol}


def points(sweep: Sweep) -> list[Point]:
    """Return the points of a design in their order: of a grid, the last axis moves fastest.

    A sampled design draws a share between 0 and 1 for each axis, from `seed`: a Latin hypercube
    (McKay, Beckman and Conover, 1979) one from each of `points` even parts of every axis, Sobol's
    sequence (scrambled by Owen's method) so that all of the space is filled evenly.
    """
    axes = list(sweep.fields.values())
    if sweep.design == "grid":
        columns = [{path: levels(values) for path, values in fields.items()} for fields in axes]
        steps = [
            [dict(zip(column, row, strict=True)) for row in zip(*column.values(), strict=True)]
            for column in columns
        ]
        return [{k: v for step in place for k, v in step.items()} for place in product(*steps)]
    drawn = _DESIGNS[sweep.design](len(axes), seed=sweep.seed).random(sweep.points or 0)
    # Neither end of a distribution without bounds is a number.
    return [
        {
            path: at(values, min(max(float(share), 1e-9), 1.0 - 1e-9))
            for fields, share in zip(axes, row, strict=True)
            for path, values in fields.items()
        }
        for row in drawn
    ]
