"""Speculative decoding by macro-steps equals the step-by-step reference, request by request."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.factory.build import roofline
from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.layout import lay_out
from factory_sim.factory.replica import Speed
from tests.factory.side_by_side import Case, engine, reference
from tests.factory.small import small_scenario
from tests.factory.test_exactness import (
    SAME,
    assert_same_blame,
    assert_same_gaps,
    assert_same_looks,
    assert_same_requests,
    assert_same_sums,
    cases,
)


@st.composite
def drafted(draw: st.DrawFn) -> Case:
    """Draw a case of any policy, and how its answers are drafted."""
    case = draw(cases())
    block_tokens = draw(st.sampled_from([16, 16, 8, 4]))
    tokens = draw(st.integers(1, min(7, block_tokens - 1)))
    drafts = Drafts(
        tokens,
        draw(st.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0])),
        0.0,
        draw(st.integers(0, 99)),
    )
    if draw(st.booleans()):
        drafts = Drafts(tokens, 0.6, 0.2, 7)
    most = max(r.prompt + r.output - 1 + tokens for r in case.requests)
    return replace(
        case,
        drafts=drafts,
        block_tokens=block_tokens,
        blocks=max(1, -(-most // block_tokens) * draw(st.sampled_from([9, 10, 12, 20, 40])) // 10),
        max_num_batched_tokens=case.max_num_seqs * (1 + tokens) + draw(st.integers(0, 60)),
    )


REAL = {"llama-3.1-8b": "eagle", "gpt-oss-20b": "ngram"}
"""Models, one of them with windows of 128 tokens, and who drafts three tokens for them."""


@cache
def real_speed(model: str, clock: float) -> Speed:
    """Return an H100's with a model of `REAL`."""
    speculation = {"num_speculative_tokens": 3, "acceptance": 0.7, "draft": REAL[model]}
    base = small_scenario(engine={"speculation": speculation})
    (spec,) = base.deployments.values()
    deployments = {"d": spec.model_copy(update={"model": model})}
    (fleet,) = lay_out(base.model_copy(update={"deployments": deployments})).fleets
    return Speed(roofline(fleet, clock), fleet.power.at(clock))


@settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(drafted())
def test_macro_steps_with_drafts_equal_single_steps(case: Case) -> None:
    assert_same(case)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(drafted(), st.sampled_from(list(REAL)))
def test_the_same_of_real_models(case: Case, model: str) -> None:
    assert case.drafts is not None
    tokens = case.max_num_seqs * 4 + 60
    drafts = Drafts(3, 0.7, 0.1, case.drafts.tokens)
    blocks = case.blocks + 1  # three tokens drafted, where it may have been one
    assert_same(
        replace(
            case,
            speed_at=partial(real_speed, model),
            drafts=drafts,
            blocks=blocks,
            max_num_batched_tokens=tokens,
        )
    )


def assert_same(case: Case) -> None:
    """Hold the engine to the reference in everything."""
    slow, fast = reference(case), engine(case)
    assert_same_requests(slow, fast)
    assert_same_sums(slow, fast)
    assert_same_blame(slow, fast, case)
    assert_same_gaps(slow, fast)
    # Who leaves early has the last of its tokens whole, where the reference's steps have a part.
    left_early = sum(record.preemptions + (record.outcome != "completed") for record in slow)
    assert case.drafts is not None
    assert_same_looks(slow, fast, case.looks_s, 1 + case.drafts.tokens + left_early)
    totals = fast.batch.ledger.totals(fast.batch.stretch.step_time)
    verified = sum(len(step.decoded) for step in slow.steps)
    assert totals.verified == pytest.approx(verified, rel=SAME)
    sampled = sum(step.sampled for step in slow.steps)
    made = sum(record.emitted - (record.request.made_s is not None) for record in slow)
    assert totals.accepted == pytest.approx(made - sampled, rel=SAME, abs=1e-6)
