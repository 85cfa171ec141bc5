"""Numbers of requests across deployments: one sequence, in the order in which they arrived.

SimPy counts up as requests come, whichever deployment they go to. The compiled kernel serves one
deployment at a time, far ahead of the others or behind, and counts its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def numbered(raw: Mapping[str, Sequence[np.ndarray]], lags_s: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers of every deployment's requests (rows of dtype `ROW`) in one sequence.

    lags_s: of the way in of each stream. Of requests that arrive at once the lower number, then the
    lower stream, comes first: streams that send everything at once take turns, as on SimPy.
    """
    rows = [part for pieces in raw.values() for part in pieces]
    arrived_s = np.concatenate([part["arrival_s"] + lags_s[part["stream"]] for part in rows])
    streams = np.concatenate([part["stream"] for part in rows])
    before = np.concatenate([part["number"] for part in rows])
    numbers = np.empty(len(before), np.int64)
    numbers[np.lexsort((streams, before, arrived_s))] = np.arange(len(before))
    many = [sum(map(len, pieces)) for pieces in raw.values()]
    return dict(zip(raw, np.split(numbers, np.cumsum(many)[:-1]), strict=True))
