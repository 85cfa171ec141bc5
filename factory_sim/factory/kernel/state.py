"""The state of a deployment as arrays: what its replicas, its requests and its clocks are.

A record has the names that the same thing has in `engine` and `replica`; see there.
"""

from __future__ import annotations

import numpy as np

REPLICA = np.dtype(
    [
        (name, "<f8")
        for name in (
            # the stretch under way
            *("start_s", "end_s", "first_s", "growth_s", "attended"),
            *("duration_s", "busy_compute_s", "busy_memory_s"),
            *("compute_s", "memory_s", "network_s", "host_s", "prompts"),
            *("boundary_s", "decoded_s", "in_time_s"),
            # the ledger
            *("spent_s", "energy_j", "made", "kv_full_s", "sequence_s", "prefill_j", "prompt_j"),
            *("done_compute_s", "done_memory_s", "done_network_s", "done_host_s"),
            *("heat_until_s", "heated_s"),
        )
    ]
    + [
        (name, "<i8")
        for name in (
            *("step", "context"),
            *("input_tokens", "recomputed_tokens", "lost_tokens"),
        )
    ]
    + [
        (name, "<i4")
        for name in (
            *("steps", "kept", "stepping", "mixed", "kv_blocked", "sequences", "tokens"),
            *("waiting", "running", "prefilling", "decoding", "finishing", "stalls"),
            *("chunks", "chunk_tokens", "completing", "decodes", "growing"),
            *("clock", "prompt_clock", "max_running", "hot"),
            # what control wants from the next boundary on
            *("ordered", "want_clock", "want_prompt_clock", "want_running", "want_hot"),
        )
    ],
    align=True,
)
"""Six lines of a processor's cache. The short ones hold up to 2,147,483,647: the tokens that KV
blocks kept for prompts can take, and the steps of a stretch, no more than the tokens of an answer.
"""

REQUEST = np.dtype(
    [
        (name, "<f8")
        for name in (
            *("arrival_s", "due_s", "queued_s", "admitted_s"),
            *("first_token_s", "last_token_s"),
        )
    ]
    + [("number", "<i8"), ("index", "<i8"), ("finish_step", "<i8")]
    + [
        (name, "<i4")
        for name in (
            *("tenant", "prompt", "output", "cached"),
            *("replica", "emitted", "stored", "left", "hit", "kept"),
            *("preemptions", "chunk"),
        )
    ]
    + [(name, "<i2") for name in ("stream", "archetype", "retries", "runs")],
    align=True,
)
"""Two lines of a processor's cache: each costs time where replicas are many and requests far. The
short ones hold up to 32,767 workloads, archetypes, and losses of one request with its replica."""

CLOCK = np.dtype(
    [
        (name, "<f8")
        for name in (
            *("clock", "stall"),
            *("far_s", "far_compute_s", "far_memory_s", "far_busy_compute_s", "far_busy_memory_s"),
            *("per_pair_s", "per_token_s", "state_s", "scan_s", "per_sequence_s"),
            *("mixed_host_s", "ahead_mixed_s"),
            *("idle_w", "span_w", "active_weight", "compute_weight", "memory_weight"),
        )
    ],
    align=True,
)

COSTS = (
    *("duration_s", "compute_s", "memory_s", "network_s", "host_s"),
    *("busy_compute_s", "busy_memory_s"),
)
COST = np.dtype([(name, "<f8") for name in (*COSTS, "_")])
"""What a step costs, as in the tables of a `Roofline`, on a line of a processor's cache."""

LIST = np.dtype([("first", "<i4"), ("last", "<i4")])
LINK = np.dtype([("before", "<i4"), ("after", "<i4")])

ENDING = np.dtype([("step", "<i8"), ("number", "<i8"), ("who", "<i8")])
"""Who finishes when. The keys are there beside who it is, so that a look at the heap is no walk
through the requests, which are far from each other in memory."""

STALL = np.dtype([("many", "<f8"), ("last_token_s", "<f8")])
"""A group of sequences held back."""

STREAM = np.dtype(
    [
        ("next_s", "<f8"),
        ("lag_s", "<f8"),
        ("timeout_s", "<f8"),
        ("order", "<i8"),
        ("sent", "<i8"),
        ("number", "<i8"),
        ("tenant", "<i8"),
        ("at", "<i8"),
        ("size", "<i8"),
    ],
    align=True,
)

ARRIVAL_ROW = np.dtype(
    [("arrival_s", "<f8")]
    + [(name, "<i8") for name in ("index", "prompt", "output", "cached", "kind")]
)
"""A request that is to come. index: its number among those of its stream."""

ARRAYS = (
    *("replicas", "requests", "due", "endings", "stalls", "ends", "links"),
    *("when", "rank", "first", "load", "seen", "open", "weights", "least"),
    *("clocks", "decode", "body", "head", "streams", "feed", "words"),
    *("edges", "guide", "bins", "finished", "changed", "rows"),
)
"""The arrays of a deployment; `arrays` has their shapes.

due: sequences by their place in the KV block. endings: a heap of who finishes when, of each
replica. stalls: groups held back. ends, links: of lists.
when, rank, first: the next event of each replica and the contest of them all; one who never wins
comes after the replicas. load: requests outstanding; seen: as the router last saw them. weights,
least: words for the fewest, see `lists`. decode, body, head: costs by clock and size, as in a
`Roofline`. feed: the next arrivals of each of `streams`. edges: where each of `bins` ends, s;
guide: where to look for a gap among them.
"""

KINDS = 5
"""Kinds of lists of requests, which `lists` names."""

LINKS = 3
"""Lists that a request may be in at once."""

DESK = np.dtype(
    [
        (name, "<f8")
        for name in (
            *("max_waiting", "longest", "staleness_s"),
            *("now", "request_s", "last_s", "seen_s", "gap_sum_s", "gap_squares"),
        )
    ]
    + [
        (name, "<i8")
        for name in (
            *("batching", "ahead", "max_tokens", "router"),
            *("block_tokens", "block_bits", "blocks", "kv_tokens"),
            *("inside", "stranded", "unused", "next_number", "turn", "open"),
            *("rows", "words", "order", "stream", "gaps", "answer", "is_pod", "first_replica"),
            # sizes of arrays
            *("many", "size", "groups", "slots", "heap", "held", "most", "pool", "room", "block"),
            *("many_clocks", "many_streams", "many_words"),
            # and their addresses
            *(f"{name}_at" for name in ARRAYS),
        )
    ],
    align=True,
)
