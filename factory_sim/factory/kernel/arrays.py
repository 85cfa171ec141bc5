"""Where the arrays of a deployment are: each is found by its address in the deployment's record.

Functions pass on that one record. Passing arrays themselves would have numba count references to
all of them in every function, which takes longer than what the functions do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory_sim.factory.gateway import ROW
from factory_sim.factory.kernel.compiled import (
    compiled,
    fetch,
    fixed,
    least_of,
    record_at,
    values_at,
)
from factory_sim.factory.kernel.state import (
    ARRIVAL_ROW,
    CLOCK,
    COST,
    ENDING,
    KINDS,
    LINK,
    LINKS,
    LIST,
    REPLICA,
    REQUEST,
    STALL,
    STREAM,
)

INTEGER, SHORT, REAL, WORD = np.int64, np.int32, np.float64, np.uint32

# -- records, by where they are --------------------------------------------------------------


@compiled
def replica(s: Any, r: int) -> Any:
    return record_at(fixed(s, "replicas_at"), r, REPLICA)


@compiled
def request(s: Any, q: int) -> Any:
    return record_at(fixed(s, "requests_at"), q, REQUEST)


@compiled
def ends(s: Any, row: int, kind: int) -> Any:
    return record_at(fixed(s, "ends_at"), row * KINDS + kind, LIST)


@compiled
def link(s: Any, q: int, which: int) -> Any:
    return record_at(fixed(s, "links_at"), q * LINKS + which, LINK)


@compiled
def stall(s: Any, r: int, group: int) -> Any:
    return record_at(fixed(s, "stalls_at"), r * fixed(s, "held") + group, STALL)


@compiled
def clock(s: Any, number: int) -> Any:
    return record_at(fixed(s, "clocks_at"), number, CLOCK)


@compiled
def decode(s: Any, clock: int, sequences: int) -> Any:
    return record_at(fixed(s, "decode_at"), clock * (fixed(s, "slots") + 1) + sequences, COST)


@compiled
def body(s: Any, clock: int, tokens: int) -> Any:
    return record_at(fixed(s, "body_at"), clock * (fixed(s, "most") + 1) + tokens, COST)


@compiled
def head(s: Any, clock: int, tokens: int) -> Any:
    return record_at(fixed(s, "head_at"), clock * (fixed(s, "slots") + 1) + tokens, COST)


@compiled
def stream(s: Any, i: int) -> Any:
    return record_at(fixed(s, "streams_at"), i, STREAM)


@compiled
def coming(s: Any, i: int, place: int) -> Any:
    return record_at(fixed(s, "feed_at"), i * s.block + place, ARRIVAL_ROW)


@compiled
def row(s: Any, place: int) -> Any:
    return record_at(fixed(s, "rows_at"), place, ROW)


@compiled
def heap(s: Any, r: int) -> int:
    """Return the address of the heap of who finishes when at a replica."""
    return int(fixed(s, "endings_at") + r * fixed(s, "heap") * ENDING_BYTES)


@compiled
def ending(heap: int, place: int) -> Any:
    return record_at(heap, place, ENDING)


# -- rows of numbers -------------------------------------------------------------------------


@compiled
def due(s: Any, r: int) -> Any:
    return values_at(fixed(s, "due_at") + r * fixed(s, "block_tokens") * SHORT_BYTES, SHORT)


@compiled
def when(s: Any) -> Any:
    return values_at(fixed(s, "when_at"), REAL)


@compiled
def when_bits(s: Any) -> Any:
    return values_at(fixed(s, "when_at"), INTEGER)


@compiled
def rank(s: Any) -> Any:
    return values_at(fixed(s, "rank_at"), SHORT)


@compiled
def first(s: Any) -> Any:
    return values_at(fixed(s, "first_at"), SHORT)


@compiled
def load(s: Any) -> Any:
    return values_at(fixed(s, "load_at"), INTEGER)


@compiled
def seen(s: Any) -> Any:
    return values_at(fixed(s, "seen_at"), INTEGER)


@compiled
def open(s: Any) -> Any:
    return values_at(fixed(s, "open_at"), INTEGER)


@compiled
def least(s: Any) -> Any:
    return values_at(fixed(s, "least_at"), INTEGER)


@compiled
def weights(s: Any) -> Any:
    return values_at(fixed(s, "weights_at"), INTEGER)


@compiled
def least_weight(s: Any, place: int, but: int) -> int:
    """Return the least of the weights from a place on: see `least_of`."""
    return int(least_of(fixed(s, "weights_at"), place, but))


@compiled
def least_of_groups(s: Any, place: int, but: int) -> int:
    """Return the least of the least weights of groups, from a place on: see `least_of`."""
    return int(least_of(fixed(s, "least_at"), place, but))


@compiled
def words(s: Any) -> Any:
    return values_at(fixed(s, "words_at"), WORD)


@compiled
def edges(s: Any) -> Any:
    return values_at(fixed(s, "edges_at"), REAL)


@compiled
def guide(s: Any) -> Any:
    return values_at(fixed(s, "guide_at"), SHORT)


@compiled
def bins(s: Any) -> Any:
    return values_at(fixed(s, "bins_at"), INTEGER)


@compiled
def finished(s: Any) -> Any:
    return values_at(fixed(s, "finished_at"), INTEGER)


@compiled
def changed(s: Any) -> Any:
    return values_at(fixed(s, "changed_at"), INTEGER)


ENDING_BYTES = ENDING.itemsize
SHORT_BYTES = np.dtype(SHORT).itemsize

# -- memory that is far ----------------------------------------------------------------------

LINE = 64
"""Bytes that a processor brings near at once."""

COST_BYTES = COST.itemsize
REQUEST_BYTES, LINKS_BYTES = REQUEST.itemsize, LINKS * LINK.itemsize


@compiled
def fetch_request(s: Any, q: int) -> None:
    """Have a request come near while something else is done.

    Requests lie far from each other, so that waiting for who finishes took a fifth of all time with
    640 replicas.
    """
    start = fixed(s, "requests_at") + q * REQUEST_BYTES
    for place in range(0, REQUEST_BYTES, LINE):
        fetch(start + place)
    fetch(fixed(s, "links_at") + q * LINKS_BYTES)


@compiled
def fetch_body(s: Any, clock: int, tokens: int) -> None:
    """Have the cost of a step of so many tokens come near, which is likely to be asked for soon."""
    place = clock * (fixed(s, "most") + 1) + min(tokens, fixed(s, "most"))
    fetch(fixed(s, "body_at") + place * COST_BYTES)
