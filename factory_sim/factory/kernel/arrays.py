"""Where the arrays of a deployment are: each is found by its address in the deployment's record.

Functions pass on that one record. Passing arrays themselves would have numba count references to
all of them in every function, which takes longer than what the functions do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory_sim.factory.gateway import ROW
from factory_sim.factory.kernel.compiled import array_at, compiled, fetch
from factory_sim.factory.kernel.state import (
    ARRIVAL_ROW,
    CLOCK,
    KINDS,
    LINKS,
    REPLICA,
    REQUEST,
    STREAM,
)

INTEGER, SHORT, REAL, WORD = np.int64, np.int32, np.float64, np.uint32


@compiled
def replicas(s: Any) -> Any:
    return array_at(s.replicas_at, (s.many,), REPLICA)


@compiled
def requests(s: Any) -> Any:
    return array_at(s.requests_at, (s.pool,), REQUEST)


@compiled
def due(s: Any) -> Any:
    return array_at(s.due_at, (s.many, s.block_tokens), INTEGER)


@compiled
def endings(s: Any) -> Any:
    return array_at(s.endings_at, (s.many, s.slots, 3), INTEGER)


@compiled
def counts(s: Any) -> Any:
    return array_at(s.counts_at, (s.many, s.slots + 1), REAL)


@compiled
def stalls(s: Any) -> Any:
    return array_at(s.stalls_at, (s.many, s.held, 2), REAL)


@compiled
def ends(s: Any) -> Any:
    return array_at(s.ends_at, (s.many + 1, KINDS, 2), INTEGER)


@compiled
def links(s: Any) -> Any:
    return array_at(s.links_at, (s.pool, LINKS, 2), SHORT)


@compiled
def when(s: Any) -> Any:
    return array_at(s.when_at, (s.many + 1,), REAL)


@compiled
def rank(s: Any) -> Any:
    return array_at(s.rank_at, (s.many + 1,), INTEGER)


@compiled
def first(s: Any) -> Any:
    return array_at(s.first_at, (2 * s.size,), INTEGER)


@compiled
def load(s: Any) -> Any:
    return array_at(s.load_at, (s.many + 1,), INTEGER)


@compiled
def seen(s: Any) -> Any:
    return array_at(s.seen_at, (s.many + 1,), INTEGER)


@compiled
def open(s: Any) -> Any:
    return array_at(s.open_at, (s.many,), INTEGER)


@compiled
def least(s: Any) -> Any:
    return array_at(s.least_at, (2 * s.size,), INTEGER)


@compiled
def clocks(s: Any) -> Any:
    return array_at(s.clocks_at, (s.many_clocks,), CLOCK)


@compiled
def decode(s: Any) -> Any:
    return array_at(s.decode_at, (s.many_clocks, s.slots + 1, 7), REAL)


@compiled
def body(s: Any) -> Any:
    return array_at(s.body_at, (s.many_clocks, s.most + 1, 7), REAL)


@compiled
def head(s: Any) -> Any:
    return array_at(s.head_at, (s.many_clocks, s.slots + 1, 7), REAL)


@compiled
def streams(s: Any) -> Any:
    return array_at(s.streams_at, (s.many_streams,), STREAM)


@compiled
def feed(s: Any) -> Any:
    return array_at(s.feed_at, (s.many_streams, s.block), ARRIVAL_ROW)


@compiled
def words(s: Any) -> Any:
    return array_at(s.words_at, (s.many_words,), WORD)


@compiled
def bins(s: Any) -> Any:
    return array_at(s.bins_at, (s.many_bins,), INTEGER)


@compiled
def finished(s: Any) -> Any:
    return array_at(s.finished_at, (s.slots + 1,), INTEGER)


@compiled
def changed(s: Any) -> Any:
    return array_at(s.changed_at, (s.many + 1,), INTEGER)


@compiled
def rows(s: Any) -> Any:
    return array_at(s.rows_at, (s.room,), ROW)


LINE = 64
"""Bytes that a processor brings near at once."""

REQUEST_BYTES, LINKS_BYTES = REQUEST.itemsize, LINKS * 2 * np.dtype(SHORT).itemsize


@compiled
def fetch_request(s: Any, q: int) -> None:
    """Have a request come near while something else is done.

    Requests lie far from each other, so that waiting for who finishes took a fifth of all time with
    640 replicas.
    """
    start = s.requests_at + q * REQUEST_BYTES
    for place in range(0, REQUEST_BYTES, LINE):
        fetch(start + place)
    fetch(s.links_at + q * LINKS_BYTES)
