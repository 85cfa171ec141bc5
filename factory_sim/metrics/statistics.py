"""Means and percentiles, and how far they can be trusted.

Confidence intervals are 95 %, by batch means: the requests in order of arrival are cut into
20 batches, each gives its own estimate, and Student's t says how far their mean may be off
(Law, Simulation Modeling and Analysis, section 9.5.3).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

BATCHES = 20
PERCENTILES = (50, 90, 95, 99)


def describe(values: NDArray[np.float64]) -> dict[str, float]:
    """Return mean, std and percentiles of `values` (1-D, no NaN, at least one)."""
    found = {"mean": float(values.mean()), "std": float(values.std())}
    quantiles = np.percentile(values, PERCENTILES)
    return found | {f"p{p}": float(q) for p, q in zip(PERCENTILES, quantiles, strict=True)}


def half_widths(values: NDArray[np.float64]) -> dict[str, float]:
    """Return the half width of the 95 % interval of the mean and each percentile.

    values: 1-D, in order of arrival. A percentile is left out where a batch has too few
    values to show it (fewer than 5 beyond it).
    """
    size = len(values) // BATCHES
    if size < 2:
        return {}
    batches = values[: size * BATCHES].reshape(BATCHES, size)
    t = float(stdtrit(BATCHES - 1, 0.975)) / np.sqrt(BATCHES)
    found = {"mean": t * float(batches.mean(axis=1).std(ddof=1))}
    for p in PERCENTILES:
        if size * (100 - p) / 100 >= 5:
            found[f"p{p}"] = t * float(np.percentile(batches, p, axis=1).std(ddof=1))
    return found


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of independent values and the half width of its 95 % interval.

    values: 1-D, of which replications give one each. NaN: the mean of none, the width below two.
    """
    count = len(values)
    mean = float(values.mean()) if count else math.nan
    if count < 2:
        return mean, math.nan
    return mean, float(stdtrit(count - 1, 0.975) * values.std(ddof=1) / np.sqrt(count))
