"""Sessions: the macro-step engine equals the step-by-step reference, answers kept and all.

Several sessions go on from their own answers, with few blocks, so that what was kept is forgotten
tail first, preempted and computed again; some give up, and their sessions end. Some reason, and
their sessions go on with it or without.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factory.side_by_side import Case, engine, reference
from tests.factory.test_exactness import POLICIES, TICK_S, assert_same, speed_of
from tests.factory.test_prefix_exactness import Shelves, shelves
from tests.reference import Order, ReferenceRequest


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw sessions whose times are never equal by rounding alone.

    Every request adds half as much of a tick as the one before, so that no two sums of pauses meet,
    and none meets a step of another's making; but some send at the very instant of their answer.
    """
    name = draw(st.sampled_from(["constant", "binary", "linear", "windowed"]))
    tick_s = TICK_S.get(name, 0.0107)
    spread = draw(st.sampled_from([2, 5, 20, 60]))
    block_tokens = draw(st.sampled_from([16, 4, 1]))
    most = draw(st.sampled_from([6, 30, 90]))
    requests: list[ReferenceRequest] = []
    for session in range(draw(st.sampled_from([1, 2, 3, 5, 7]))):
        context, forgets = 0, draw(st.booleans())
        for turn in range(draw(st.integers(1, 5))):
            number = len(requests)
            if number >= 14:
                break
            pause_s = (draw(st.integers(0, spread)) + 2.0 ** -(number + 1)) * tick_s
            if turn and draw(st.sampled_from([False, False, True])):
                pause_s = 0.0
            patience_s = math.inf
            if draw(st.integers(0, 9)) == 0:
                patience_s = (draw(st.integers(1, 40)) + 1 / 3) * tick_s
            prompt = context + draw(st.integers(1, most))
            output = draw(st.integers(1, draw(st.sampled_from([1, 5, 40, 120]))))
            reasoning = draw(st.just(0) | st.integers(0, output - 1))
            requests.append(
                ReferenceRequest(
                    pause_s,
                    prompt,
                    output,
                    deadline_s=patience_s if turn else pause_s + patience_s,
                    session=session,
                    follows=number - 1 if turn else None,
                    reasoning=reasoning,
                    forgets=forgets and reasoning > 0,
                )
            )
            context = prompt + output - (reasoning if forgets else 0)
    largest = max(-(-(r.prompt + r.output - 1) // block_tokens) for r in requests)
    max_num_seqs = draw(st.integers(1, 6))
    return Case(
        tuple(requests),
        partial(speed_of, name),
        policy=draw(st.sampled_from(POLICIES)),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 60)),
        blocks=max(1, largest * draw(st.sampled_from([9, 10, 10, 11, 12, 15, 20, 40])) // 10),
        block_tokens=block_tokens,
        async_scheduling=draw(st.booleans()),
        order=Order(draw(st.sampled_from(["fcfs", "fcfs", "edf"]))),
    )


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(cases())
def test_macro_steps_equal_single_steps_with_sessions(case: Case) -> None:
    assert_same(case)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(cases(), shelves())
def test_macro_steps_equal_single_steps_with_tiers(case: Case, tiers: Shelves) -> None:
    assert_same(replace(case, shelves=tiers))


def turns(*pauses_s: float, session: int, first: int = 0) -> list[ReferenceRequest]:
    """Return a session of 20 tokens asked and 14 answered a turn."""
    return [
        ReferenceRequest(
            pause_s,
            20 + 34 * turn,
            14,
            session=session,
            follows=first + turn - 1 if turn else None,
        )
        for turn, pause_s in enumerate(pauses_s)
    ]


def test_what_is_found_shrinks_as_others_take_its_blocks() -> None:
    """33 tokens are kept of the first turn: two blocks. The other session takes one of them."""
    alone = turns(0.0, 0.301, session=0)
    other = ReferenceRequest(0.2033, 50, 1, session=1)
    for requests, found in ((alone, [0, 32]), ([*alone, other], [0, 16, 0])):
        case = Case(tuple(requests), partial(speed_of, "constant"), blocks=5)
        assert [record.found for record in reference(case)] == found
        assert [request.hit for request in engine(case).requests] == found
