"""KV blocks counted by position equal blocks counted one sequence at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.factory.engine.drafted_kv import ENDLESS, DraftedBlocks, Stay
from factory_sim.factory.engine.kv import KvBlocks


def need_one_by_one(stored: list[int], steps: int, block_tokens: int) -> int:
    return sum(
        sum((tokens + step) % block_tokens == 0 for step in range(steps)) for tokens in stored
    )


@given(
    stored=st.lists(st.integers(1, 70), min_size=1, max_size=8),
    block_tokens=st.sampled_from([1, 2, 3, 16]),
    start=st.integers(0, 40),
    steps=st.integers(1, 60),
    free=st.integers(0, 60),
)
def test_need_and_steps_that_fit(
    stored: list[int], block_tokens: int, start: int, steps: int, free: int
) -> None:
    kv = KvBlocks(1000, block_tokens)
    for tokens in stored:
        kv.grow(tokens, start)
    assert kv.need(start, steps, len(stored)) == need_one_by_one(stored, steps, block_tokens)
    kv.free = free
    fit = kv.steps_that_fit(start, len(stored))
    assert need_one_by_one(stored, fit, block_tokens) <= free
    assert need_one_by_one(stored, fit + 1, block_tokens) > free


def test_a_sequence_gives_back_what_it_took() -> None:
    kv = KvBlocks(10, 4)
    kv.free -= kv.blocks(5)
    kv.grow(5, step=100)
    kv.free -= kv.need(100, 7, 1)
    assert kv.free == 10 - 3  # twelve tokens
    kv.stop(12, step=107)
    assert kv.free == 10
    assert [kv.need(step, 1, 0) for step in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_blocks_of_tokens(tokens: int, blocks: int) -> None:
    assert KvBlocks(1, 16).blocks(tokens) == blocks


@pytest.mark.parametrize(("total", "block_tokens"), [(0, 16), (-1, 16), (1, 0)])
def test_an_empty_cache_is_refused(total: int, block_tokens: int) -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        KvBlocks(total, block_tokens)


@given(
    stays=st.lists(
        st.tuples(st.integers(1, 70), st.integers(1, 90), st.integers(0, 89)),
        min_size=1,
        max_size=6,
    ),
    drafts=st.integers(1, 3),
    block_tokens=st.sampled_from([4, 5, 16]),
    start=st.integers(0, 40),
    free=st.integers(0, 60),
)
def test_blocks_of_drafts_are_those_of_every_step(
    stays: list[tuple[int, int, int]], drafts: int, block_tokens: int, start: int, free: int
) -> None:
    """What is due in a step is what a count of each sequence, before it and after, says."""
    kv = DraftedBlocks(1000, block_tokens, drafts)
    begun = []
    for stored, left, fewer in stays:
        fewest = -(-left // (drafts + 1))
        steps = max(fewest, left - fewer)
        begun.append(Stay(start, stored, left, steps))
        kv.begin(begun[-1])
    last = max(stay.steps for stay in begun)
    taken = []
    for step in range(start, start + last):
        here = [stay for stay in begun if step < start + stay.steps]
        now = [kv.blocks(s.stored + s.emitted(step) + drafts + 1) for s in here]
        taken.append(sum(now) - sum(kv.held(stay, step) for stay in here))
        assert kv.need(step, 1, len(here)) == taken[-1]
    assert kv.need(start, last, len(begun)) == sum(taken)
    kv.free = free
    fits = kv.steps_that_fit(start, len(begun))
    if sum(taken) <= free:
        assert fits == ENDLESS
    else:
        assert sum(taken[:fits]) <= free < sum(taken[: fits + 1])


def test_drafts_must_be_fewer_than_a_block_holds() -> None:
    with pytest.raises(ValueError, match=r'"drafts" must be fewer than "block_tokens"\.'):
        DraftedBlocks(10, 4, 4)
