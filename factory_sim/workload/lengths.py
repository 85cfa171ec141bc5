"""How long requests are: quantile functions, and prompt and output drawn together."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from factory_sim.catalog.catalog import Catalog
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import validate
from factory_sim.scenario.lengths import (
    MOST_TOKENS,
    Fixed,
    Length,
    Lengths,
    Lognormal,
    MeasuredLengths,
    Uniform,
)
from factory_sim.scenario.workload import LengthsFromTrace, LengthsSpec
from factory_sim.workload.traces import read_trace

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]

CELLS = 4096
"""Of equal width, that a quantile function's points are filed by; a power of two, so that to find
a share's cell is exact."""

REACH, PER_UNIT = 4, 2048
"""Cells by which lengths are looked up by a standard normal: how far from 0, and how many in 1; a
power of two, so that to find a normal's cell is exact."""


def quantile(length: Length, shares: Floats) -> Tokens:
    """Return whole tokens at `shares` in (0, 1) of the distribution; a longer share is no less.

    To be read only: of a fixed length there is one number, seen as often as there are shares.
    """
    if isinstance(length, Fixed):
        return always(length.fixed, len(shares))
    if isinstance(length, Uniform):
        low, high = length.uniform.low, length.uniform.high
        drawn = low + np.floor(shares * (high - low + 1)).astype(np.int64)
        return np.minimum(drawn, high)
    if isinstance(length, Lognormal):
        return _lognormal(length, shares)
    return _whole(_curve(tuple(length.quantiles)).at(shares))


def always(tokens: int, n: int) -> Tokens:
    """Return `n` times the same number, as int64[n] to be read only."""
    return np.broadcast_to(np.int64(tokens), n)


def mean(length: Length) -> float:
    """Return the mean tokens of the distribution, before rounding to whole tokens."""
    if isinstance(length, Fixed):
        return float(length.fixed)
    if isinstance(length, Uniform):
        return (length.uniform.low + length.uniform.high) / 2.0
    if isinstance(length, Lognormal):
        return _lognormal_mean(length)
    known, tokens = np.array(length.quantiles).T
    return float(np.trapezoid(tokens, known))


class Curve:
    """Straight lines through points (share, value), of rising shares from 0 to 1.

    The values are those of np.interp, to the last bit. Which line a share is on is looked up in a
    guide table, and few shares have steps to go from there (Chen and Asau, AIIE Transactions 6,
    1974): a search, which chance takes another way each time, costs six times as much.
    """

    def __init__(self, points: tuple[tuple[float, float], ...]) -> None:
        self._shares, self._values = np.array(points).T
        self._slopes = np.append(np.diff(self._values) / np.diff(self._shares), 0.0)
        self._ends = np.append(self._shares[1:], np.inf)
        cells = np.arange(CELLS + 1) / CELLS
        self._guide = np.searchsorted(self._shares, cells, side="right") - 1

    def at(self, shares: Floats) -> Floats:
        """Return the values at shares (1-D, in [0, 1])."""
        line = self._guide.take((shares * CELLS).astype(np.intp))
        further = np.flatnonzero(shares >= self._ends.take(line))
        while len(further):
            line[further] += 1
            further = further[shares[further] >= self._ends[line[further]]]
        values: Floats = shares - self._shares.take(line)
        values *= self._slopes.take(line)
        values += self._values.take(line)
        return values


_curve = lru_cache(maxsize=256)(Curve)


class ByNormal:
    """A distribution in whole tokens, at the shares of standard normals.

    Tokens never fall as the normal rises: where they are the same at both ends of a cell, they are
    so all over it, and known without working out a share.
    """

    def __init__(self, length: Length) -> None:
        self._length = length
        self._known: Tokens | None = None  # by cell; -1 where a cell holds several numbers

    def at(self, normals: Floats) -> Tokens:
        """Return the tokens at normals (1-D)."""
        if self._known is None:
            if len(normals) < PER_UNIT:  # of so few a table does not pay
                return self._worked_out(normals)
            ends = self._worked_out(np.arange(-REACH * PER_UNIT, REACH * PER_UNIT + 1) / PER_UNIT)
            self._known = np.where(ends[1:] == ends[:-1], ends[1:], -1)
            self._known[[0, -1]] = -1  # where all that are further out are sent to
        cells = np.floor(normals * PER_UNIT).astype(np.intp)
        cells += REACH * PER_UNIT
        tokens = self._known.take(cells, mode="clip")
        unknown = np.flatnonzero(tokens < 0)
        tokens[unknown] = self._worked_out(normals[unknown])
        return tokens

    def _worked_out(self, normals: Floats) -> Tokens:
        return quantile(self._length, ndtr(normals))


class Sampler(Protocol):
    """Draws prompt and output together."""

    def draw(self, normals: Floats) -> tuple[Tokens, Tokens]:
        """Return prompt and output tokens for standard normals of shape (n, 2)."""

    def means(self) -> tuple[float, float]:
        """Return the mean prompt and output tokens."""


class Copula:
    """Two distributions joined by a Gaussian copula.

    Spearman's correlation rho of a Gaussian pair is 6/pi asin(r/2), r the correlation of the
    normals (Pearson 1907), hence r = 2 sin(pi rho / 6).
    """

    def __init__(self, lengths: Lengths) -> None:
        self.lengths = lengths
        self._prompt, self._output = ByNormal(lengths.prompt), ByNormal(lengths.output)
        self.normal_correlation = 2.0 * np.sin(np.pi * lengths.rank_correlation / 6.0)

    def draw(self, normals: Floats) -> tuple[Tokens, Tokens]:
        r = self.normal_correlation
        first, second = normals[:, 0], normals[:, 1]
        joined = r * first + np.sqrt(1.0 - r * r) * second
        return self._prompt.at(first), self._output.at(joined)

    def means(self) -> tuple[float, float]:
        return mean(self.lengths.prompt), mean(self.lengths.output)


class Rows:
    """Recorded pairs, drawn at random with replacement."""

    def __init__(self, prompt: Tokens, output: Tokens) -> None:
        self.prompt, self.output = prompt, output

    def draw(self, normals: Floats) -> tuple[Tokens, Tokens]:
        n = len(self.prompt)
        row = np.minimum((ndtr(normals[:, 0]) * n).astype(np.int64), n - 1)
        return self.prompt[row], self.output[row]

    def means(self) -> tuple[float, float]:
        return float(self.prompt.mean()), float(self.output.mean())


def sampler(spec: LengthsSpec, catalog: Catalog, base: Path, where: str) -> Sampler:
    """Return what draws the lengths of `spec`; files are relative to `base`.

    Raises InputError, at the field path `where`, for an unknown name or an unusable file.
    """
    if isinstance(spec, str):
        return Copula(_named(spec, catalog, where))
    if isinstance(spec, LengthsFromTrace):
        trace, _ = read_trace(spec.trace, base, f"{where}.trace", needs_times=False)
        return Rows(trace.prompt, trace.output)
    return Copula(spec)


def _named(name: str, catalog: Catalog, where: str) -> MeasuredLengths:
    if name not in catalog.lengths:
        close = difflib.get_close_matches(name, catalog.lengths, n=1)
        guess = f"did you mean '{close[0]}'? " if close else ""
        known = ", ".join(sorted(catalog.lengths))
        raise InputError(Problem(where, f"unknown lengths '{name}'; {guess}known: {known}"))
    try:
        return validate(MeasuredLengths, catalog.lengths[name])
    except InputError as error:
        raise InputError(
            Problem(f"lengths.yaml: {name}.{problem.path}".rstrip("."), problem.message)
            for problem in error.problems
        ) from None


def _lognormal(length: Lognormal, shares: Floats) -> Tokens:
    mu, sigma = length.lognormal.log_parameters()
    drawn = np.exp(mu + sigma * ndtri(shares))
    most = length.lognormal.max
    return np.maximum(_whole(np.minimum(drawn, most if most is not None else MOST_TOKENS)), 1)


def _lognormal_mean(length: Lognormal) -> float:
    """Return E[min(X, max)] of a lognormal X (its limited expected value)."""
    mu, sigma = length.lognormal.log_parameters()
    whole = float(np.exp(mu + sigma**2 / 2.0))
    most = length.lognormal.max
    if most is None:
        return whole
    if sigma == 0.0:
        return min(whole, float(most))
    score = (np.log(most) - mu) / sigma
    return float(whole * ndtr(score - sigma) + most * (1.0 - ndtr(score)))


def _whole(tokens: Floats) -> Tokens:
    """Return the nearest whole numbers of tokens; a half goes up."""
    return (tokens + 0.5).astype(np.int64)
