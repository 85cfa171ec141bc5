"""Inter-token latencies of millions of tokens in bounded memory: a histogram of log bins.

Like coins sorted into tubes whose widths grow with the coin: a percentile is read off with
the same relative error, large or small.
"""

from __future__ import annotations

from collections import defaultdict
from math import exp, log, sqrt

import numpy as np

BIN = 0.005
"""Width of a bin, in logarithm: a percentile is off by at most half of it, 0.25 %."""

_SMALLEST_S = 1e-7


class GapHistogram:
    """Counts of gaps by log bin; exact count, sum and sum of squares, in seconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything, as at the end of a warm-up."""
        self.count = 0
        self.sum_s = 0.0
        self.sum_squares = 0.0
        self._bins: defaultdict[int, int] = defaultdict(int)

    def steps(self, sequences: int, steps: int, first_s: float, growth_s: float) -> None:
        """Count the gaps of `sequences` sequences over `steps` steps.

        The j-th step, from 0, lasts first_s + growth_s * j.
        """
        gaps = sequences * steps
        last = steps - 1
        self.count += gaps
        self.sum_s += gaps * (first_s + growth_s * last / 2)
        self.sum_squares += gaps * (
            first_s * (first_s + growth_s * last)
            + growth_s * growth_s * last * (2 * steps - 1) / 6
        )
        bins = self._bins
        low = _bin(first_s)
        high = _bin(first_s + growth_s * last) if last else low
        done = 0
        for index in range(low, high):
            edge = _SMALLEST_S * exp((index + 1) * BIN)
            below = min(steps, max(done, int((edge - first_s) / growth_s) + 1))
            if below > done:
                bins[index] += sequences * (below - done)
                done = below
        bins[high] += sequences * (steps - done)

    def one(self, gap_s: float) -> None:
        """Count a single gap."""
        self.steps(1, 1, gap_s, 0.0)

    def mean_s(self) -> float:
        """Return the exact mean, seconds; there must be a gap."""
        return self.sum_s / self.count

    def std_s(self) -> float:
        """Return the exact standard deviation, seconds."""
        mean_s = self.mean_s()
        return sqrt(max(0.0, self.sum_squares / self.count - mean_s * mean_s))

    def quantile_s(self, share: float) -> float:
        """Return the gap below which `share` of all lie, seconds, within 0.25 %."""
        indices = sorted(index for index, gaps in self._bins.items() if gaps)
        counts = np.cumsum([self._bins[index] for index in indices])
        place = int(np.searchsorted(counts, share * self.count))
        return _SMALLEST_S * exp((indices[min(place, len(indices) - 1)] + 0.5) * BIN)


def _bin(gap_s: float) -> int:
    return int(log(gap_s / _SMALLEST_S) / BIN) if gap_s > _SMALLEST_S else 0
