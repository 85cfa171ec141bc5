"""Lengths of requests as a tool reports them, in the form of a scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from factory_sim.errors import InputError, Problem
from factory_sim.frozen import validate
from factory_sim.scenario.lengths import Lengths
from factory_sim.workload.lengths import mean as mean_length

SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""Where a distribution of single requests is read off: the percentiles that the tools report."""

AGREE = 0.05
"""How far a stated mean length may lie from the file's: a judgement. The counts of client,
server and user differ by special tokens and a chat template's."""


NEAR = 0.001
"""A mean that straight lines between percentiles meet as closely as this needs no more points."""


class Spread(NamedTuple):
    """Lengths of many requests in tokens. points: (share, tokens), None where only the mean is."""

    mean: float
    points: Sequence[tuple[float, float]] | None = None


def of_samples(values: Sequence[float]) -> Spread:
    """Return the spread of lengths of single requests."""
    quantiles = np.quantile(values, SHARES)
    points = [(share, float(tokens)) for share, tokens in zip(SHARES, quantiles, strict=True)]
    return Spread(float(np.mean(values)), points)


def of_percentiles(mean: float, low: float, high: float, inner: Mapping[float, float]) -> Spread:
    """Return the spread of a summary: shortest, longest, and tokens by share in between."""
    between = sorted((share, tokens) for share, tokens in inner.items() if 0.0 < share < 1.0)
    return Spread(mean, [(0.0, low), *between, (1.0, high)])


def rank_correlation(prompt: Sequence[float], output: Sequence[float]) -> float:
    """Return Spearman's correlation of the lengths of single requests; 0 where one is constant."""
    if len(set(prompt)) < 2 or len(set(output)) < 2:
        return 0.0
    return round(float(spearmanr(prompt, output).statistic), 3)


def lengths(
    file: str,
    prompt: Spread,
    output: Spread,
    known: Mapping[str, Any] | None,
    cached: float = 0.0,
    correlation: float = 0.0,
) -> dict[str, Any]:
    """Return the `lengths` of a case.

    A distribution where the lengths vary, else a number, else the mean. known: what the user
    says of them (prompt, output, cached); it fills what the file leaves open, namely the
    distribution where there is only a mean. cached: mean prompt tokens that the server says
    it had in its prefix cache. Raises InputError where user and file disagree.
    """
    said = _checked(known)
    found: dict[str, Any] = {}
    problems = []
    for name, spread in (("prompt", prompt), ("output", output)):
        found[name] = _length(spread)
        if name not in said:
            continue
        stated = mean_length(getattr(_lengths(said), name))
        if abs(stated - spread.mean) > AGREE * spread.mean:
            problems.append(_contradiction(name, file, f"{spread.mean:.6g}", f"{stated:.6g}"))
        elif spread.points is None and isinstance(said[name], Mapping):
            found[name] = said[name]
    if correlation and all(isinstance(found[name], Mapping) for name in ("prompt", "output")):
        found["rank_correlation"] = correlation
    hits = said.get("cached", 0)
    if cached and hits and abs(hits - cached) > AGREE * prompt.mean:
        problems.append(_contradiction("cached", file, f"{cached:.6g}", f"{hits:.6g}"))
    if cached or hits:
        found["cached"] = _number(cached or hits)
    if problems:
        raise InputError(problems)
    return found


def _length(spread: Spread) -> Any:
    if spread.points is None:
        return _number(max(spread.mean, 1.0))
    # A request without a token, as some tools count one, is none the simulator can send.
    points = [(share, max(tokens, 1.0)) for share, tokens in spread.points]
    if points[0][1] == points[-1][1]:
        return _number(points[0][1])
    return {
        "quantiles": [
            [share, round(tokens, 3)] for share, tokens in _with_mean(points, spread.mean)
        ]
    }


def _with_mean(points: list[tuple[float, float]], mean: float) -> list[tuple[float, float]]:
    """Return the points with one more between each two, such that the mean is that measured.

    Straight lines between percentiles make too many long requests: most lie near the lower
    end. So the curve stays level over a share k of every interval and rises in the rest, or
    rises first where k is negative, and the mean fixes k.
    """
    shares, tokens = (np.array(column) for column in zip(*points, strict=True))
    straight = float(np.trapezoid(tokens, shares))
    if abs(straight - mean) <= NEAR * mean:
        return points
    k = 2.0 * (straight - mean) / float(np.diff(tokens) @ np.diff(shares))
    bent = points[:1]
    for (start, low), (end, high) in pairwise(points):
        bend = start + k * (end - start) if k > 0.0 else end + k * (end - start)
        bend = round(bend, 6)
        if low < high and start < bend < end:
            bent.append((bend, low if k > 0.0 else high))
        bent.append((end, high))
    return bent


def _number(tokens: float) -> int | float:
    return int(tokens) if tokens == int(tokens) else round(tokens, 1)


def _checked(known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the user says of lengths, without what is None; InputError unless usable."""
    if known is None:
        return {}
    if not isinstance(known, Mapping) or set(known) - {"prompt", "output", "cached"}:
        raise InputError(
            Problem("lengths", "must be a mapping such as {prompt: 1000, output: 200, cached: 0}")
        )
    said = {key: value for key, value in known.items() if value is not None}
    hits = said.get("cached", 0)
    if isinstance(hits, bool) or not isinstance(hits, int | float) or hits < 0:
        raise InputError(Problem("lengths.cached", f"must be a number of tokens, not {hits!r}"))
    _lengths(said)
    return said


def _lengths(said: Mapping[str, Any]) -> Lengths:
    given = {"prompt": 1, "output": 1} | {k: v for k, v in said.items() if k != "cached"}
    try:
        return validate(Lengths, given)
    except InputError as error:
        raise InputError(
            Problem(f"lengths.{p.path}" if p.path else "lengths", p.message) for p in error.problems
        ) from None


def _contradiction(name: str, file: str, measured: str, said: str) -> Problem:
    return Problem(
        f"lengths.{name}",
        f"{file} says {measured} tokens in the mean, and you say {said}; leave yours out, or give "
        "the result of the run you mean",
    )
