"""How values spread, of any number of them, in bounded memory: exact moments and a sketch.

Like a census that keeps a count for every year of birth and forgets who was counted: the mean is
exact, a percentile is off by no more than the years are wide.
"""

from __future__ import annotations

from math import ceil, log1p, sqrt

import numpy as np
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import CubicallyInterpolatedMapping
from ddsketch.store import DenseStore
from numpy.typing import NDArray

from factory_sim.metrics.statistics import PERCENTILES

ERROR = 0.0025
"""A percentile is off by at most this share of itself, as is one of gaps (`GapHistogram`)."""

_MAPPING = CubicallyInterpolatedMapping(ERROR)
# As the library works it out, for whole arrays.
_BINS_PER_OCTAVE = 1 / log1p(2 * ERROR / (1 - ERROR)) / _MAPPING.C
_FRACTION, _ONE = np.int64((1 << 52) - 1), np.int64(1023 << 52)

Floats = NDArray[np.float64]


def sketch_of(bins: DenseStore, zeros: int = 0) -> BaseDDSketch:
    """Return a sketch, of what its bins hold, whose percentiles are within `ERROR` of themselves.

    DDSketch (Masson, Rim and Lee, VLDB 2019): counts by bins whose width grows with the value. It
    draws no random numbers, and sketches merge exactly, in any order. Its bins are cubic in the
    bits of a number and ask for no logarithm, so that they are the same on every machine.
    """
    return BaseDDSketch(_MAPPING, bins, DenseStore(), float(zeros))


def keys_of(values: Floats) -> NDArray[np.int64]:
    """Return the bin of each value, as the sketch's own mapping has it.

    Of a value that is not above 1e-307, or NaN, it is a number without a meaning.
    """
    bits = values.view(np.int64)
    # In place, step by step as the library does it: new arrays would cost more than the sums.
    fraction = bits & _FRACTION
    fraction |= _ONE
    part = fraction.view(np.float64)
    part -= 1.0
    octaves = _MAPPING.A * part
    octaves += _MAPPING.B
    octaves *= part
    octaves += _MAPPING.C
    octaves *= part
    exponent = bits >> 52
    exponent -= 1023
    octaves += exponent
    octaves *= _BINS_PER_OCTAVE
    keys: NDArray[np.int64] = np.ceil(octaves, out=exponent, casting="unsafe")
    return keys


class Spread:
    """Count, mean and standard deviation, exact, and percentiles within `ERROR`.

    The standard deviation is that of all values, not of a sample, from sums of squares about the
    mean, which two spreads join without loss (Chan, Golub and LeVeque 1979). What the sketch would
    hold is counted in an array, bin by bin, and put into it when somebody asks.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self._squares = 0.0  # of the distances from the mean
        self._zeros = 0
        self._first = 0  # the bin that the first of the counts is of
        self._counts = np.zeros(0, np.int64)
        self._sketch: BaseDDSketch | None = None

    @property
    def mean(self) -> float:
        """Return the mean; there must be a value."""
        return self.sum / self.count

    def add(self, values: Floats, keys: NDArray[np.int64] | None = None) -> None:
        """Add values (1-D, no NaN), none below zero but for rounding. keys: their `keys_of`, by
        who has them: one call for many spreads costs less than one for each."""
        if not len(values):
            return
        keys = keys_of(values) if keys is None else keys
        total = float(values.sum())
        apart = values - total / len(values)
        apart *= apart
        self._join(len(values), total, float(apart.sum()))
        if values.min() <= _MAPPING.min_possible:
            seen = values > _MAPPING.min_possible
            self._zeros += len(values) - int(np.count_nonzero(seen))
            keys = keys[seen]
        if len(keys):
            first = int(keys.min())
            self._tally(first, np.bincount(keys - first))

    def merge(self, other: Spread) -> None:
        """Add the values of another spread, which stays as it is."""
        if other.count:
            self._join(other.count, other.sum, other._squares)
            self._zeros += other._zeros
            self._tally(other._first, other._counts)

    def sketch(self) -> BaseDDSketch:
        """Return the sketch of all values so far."""
        if self._sketch is None:
            bins = DenseStore()
            if len(self._counts):
                bins.bins = self._counts.astype(np.float64).tolist()
                bins.count = float(self._counts.sum())
                bins.offset = bins.min_key = self._first
                bins.max_key = self._first + len(self._counts) - 1
            self._sketch = sketch_of(bins, self._zeros)
        return self._sketch

    def quantile(self, share: float) -> float:
        """Return the value below which `share` of all lie, between ranks as NumPy has it."""
        rank = share * (self.count - 1)
        low = int(rank)
        below = self.at_rank(low)
        return below + (rank - low) * (self.at_rank(ceil(rank)) - below)

    def at_rank(self, rank: int) -> float:
        """Return the value of a rank, from 0; there must be as many."""
        # Half a rank further, so that rounding does not take the one before.
        share = min(1.0, (rank + 0.5) / max(1, self.count - 1))
        found = self.sketch().get_quantile_value(share)
        assert found is not None
        return float(found)

    def within(self, limit: float) -> int:
        """Return how many values are in bins up to that of `limit`."""
        if limit <= _MAPPING.min_possible:
            return self._zeros
        last = _MAPPING.key(limit) - self._first
        return self._zeros + int(self._counts[: max(0, last + 1)].sum())

    def describe(self) -> dict[str, float]:
        """Return mean, std and percentiles, as `statistics.describe`; there must be a value."""
        std = sqrt(self._squares / self.count)
        found = {"mean": self.mean, "std": std}
        return found | {f"p{p}": self.quantile(p / 100) for p in PERCENTILES}

    def _join(self, count: int, total: float, squares: float) -> None:
        if self.count:
            apart = total / count - self.mean
            squares += apart * apart * count * self.count / (count + self.count)
        self.count, self.sum = self.count + count, self.sum + total
        self._squares += squares
        self._sketch = None

    def _tally(self, first: int, counts: NDArray[np.int64]) -> None:
        """Add counts by bin, the first of them of the bin `first`."""
        many = len(self._counts)
        if not many:
            self._first, self._counts = first, counts.copy()
            return
        before = max(0, self._first - first)
        after = max(0, first + len(counts) - self._first - many)
        if before or after:
            self._counts = np.pad(self._counts, (before, after))
            self._first -= before
        at = first - self._first
        self._counts[at : at + len(counts)] += counts
