"""Replicas of disaggregated pools equal the step-by-step reference, request by request.

Those that compute prompts hold KV blocks until they are sent; those that decode take requests in
with their KV cache, preempt them and compute some of them again.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factory.side_by_side import Case
from tests.factory.test_exactness import (
    TICK_S,
    TOYS,
    assert_same,
    replica_of,
    speed_of,
    times,
)
from tests.reference import ReferenceRequest


@st.composite
def cases(draw: st.DrawFn, role: str, toys: tuple[str, ...] = tuple(TOYS)) -> Case:
    name = draw(st.sampled_from(toys))
    tick_s = TICK_S.get(name, 0.0107)
    spread = draw(st.sampled_from([10, 30, 100, 600]))
    longest_prompt = draw(st.sampled_from([8, 60, 400]))
    longest_output = draw(st.sampled_from([4, 40, 200]))
    block_tokens = draw(st.sampled_from([16, 16, 4, 1]))
    requests = []
    for _ in range(draw(st.integers(1, 6) | st.integers(8, 24))):
        arrival_s = times(draw, tick_s, spread) + 5 * tick_s
        prompt = draw(st.integers(1, longest_prompt))
        output = draw(st.integers(1, longest_output))
        patience_s = draw(st.sampled_from([math.inf, math.inf, 1.0]))
        if patience_s == 1.0:
            patience_s = times(draw, tick_s, 300) + 2 * tick_s
        made_s = sends_s = None
        if role == "prompts":
            sends_s = times(draw, tick_s, 40) + 5 * tick_s
        elif output > 1 and draw(st.integers(0, 4)):
            made_s = arrival_s - times(draw, tick_s, 4)
        requests.append(
            ReferenceRequest(
                arrival_s,
                prompt,
                output,
                draw(st.just(0) | st.integers(0, prompt - 1)),
                arrival_s + patience_s,
                made_s,
                sends_s,
                reasoning=draw(st.integers(0, output - 1)) if role == "decodes" else 0,
            )
        )
    tokens = [r.prompt + (r.output - 1) * (role == "decodes") for r in requests]
    largest = max(-(-number // block_tokens) for number in tokens)
    return replace(replica_of(draw, name, requests, block_tokens, largest), role=role)


@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(cases("decodes"))
def test_requests_that_come_with_their_kv_cache(case: Case) -> None:
    assert_same(case)


@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(cases("prompts"))
def test_requests_that_leave_with_their_first_token(case: Case) -> None:
    assert_same(case)


def test_who_gives_up_in_the_instant_in_which_another_comes_leaves_in_it() -> None:
    """The blocks that the third has sent come back at 0.44 s; the fourth waits for them."""
    at_once = partial(ReferenceRequest, prompt=1, sends_s=0.05)
    case = Case(
        (
            at_once(0.05, output=2, sends_s=0.38),
            at_once(0.42, output=1, deadline_s=0.44),
            at_once(0.44 - 4e-10, output=1),
        ),
        partial(speed_of, "constant"),
        max_num_seqs=1,
        max_num_batched_tokens=1,
        blocks=1,
        role="prompts",
    )
    assert_same(case)
