"""From timings to figures: least squares in the equations that the simulator computes with.

Errors count relative to what was measured, so that a product of 10 us weighs as much as one of
10 ms. Every figure comes with its standard error, every fit with what it leaves unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from factory_sim.physics.power import PowerModel

Array = NDArray[np.float64]

SENSED = 1e-6
"""A parameter moves the fit if some point changes by more than this share of its own change."""

MOST_WEIGHT = 20.0
"""Bound of the power curve's weights: it only keeps the search from running away where the points
say little, such as at a board that reaches its limit under every load."""


class Estimate(NamedTuple):
    """A fitted figure and its standard error as a share of it, None from too few points."""

    value: float
    error: float | None = None


class Roofline(NamedTuple):
    """Rates that work reaches, flop/s and bytes/s; None for one that no point depends on.

    residual: median of the absolute relative errors over the points.
    """

    compute: Estimate | None
    memory: Estimate | None
    residual: float
    points: int


class Line(NamedTuple):
    """Seconds of no bytes, and bytes/s of many; with the residual as in `Roofline`."""

    latency_s: Estimate
    rate: Estimate
    residual: float
    points: int


class Curve(NamedTuple):
    """Weights of `physics.power`, whichever the points tell; their residual."""

    active_weight: Estimate
    compute_weight: Estimate
    memory_weight: Estimate
    residual: float
    points: int


def fit_roofline(
    flops: Sequence[float], moved: Sequence[float], took_s: Sequence[float]
) -> Roofline:
    """Fit `max(flops / compute, moved / memory)` to the seconds (Williams et al. 2009)."""
    work, data, seconds = _arrays(flops, moved, took_s)

    def predict(logs: Array) -> Array:
        compute_s: Array = work / np.exp(logs[0])
        memory_s: Array = data / np.exp(logs[1])
        return np.maximum(compute_s, memory_s)

    # From the best rates seen: there every point is explained by the roof it lies under.
    start = np.log([max(float(np.max(rate / seconds)), 1.0) for rate in (work, data)])
    found = _fit(predict, start, seconds)
    compute, memory = found.estimates
    return Roofline(
        compute if found.sensed[0] else None,
        memory if found.sensed[1] else None,
        found.residual,
        len(seconds),
    )


def fit_line(moved: Sequence[float], took_s: Sequence[float]) -> Line:
    """Fit `latency + moved / rate` to the seconds; neither is ever below nothing."""
    data, seconds = _arrays(moved, took_s)

    def predict(logs: Array) -> Array:
        took: Array = np.exp(logs[0]) + data / np.exp(logs[1])
        return took

    start = np.log([float(np.min(seconds)) / 2, float(np.max(data / seconds))])
    found = _fit(predict, start, seconds)
    latency_s, rate = found.estimates
    return Line(latency_s, rate, found.residual, len(seconds))


def fit_power(
    idle_w: float, limit_w: float, busy: Sequence[tuple[float, float]], watts: Sequence[float]
) -> Curve:
    """Fit the power curve to mean watts at (compute, memory) busy shares, clock as found."""
    (measured,) = _arrays(watts)

    def predict(parameters: Array) -> Array:
        a, c, m = (float(parameter) for parameter in parameters)
        board = PowerModel(idle_w, limit_w, a, c, m, clock_exponent=1.0, voltage_floor=0.0)
        power = board.at(1.0)
        return np.array([power.energy_j(1.0, *shares) for shares in busy])

    start = np.array([0.5, 3.0, 1.0])
    found = _fit(predict, start, measured, ((0.0,) * 3, (MOST_WEIGHT,) * 3), logs=False)
    active, compute, memory = found.estimates
    return Curve(active, compute, memory, found.residual, len(measured))


class _Fitted(NamedTuple):
    estimates: tuple[Estimate, ...]
    sensed: tuple[bool, ...]
    residual: float


def _fit(
    predict: Callable[[Array], Array],
    start: Array,
    measured: Array,
    bounds: tuple[Sequence[float], Sequence[float]] = ((-np.inf,) * 2, (np.inf,) * 2),
    logs: bool = True,
) -> _Fitted:
    """Fit to the logarithms of `measured`; `logs` says that the parameters are logarithms."""

    def errors(parameters: Array) -> Array:
        return np.log(predict(parameters) / measured)

    solution = least_squares(errors, start, bounds=bounds, x_scale="jac" if not logs else 1.0)
    found: Array = solution.x
    jacobian: Array = np.asarray(solution.jac)
    spread = _standard_errors(jacobian, solution.fun)
    relative = spread if logs else spread / np.where(found > 0, found, np.nan)
    values = np.exp(found) if logs else found
    estimates = tuple(
        Estimate(float(value), float(share) if np.isfinite(share) else None)
        for value, share in zip(values, relative, strict=True)
    )
    sensed = tuple(bool(np.any(np.abs(column) > SENSED)) for column in jacobian.T)
    off = np.abs(predict(found) / measured - 1.0)
    return _Fitted(estimates, sensed, float(np.median(off)))


def _standard_errors(jacobian: Array, errors: Array) -> Array:
    """Return the standard error of each parameter; nan where the points do not tell."""
    points, parameters = jacobian.shape
    sensed = np.any(np.abs(jacobian) > SENSED, axis=0)
    seen = jacobian[:, sensed]
    result = np.full(parameters, np.nan)
    freedom = points - int(np.sum(sensed))
    if freedom < 1:
        return result
    variance = float(errors @ errors) / freedom
    result[sensed] = np.sqrt(variance * np.diag(np.linalg.pinv(seen.T @ seen)))
    return result


def _arrays(*given: Sequence[float]) -> tuple[Array, ...]:
    return tuple(np.array(one, dtype=float) for one in given)
