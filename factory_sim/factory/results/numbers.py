"""Numbers of requests across deployments: one sequence, in the order in which they arrived.

SimPy counts up as requests come, whichever deployment they go to. The compiled kernel serves one
deployment at a time, far ahead of the others or behind, and counts its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heapreplace
from itertools import count

import numpy as np
from numpy.typing import NDArray


def numbered(raw: Mapping[str, Sequence[np.ndarray]], lags_s: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers of every deployment's requests (rows of dtype `ROW`) in one sequence.

    lags_s: of the way in of each stream. Of requests that arrive at once the first is the one whose
    stream has sent its last one first, as on SimPy, where a request calls the next.
    """
    rows = [part for pieces in raw.values() for part in pieces]
    arrived_s = np.concatenate([part["arrival_s"] + lags_s[part["stream"]] for part in rows])
    streams = np.concatenate([part["stream"] for part in rows])
    before = np.concatenate([part["number"] for part in rows])
    numbers = np.empty(len(before), np.int64)
    numbers[_in_turn(arrived_s, streams, before)] = np.arange(len(before))
    many = [sum(map(len, pieces)) for pieces in raw.values()]
    return dict(zip(raw, np.split(numbers, np.cumsum(many)[:-1]), strict=True))


def _in_turn(
    arrived_s: NDArray[np.float64], streams: NDArray[np.int32], before: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Return the places of requests in the order of their arrival. before: order in a stream."""
    order = np.lexsort((streams, before, arrived_s))
    at_once = np.diff(arrived_s[order]) == 0.0
    if not (at_once & (np.diff(streams[order]) != 0)).any():
        return order
    # The streams as queues, of which the heap holds the heads: when, set how early, whose, which.
    by_stream = np.lexsort((before, streams))
    cuts = np.flatnonzero(np.diff(streams[by_stream])) + 1
    parts = np.split(by_stream, cuts)
    queues = [zip(arrived_s[own].tolist(), own.tolist(), strict=True) for own in parts]
    calls = count(len(queues))
    heads = [(*next(queue), number) for number, queue in enumerate(queues)]
    heap = [(when_s, number, number, place) for when_s, place, number in heads]
    heapify(heap)
    found = []
    while heap[0][0] < np.inf:
        _, _, number, place = heap[0]
        found.append(place)
        when_s, place = next(queues[number], (np.inf, -1))
        heapreplace(heap, (when_s, next(calls), number, place))
    return np.array(found)
