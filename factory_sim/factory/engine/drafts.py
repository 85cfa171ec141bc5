"""Drafts: how many of the tokens drafted for a request are right, drawn from its own stream."""

from __future__ import annotations

import numpy as np


class Drafts:
    """Draws the steps that answers take with speculative decoding.

    tokens: drafted in a step. mean, deviation: of the acceptance over requests. seed: of these
    draws; a request's own depend on it, its number and the tokens made, and on nothing that
    happens, so that no policy and no order of events reshuffles them.
    """

    def __init__(self, tokens: int, mean: float, deviation: float, seed: int) -> None:
        self.tokens = tokens
        self._mean, self._deviation, self._seed = mean, deviation, seed

    def acceptance(self, number: int) -> float:
        """Return the acceptance of a request."""
        mean, deviation = self._mean, self._deviation
        if not deviation:
            return mean
        size = mean * (1.0 - mean) / deviation**2 - 1.0
        rng = np.random.default_rng((self._seed, number))
        return float(rng.beta(mean * size, (1.0 - mean) * size))

    def steps(self, number: int, made: int, left: int) -> int:
        """Return the steps in which a request makes the `left` tokens after the first `made`.

        A step makes one token and as many drafts as are right before the first that is not: a
        geometric number, cut at k + 1. What goes beyond the last token is dropped.
        """
        acceptance, most = self.acceptance(number), self.tokens + 1
        if acceptance >= 1.0:
            return -(-left // most)
        rng = np.random.default_rng((self._seed, number, made))
        per_step = np.minimum(rng.geometric(1.0 - acceptance, left), most)
        return int(np.searchsorted(np.cumsum(per_step), left)) + 1
