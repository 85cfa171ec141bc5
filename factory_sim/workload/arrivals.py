"""When requests arrive: a stream of unit rate, read on a clock that counts expected arrivals.

Evenly spaced, exponential or gamma gaps of mean one make a renewal stream u1, u2, ... A
process whose rate changes (stages, bursts, a daily shape) has the cumulative intensity
L(t) = integral of rate(t) shape(t); its arrivals are L^-1(u). For exponential gaps this is the
non-homogeneous Poisson process, exactly (time change; e.g. Cinlar 1975, section 4.7).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from factory_sim.scenario.arrivals import (
    ConstantArrivals,
    GammaArrivals,
    MmppArrivals,
    OpenArrivals,
    StagedArrivals,
)
from factory_sim.scenario.signal import Constant, Signal, Steps

Floats = NDArray[np.float64]
BLOCK = 8192


def arrival_times(
    process: OpenArrivals, duration_s: float, gaps: Generator, stays: Generator, block: int = BLOCK
) -> Iterator[Floats]:
    """Yield nondecreasing arrival times in [0, duration_s), in seconds, `block` at a time.

    gaps draws the renewal stream, stays the states of a Markov-modulated process. The times do
    not depend on `block`.
    """
    clock = Clock(_rates(process, duration_s, stays), process.shape, duration_s)
    sent, last = 0, 0.0
    for counts in _unit_stream(process, gaps, block):
        times = clock.when(counts[: np.searchsorted(counts, clock.expected)])
        # Rounding at the seam of two rates may turn neighbours by a bit; time runs forward only.
        if len(times) and (times[0] < last or (times[1:] < times[:-1]).any()):
            times = np.maximum.accumulate(np.maximum(times, last))
        times = times[: np.searchsorted(times, duration_s)]
        if process.requests is not None:
            times = times[: process.requests - sent]
        sent += len(times)
        if len(times):
            last = float(times[-1])
            yield times
        if len(times) < block:
            return


class Clock:
    """Turns a count of expected arrivals into the time at which it is reached.

    rates: (start, rate) of each stretch of constant rate, the first at 0. expected: arrivals
    expected in the whole duration.
    """

    def __init__(
        self, rates: list[tuple[float, float]], shape: Signal | None, duration_s: float
    ) -> None:
        self.shape: Signal = shape or Constant(1.0)
        if isinstance(self.shape, Constant | Steps):
            # A shape that only jumps is more stretches of constant rate, and needs no search.
            rates = _cut(rates, self.shape, duration_s)
            self.shape = Constant(1.0)
        self.duration_s = duration_s
        starts = np.array([start for start, _ in rates] + [duration_s])
        self.starts_s = starts[:-1]
        self.rates = np.array([rate for _, rate in rates])
        self.starts_shape = self.shape.integral(starts)
        counts = np.cumsum(self.rates * np.diff(self.starts_shape))
        self.starts_count = np.concatenate(([0.0], counts[:-1]))
        self.expected = float(counts[-1])

    def when(self, counts: Floats) -> Floats:
        """Return the times, in seconds, at which `counts` (rising, < expected) are reached."""
        if not len(counts):
            return counts
        first, last = np.searchsorted(self.starts_count, counts[[0, -1]], side="right") - 1
        stretches: slice | np.ndarray = slice(first, last + 1)
        if first < last:
            seams = np.searchsorted(counts, self.starts_count[first + 1 : last + 1])
            many = np.diff(seams, prepend=0, append=len(counts))
            stretches = np.repeat(np.arange(first, last + 1), many)
        inside: Floats = counts - self.starts_count[stretches]
        inside /= self.rates[stretches]
        if isinstance(self.shape, Constant):
            inside += self.starts_s[stretches]
            return inside
        return self._search(self.starts_shape[stretches] + inside)

    def _search(self, integrals: Floats) -> Floats:
        """Return t with shape.integral(t) = integrals, by bisection to the last bit."""
        low, high = np.zeros(integrals.shape), np.full(integrals.shape, self.duration_s)
        for _ in range(60):
            middle = 0.5 * (low + high)
            before = self.shape.integral(middle) <= integrals
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        return low


def _cut(
    rates: list[tuple[float, float]], shape: Signal, duration_s: float
) -> list[tuple[float, float]]:
    """Return the stretches cut at the changes of `shape`, and multiplied by it."""
    bounds = sorted({start for start, _ in rates} | set(shape.changes(duration_s)))
    starts = np.array([start for start, _ in rates])
    index = np.searchsorted(starts, bounds, side="right") - 1
    return [(t, rates[i][1] * shape.at(t)) for t, i in zip(bounds, index, strict=True)]


def _unit_stream(process: OpenArrivals, gaps: Generator, block: int) -> Iterator[Floats]:
    """Yield blocks of the renewal stream of mean gap one, for ever."""
    if isinstance(process, ConstantArrivals) or (
        isinstance(process, StagedArrivals) and process.evenly_spaced
    ):
        first = 0
        while True:
            yield np.arange(first, first + block, dtype=np.float64)
            first += block
    count = 0.0
    while True:
        if isinstance(process, GammaArrivals):
            drawn = gaps.standard_gamma(process.burstiness, block) / process.burstiness
        else:
            drawn = gaps.standard_exponential(block)
        # The running count leads the sum, so that the additions are the same for any block.
        drawn[0] += count
        counts = np.cumsum(drawn)
        count = float(counts[-1])
        yield counts


def _rates(process: OpenArrivals, duration_s: float, stays: Generator) -> list[tuple[float, float]]:
    """Return (start, rate) of each stretch of constant rate up to `duration_s`."""
    if isinstance(process, MmppArrivals):
        return _bursts(process, duration_s, stays)
    if not isinstance(process, StagedArrivals):
        return [(0.0, process.rate)]
    rates, start = [], 0.0
    for stage in process.stages:
        rates.append((start, stage.rate))
        start += stage.duration
    rates.append((start, 0.0))
    return [(start, rate) for start, rate in rates if start < duration_s]


def _bursts(
    process: MmppArrivals, duration_s: float, stays: Generator
) -> list[tuple[float, float]]:
    means = np.array([state.mean_duration for state in process.states])
    state = int(stays.choice(len(means), p=means / means.sum()))
    rates, start = [], 0.0
    while start < duration_s:
        rates.append((start, process.states[state].rate))
        start += means[state] * stays.standard_exponential()
        # Any state but this one, all equally likely.
        state = (state + int(stays.integers(1, len(means)))) % len(means)
    return rates
