"""How long requests reason before they answer: two draws of each, whether and for how long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from factory_sim.scenario.reasoning import Reasoning
from factory_sim.workload.lengths import mean, quantile


def reasoning_tokens(spec: Reasoning, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the tokens of n requests, 0 where one answers at once; shares: float64[n, 2] in [0, 1).

    The first of a row says whether, the second how long: a higher share leaves who reasoned as is.
    """
    whether, long = shares.T
    return np.where(whether < spec.share, quantile(spec.tokens, long), 0)


def mean_reasoning(spec: Reasoning | None) -> float:
    """Return the mean tokens of a request, of those that answer at once too."""
    return 0.0 if spec is None else spec.share * mean(spec.tokens)
