"""How long requests stayed in a deployment: what Little's law asks for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from factory_sim.metrics.requests import OUTCOMES, of_streams


class Stays(NamedTuple):
    """How many requests were inside, and for how many seconds in all."""

    accepted: int = 0
    seconds: float = 0.0

    def plus(self, other: Stays) -> Stays:
        """Return both together."""
        return Stays(self.accepted + other.accepted, self.seconds + other.seconds)


def stays_of(rows: np.ndarray, lags_s: np.ndarray, now_s: float) -> Stays:
    """Return the stays of requests by their rows (dtype `ROW`); unfinished ones last until now.

    lags_s: of the way in of each stream.
    """
    inside_s = rows["end_s"] - rows["arrival_s"]
    still = np.isnan(inside_s)
    if still.any():
        inside_s[still] = now_s - rows["arrival_s"][still]
    inside_s -= of_streams(lags_s, rows["stream"])
    # Who is refused on arrival was never inside; who was lost with a replica first, was.
    never = inside_s <= 1e-6
    if never.any():
        never &= rows["outcome"] == OUTCOMES.index("rejected")
        inside_s = inside_s[~never]
    return Stays(len(inside_s), float(inside_s.sum()))
