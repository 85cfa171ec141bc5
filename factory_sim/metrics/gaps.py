"""Inter-token latencies of millions of tokens in bounded memory: a histogram of log bins.

Like coins sorted into tubes whose widths grow with the coin: a percentile is read off with
the same relative error, large or small.
"""

from __future__ import annotations

from math import exp, sqrt
from struct import Struct

import numpy as np
from numpy.typing import NDArray

BIN = 0.005
"""Width of a bin, in logarithm: a percentile is off by at most half of it, 0.25 %."""

SMALLEST_S = 1e-7
MOST_S = 1e6
"""Gaps outside these count as the nearest of them."""


_pack = Struct("=4d").pack
_PENDING = 32 * 16_384
"""Bytes kept aside before they are sorted into bins, all at once."""


class GapHistogram:
    """Counts of gaps by log bin; exact count, sum and sum of squares, in seconds.

    Steps are noted as they come, four numbers each, and sorted into bins by the thousand.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._parts: list[GapHistogram] = []
        self._bins = np.zeros(_bin(np.array([MOST_S]))[0] + 1, dtype=np.int64)
        self.clear()

    def clear(self) -> None:
        """Forget everything, as at the end of a warm-up."""
        self._pending.clear()
        self._count = 0
        self._sum_s = self._sum_squares = 0.0
        self._bins[:] = 0
        for part in self._parts:
            part.clear()

    def share(self, part: GapHistogram) -> GapHistogram:
        """Have another count a part of the gaps, which are here once `gather` was called."""
        self._parts.append(part)
        return part

    def gather(self) -> None:
        """Add what the parts have counted, in their order, and let them go."""
        for part in self._parts:
            part.gather()
            self.take(part)
        self._parts.clear()

    def take(self, other: GapHistogram) -> None:
        """Take over the gaps that another has counted."""
        self.add(other.count, other._sum_s, other._sum_squares)
        self._bins += other._bins

    def steps(self, sequences: int, steps: int, first_s: float, growth_s: float) -> None:
        """Count the gaps of `sequences` sequences over `steps` steps.

        The j-th step, from 0, lasts first_s + growth_s * j.
        """
        self._pending += _pack(sequences, steps, first_s, growth_s)
        if len(self._pending) >= _PENDING:
            self._sort()

    def one(self, gap_s: float) -> None:
        """Count a single gap."""
        self.steps(1, 1, gap_s, 0.0)

    def bins(self) -> NDArray[np.int64]:
        """Return its bins, for who counts in them without it and tells it the rest by `add`."""
        return self._bins

    def add(self, count: int, sum_s: float, sum_squares: float) -> None:
        """Take note of gaps that somebody else has counted in the bins."""
        self._count += count
        self._sum_s += sum_s
        self._sum_squares += sum_squares

    @property
    def count(self) -> int:
        """Return the number of gaps."""
        self._sort()
        return self._count

    def mean_s(self) -> float:
        """Return the exact mean, seconds; there must be a gap."""
        count = self.count  # which sorts what is pending into the sum
        return self._sum_s / count

    def std_s(self) -> float:
        """Return the exact standard deviation, seconds."""
        mean_s = self.mean_s()
        return sqrt(max(0.0, self._sum_squares / self._count - mean_s * mean_s))

    def quantile_s(self, share: float) -> float:
        """Return the gap below which `share` of all lie, seconds, within 0.25 %."""
        counts = np.cumsum(self._bins) if self.count else np.zeros(1)
        place = int(np.searchsorted(counts, max(share * self._count, 0.5)))
        return SMALLEST_S * exp((place + 0.5) * BIN)

    def _sort(self) -> None:
        """Sort what is pending into bins."""
        if not self._pending:
            return
        sequences, steps, first, growth = np.frombuffer(bytes(self._pending)).reshape(-1, 4).T
        self._pending.clear()
        last = steps - 1
        self._count += int((sequences * steps).sum())
        self._sum_s += float((sequences * steps * (first + growth * last / 2)).sum())
        squares = first * (first + growth * last) + growth**2 * last * (2 * steps - 1) / 6
        self._sum_squares += float((sequences * steps * squares).sum())
        # A stretch may cross several bins: one row for each, with the steps that fall in it.
        low, high = _bin(first), _bin(first + growth * last)
        crossings = high - low + 1
        rows = np.repeat(np.arange(len(low)), crossings)
        bins = np.arange(len(rows)) - np.repeat(np.cumsum(crossings) - (high + 1), crossings)
        below = steps[rows].copy()  # steps that end in this bin or a lower one
        crossed = bins < high[rows]
        at = rows[crossed]
        edge = SMALLEST_S * np.exp((bins[crossed] + 1) * BIN)
        below[crossed] = np.minimum(steps[at], np.floor((edge - first[at]) / growth[at]) + 1)
        inside = np.diff(below, prepend=0.0)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        inside[starts] = below[starts]
        np.add.at(self._bins, bins, (inside * sequences[rows]).astype(np.int64))


def bin_ends() -> NDArray[np.float64]:
    """Return where each bin but the last ends, seconds."""
    many = _bin(np.array([MOST_S]))[0]
    return np.asarray(SMALLEST_S * np.exp(np.arange(1, many + 1) * BIN))


def _bin(gap_s: NDArray[np.float64]) -> NDArray[np.int64]:
    clipped = np.clip(gap_s, SMALLEST_S, MOST_S)
    return np.asarray(np.log(clipped / SMALLEST_S) / BIN, dtype=np.int64)
