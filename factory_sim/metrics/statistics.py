"""Means and percentiles, and how far they can be trusted.

Confidence intervals are 95 %. The window is cut into 10 batches of equal time, each gives its own
estimate, and Student's t says how far their mean may be off (batch means; Schmeiser 1982 shows
that more than 10 to 30 gain little and are soon not independent). Where a deployment has pods,
which do nothing to each other, its pods are compared within each batch instead, so that what
changes over time, such as a curtailment, is no error of anybody's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

BATCHES = 10
LEAST = 5
"""Batches with anybody in them, below which there is no interval; and values beyond a percentile,
in the mean of all batches, below which it has none."""
PERCENTILES = (50, 90, 95, 99)


def describe(values: Floats) -> dict[str, float]:
    """Return mean, std and percentiles of `values` (1-D, no NaN, at least one)."""
    found = {"mean": float(values.mean()), "std": float(values.std())}
    quantiles = np.percentile(values, PERCENTILES)
    return found | {f"p{p}": float(q) for p, q in zip(PERCENTILES, quantiles, strict=True)}


class Cells(NamedTuple):
    """What one deployment did, by pod and batch of time: two arrays [pods, batches].

    sums: of what the mean is asked; counts: of how many, or of seconds.
    """

    sums: Floats
    counts: Floats


def half_width(parts: Iterable[Cells]) -> float:
    """Return the half width of the 95 % interval of all sums over all counts.

    parts: of each deployment; chance strikes them one by one. Batches may be unlike in size (ratio
    estimator: Cochran, Sampling Techniques, section 6.3).
    """
    parts = list(parts)
    whole = float(sum(part.counts.sum() for part in parts))
    mean = sum(part.sums.sum() for part in parts) / whole if whole else math.nan
    return half_width_of_total(part.sums - mean * part.counts for part in parts) / whole


def half_width_of_total(parts: Iterable[Floats]) -> float:
    """Return the half width of the 95 % interval of the sum of all values.

    parts: of each deployment an array [pods, batches]; one of the two is more than 1.
    """
    variance, freedom = 0.0, math.inf
    for part in parts:
        pods, batches = part.shape
        over = 0 if pods > 1 else 1  # who is compared: pods within a batch, or batches
        many = part.shape[over]
        apart = part - part.mean(axis=over, keepdims=True)
        variance += float((apart**2).sum()) * many / (many - 1)
        freedom = min(freedom, (many - 1) * (batches if pods > 1 else 1))
    return float(stdtrit(freedom, 0.975)) * math.sqrt(variance)


def busy(counts: Iterable[Floats]) -> slice | None:
    """Return the batches from the first to the last in which anybody came; None where too few.

    counts: arrays [pods, batches], one of each deployment.
    """
    came = np.flatnonzero(sum(each.sum(axis=0) for each in counts))
    if len(came) < LEAST:
        return None
    return slice(int(came[0]), int(came[-1]) + 1)


def half_widths(
    means: Mapping[str, Cells],
    below: Callable[[Sequence[float]], Sequence[Mapping[str, Floats]]],
    figures: Mapping[str, float],
    quantiles: Callable[[Sequence[float]], Sequence[float] | Floats],
) -> dict[str, float]:
    """Return the half widths of the 95 % intervals of the mean and the percentiles of a latency.

    means: of each deployment, sums and counts. below: how many were at most as long as each of
    some limits, which ascend, in cells alike. figures: the mean and the percentiles; quantiles: the
    values below which shares lie. The interval of a percentile lies between the values whose shares
    are as far off as those below it may be (Serfling, Approximation Theorems, section 2.6). What
    cannot be told is left out.
    """
    held = busy(part.counts for part in means.values())
    if held is None:
        return {}
    counts = {name: part.counts[:, held] for name, part in means.items()}
    found = {"mean": half_width(Cells(p.sums[:, held], p.counts[:, held]) for p in means.values())}
    many = sum(each.sum() for each in counts.values())
    told = [p for p in PERCENTILES if many * (100 - p) / 100 >= LEAST * BATCHES]
    shares: dict[str, tuple[float, float]] = {}
    for p, within in zip(told, below([figures[f"p{p}"] for p in told]), strict=True):
        off = half_width(Cells(within[name][:, held], counts[name]) for name in means)
        low, high = p / 100 - off, p / 100 + off
        if low >= 0.0 and high <= 1.0:
            shares[f"p{p}"] = low, high
    values = np.reshape(quantiles(list(itertools.chain(*shares.values()))), (-1, 2))
    return found | {p: float(high - low) / 2 for p, (low, high) in zip(shares, values, strict=True)}


def interval(values: Floats) -> tuple[float, float]:
    """Return the mean of independent values and the half width of its 95 % interval.

    values: 1-D, of which replications give one each. NaN: the mean of none, the width below two.
    """
    count = len(values)
    mean = float(values.mean()) if count else math.nan
    if count < 2:
        return mean, math.nan
    return mean, float(stdtrit(count - 1, 0.975) * values.std(ddof=1) / np.sqrt(count))
