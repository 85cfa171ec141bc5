"""Prefix caching: the macro-step engine equals the step-by-step reference, blocks and all.

Conversations that branch from common beginnings, with few blocks, so that what was kept is
forgotten, shared and computed again; with every policy, preemption and time-outs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factory.side_by_side import Case
from tests.factory.test_exactness import POLICIES, TICK_S, assert_same, speed_of, times
from tests.reference import ReferenceRequest


def path(leaf: int) -> tuple[int, ...]:
    """Return the keys from the root of a binary tree to a leaf: beginnings in common."""
    keys = []
    while leaf:
        keys.append(leaf)
        leaf //= 2
    return tuple(reversed(keys))


@st.composite
def cases(draw: st.DrawFn, toys: tuple[str, ...] = ("constant", "linear", "windowed")) -> Case:
    name = draw(st.sampled_from(toys))
    tick_s = TICK_S.get(name, 0.0107)
    block_tokens = draw(st.sampled_from([16, 4, 1, 1]))
    hash_blocks = draw(st.sampled_from([1, 2, 3]))
    each = block_tokens * hash_blocks
    leaves = draw(st.sampled_from([3, 7, 7, 15]))
    spread = draw(st.sampled_from([5, 20, 60, 200]))
    requests = []
    for _ in range(draw(st.integers(2, 20))):
        arrival_s = times(draw, tick_s, spread)
        keys = path(draw(st.integers(1, leaves)))[: draw(st.sampled_from([1, 2, 9]))]
        more = draw(st.just(0) | st.integers(0, each - 1))
        known = draw(st.sampled_from([True, True, True, False]))
        patience_s = draw(st.sampled_from([math.inf, math.inf, math.inf, 1.0]))
        if patience_s == 1.0:
            patience_s = times(draw, tick_s, 100)
        requests.append(
            ReferenceRequest(
                arrival_s,
                len(keys) * each + more,
                draw(st.integers(1, draw(st.sampled_from([1, 3, 12, 40])))),
                deadline_s=arrival_s + patience_s,
                hashes=keys if known else (),
                hash_blocks=hash_blocks,
            )
        )
    largest = max(-(-(r.prompt + r.output - 1) // block_tokens) for r in requests)
    max_num_seqs = draw(st.integers(1, 8))
    return Case(
        tuple(requests),
        partial(speed_of, name),
        policy=draw(st.sampled_from(POLICIES)),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 3 * each)),
        blocks=max(1, largest * draw(st.sampled_from([10, 11, 12, 13, 15, 20, 40])) // 10),
        block_tokens=block_tokens,
        async_scheduling=draw(st.booleans()),
        looks_s=tuple(times(draw, tick_s, 300) for _ in range(draw(st.integers(0, 3)))),
    )


Shelves = tuple[tuple[int, float], ...]


def shelves() -> st.SearchStrategy[Shelves]:
    """Return one to three tiers: (blocks, seconds to move one back), the later ones slower."""
    rooms = st.lists(st.sampled_from([1, 2, 3, 5, 20, 300]), min_size=1, max_size=3)
    pace_s = st.sampled_from([0.0, 0.00123])
    return st.builds(
        lambda many, each_s: tuple((room, each_s * (1 + 3 * n)) for n, room in enumerate(many)),
        rooms,
        pace_s,
    )


@settings(deadline=None, max_examples=70, suppress_health_check=list(HealthCheck))
@given(cases())
def test_macro_steps_equal_single_steps_with_a_prefix_cache(case: Case) -> None:
    assert_same(case)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(cases(), shelves())
def test_macro_steps_equal_single_steps_with_tiers(case: Case, tiers: Shelves) -> None:
    assert_same(replace(case, shelves=tiers))
