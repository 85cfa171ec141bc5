"""Whether a run had settled when it began to be measured, and was long enough for what it says.

Like a bath that is filled and drained at once: its level says little before it has settled, and the
highest wave little before one has watched for long.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from factory_sim.metrics.statistics import BATCHES, Cells, Floats, half_width

OFF = 0.05
"""Share by which a mean may be off for want of a warm-up before it is worth a word."""

WIDE = 0.25
"""Half width of a percentile's interval, as a share of it, above which it is said to be vague."""

AIM = 0.1
"""Half width that a longer run is proposed for."""

TAIL = 10
"""Requests beyond a percentile, below which it is one of too few."""


def settled(values: Floats) -> int | None:
    """Return how many of the first values to leave out of a mean, by MSER-5; None where unknown.

    The values (1-D, at equal times) are averaged by fives; left out are those without which the
    standard error of the mean of the rest is least (White 1997; White, Cobb and Spratt 2000). Where
    that is half of them, or there are too few, nobody knows when it settles.
    """
    many = len(values) // 5
    if many < 6:
        return None
    means = values[: 5 * many].reshape(many, 5).mean(axis=1)
    left = many - np.arange(many // 2 + 1)
    sums, squares = (np.cumsum(part[::-1])[::-1][: len(left)] for part in (means, means**2))
    first = int(np.argmin((squares - sums**2 / left) / left**2))
    return None if first == many // 2 else 5 * first


class Drift(NamedTuple):
    """How what was measured differs from what followed. from_s: when it had settled, None where it
    never did, and the second half of the window is taken. off: share by which the mean is off."""

    from_s: float | None
    off: float


def drift(time_s: Floats, inside: Floats, start_s: float) -> Drift | None:
    """Return how far the requests inside had not settled when they began to be measured.

    time_s: ends of periods, equally long; inside: requests in the factory then, both 1-D and up to
    the end of arrivals. start_s: the end of the warm-up. None where nothing is seen.
    """
    first = settled(inside)
    measured = inside[time_s > start_s]
    if len(inside) < 30 or len(measured) < 2 * BATCHES or not measured.mean():
        return None
    from_s = None if first is None else float(time_s[first - 1]) if first else 0.0
    if from_s is not None and from_s <= start_s:
        return None
    after = measured[len(measured) // 2 :] if from_s is None else inside[time_s > from_s]
    if len(after) < BATCHES or not after.mean():
        return None
    off = float(measured.mean() / after.mean()) - 1.0
    batches = np.array([part.mean() for part in np.array_split(after, BATCHES)])[None, :]
    noise = half_width([Cells(batches, np.ones_like(batches))]) / float(after.mean())
    return Drift(from_s, off) if abs(off) > max(OFF, noise) else None


def longer(window_s: float, width: float | None, requests: int) -> float | None:
    """Return how long a window has to be for its 99th percentiles; None where it is long enough.

    width: the half width of an interval as a share of the percentile, if there is one.
    """
    if requests * 0.01 < TAIL:
        return window_s * TAIL * 100 / max(1, requests)
    if width is not None and width > WIDE:
        return float(ceil(window_s * (width / AIM) ** 2))
    return None
