"""Techniques that are on together equal the step-by-step reference, request by request."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.factory.engine.drafts import Drafts
from tests.factory import test_pool_exactness as pools
from tests.factory import test_prefix_exactness as prefixes
from tests.factory import test_schedule_exactness as schedules
from tests.factory.side_by_side import Case, engine, reference
from tests.factory.test_exactness import SAME, assert_same, speed_of
from tests.factory.test_ranks import assert_same as assert_same_ranks
from tests.factory.test_ranks import ranked
from tests.factory.test_speculation_exactness import assert_same as assert_same_drafted
from tests.factory.test_speculation_exactness import drafted
from tests.reference import ReferenceRequest

tries = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


def sent_on(draw: st.DrawFn, case: Case) -> Case:
    """Let requests leave with their first token, and their KV cache some time later."""
    tick_s = 0.0107 / 999_983  # never in one instant with a step
    requests = tuple(
        replace(
            r,
            sends_s=0.05 + draw(st.integers(1, 40 * 999_982)) * tick_s,
            deadline_s=max(r.deadline_s, r.arrival_s + 0.02),
        )
        for r in case.requests
    )
    largest = max(-(-r.prompt // case.block_tokens) for r in requests)
    blocks = max(1, largest * draw(st.sampled_from([10, 12, 20, 40])) // 10)
    return replace(case, requests=requests, role="prompts", blocks=blocks, max_queue=None)


def in_blocks(case: Case) -> bool:
    """Whether a block holds a token and a draft."""
    return case.block_tokens > 1


def drafting(draw: st.DrawFn, case: Case) -> Case:
    """Let the answers of a case be drafted, on a replica with room for it."""
    block_tokens = case.block_tokens
    tokens = draw(st.integers(1, min(7, block_tokens - 1)))
    drafts = Drafts(
        tokens, draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])), 0.0, draw(st.integers(0, 9))
    )
    most = max(r.prompt + r.output - 1 + tokens for r in case.requests)
    needed = -(-most // block_tokens)
    speed_at = case.speed_at
    return replace(
        case,
        drafts=drafts,
        block_tokens=block_tokens,
        speed_at=speed_at,
        blocks=max(needed * draw(st.sampled_from([9, 10, 12, 20, 40])) // 10, 1),
        max_num_batched_tokens=case.max_num_seqs * (1 + tokens) + draw(st.integers(0, 60)),
    )


@st.composite
def kept_and_sent(draw: st.DrawFn) -> Case:
    case = sent_on(draw, draw(prefixes.cases()))
    return replace(case, shelves=draw(st.just(()) | prefixes.shelves()))


@st.composite
def kept_and_drafted(draw: st.DrawFn) -> Case:
    case = draw(prefixes.cases().filter(in_blocks))
    return drafting(draw, replace(case, shelves=draw(st.just(()) | prefixes.shelves())))


@st.composite
def ordered_and_sent(draw: st.DrawFn) -> Case:
    case = draw(schedules.cases(hashed=draw(st.booleans())))
    return sent_on(draw, replace(case, host_blocks=0))


@st.composite
def come_and_drafted(draw: st.DrawFn) -> Case:
    return drafting(draw, draw(pools.cases("decodes").filter(in_blocks)))


@st.composite
def ordered_and_drafted(draw: st.DrawFn) -> Case:
    hashed = draw(st.booleans())
    return drafting(draw, draw(schedules.cases(hashed).filter(in_blocks)))


@tries
@given(kept_and_sent())
def test_prefixes_kept_by_a_pool_that_computes_prompts(case: Case) -> None:
    assert_same(case)


@tries
@given(kept_and_drafted())
def test_prefixes_tiers_and_drafts(case: Case) -> None:
    assert_same_drafted(case)


@tries
@given(come_and_drafted())
def test_drafts_of_requests_that_come_with_their_kv_cache(case: Case) -> None:
    assert_same_drafted(case)


def test_who_comes_with_its_kv_cache_needs_room_for_its_drafts_too() -> None:
    """Of three blocks the first needs two, for its 14 tokens and four more in every step; so does
    the second, which waits until it is gone, and is not let in and preempted at once."""
    asked = tuple(ReferenceRequest(at_s, 14, 10, made_s=0.0) for at_s in (0.1, 0.12))
    case = Case(
        asked,
        partial(speed_of, "constant"),
        blocks=3,
        role="decodes",
        drafts=Drafts(3, 0.0, 0.0, 1),
    )
    assert_same_drafted(case)
    fast = engine(case)
    assert [request.preemptions for request in fast.requests] == [0, 0]
    assert fast.batch.recomputed_tokens == 0


@st.composite
def short_and_drafted(draw: st.DrawFn) -> Case:
    """The same where memory is short, so that some are swapped out and heads change meanwhile."""
    case = replace(draw(schedules.tight_cases()), block_tokens=draw(st.sampled_from([2, 4])))
    case = drafting(draw, case)
    assert case.drafts is not None
    longest = max(r.prompt + r.output - 1 for r in case.requests) + case.drafts.tokens
    blocks = -(-longest // case.block_tokens) * draw(st.sampled_from([10, 11, 13, 16])) // 10
    return replace(case, blocks=blocks)


@settings(tries, max_examples=25)
@given(short_and_drafted())
def test_orders_swapping_and_drafts_where_memory_is_short(case: Case) -> None:
    assert_same_drafted(case)


@tries
@given(ordered_and_sent())
def test_orders_of_a_pool_that_computes_prompts(case: Case) -> None:
    assert_same(case)


@tries
@given(ordered_and_drafted())
def test_orders_swapping_and_drafts(case: Case) -> None:
    assert_same_drafted(case)


@tries
@given(ranked(schedules.cases()))
def test_orders_and_swapping_of_ranks(case: Case) -> None:
    assert_same_ranks(case)


@pytest.mark.slow
@tries
@given(ranked(prefixes.cases()), st.just(()) | prefixes.shelves())
def test_prefixes_of_ranks(case: Case, tiers: prefixes.Shelves) -> None:
    assert_same_ranks(replace(case, shelves=tiers))


@pytest.mark.slow
@tries
@given(ranked(drafted()))
def test_drafts_of_ranks(case: Case) -> None:
    assert_same_ranks(case)
    slow, fast = reference(case), engine(case)
    totals = fast.batch.ledger.totals(fast.batch.stretch.step_time)
    verified = sum(len(step.decoded) for step in slow.steps)
    assert totals.verified == pytest.approx(verified, rel=SAME)
    made = sum(record.emitted for record in slow)
    accepted = made - sum(step.sampled for step in slow.steps)
    assert totals.accepted == pytest.approx(accepted, rel=SAME, abs=1e-6)
