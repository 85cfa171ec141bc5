"""Ranks of data-parallel attention equal the plain reference, and obey what theory says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.factory.engine.ranks import Ranks
from factory_sim.factory.replica import Speed
from tests.factory.side_by_side import Case, EngineRun, Toy, engine, reference, toy_power
from tests.factory.test_exactness import (
    ENERGY,
    SAME,
    TOYS,
    assert_same_gaps,
    assert_same_requests,
    cases,
)
from tests.reference import ReferenceRequest, ReferenceRun


@st.composite
def ranked(draw: st.DrawFn, alone: st.SearchStrategy[Case] | None = None) -> Case:
    """Draw a case of ranks. alone: the cases of one replica to take; of any policy if left out."""
    case = draw(cases(tuple(TOYS)) if alone is None else alone)
    shared = draw(st.sampled_from([0.0, 17e-5]))
    sample = draw(st.sampled_from([0.0, 7e-5]))

    def speed_at(clock: float) -> Speed:
        speed = case.speed_at(clock)
        assert isinstance(speed.step_time, Toy)
        toy = replace(speed.step_time, per_shared=shared, per_shared_sample=sample)
        return Speed(toy, speed.power)

    return replace(case, ranks=draw(st.integers(2, 4)), speed_at=speed_at)


def assert_same_sums(slow: ReferenceRun, fast: EngineRun) -> None:
    batch = fast.batch
    totals = batch.ledger.totals(batch.stretch.step_time)
    assert batch.kv.free == batch.kv.total
    assert batch.recomputed_tokens == sum(record.recomputed for record in slow)
    assert batch.input_tokens == sum(r.request.prompt for r in slow if r.emitted)
    assert totals.output_tokens == pytest.approx(sum(record.emitted for record in slow))
    busy_s = sum(step.end_s - step.start_s for step in slow.steps)
    assert totals.busy_s == pytest.approx(busy_s, rel=SAME)
    causes = (*totals[1:7], totals.rank_wait_s, totals.drafting_s)
    assert sum(causes) == pytest.approx(busy_s, rel=SAME)
    assert min(causes) >= -SAME * busy_s
    if all(step.clock == 1.0 for step in slow.steps):
        assert totals.throttled_s == pytest.approx(0.0, abs=SAME * busy_s)
    taken = sum(
        (step.end_s - step.start_s) * (len(step.decoded) + len(step.prefilled))
        for step in slow.steps
    )
    assert totals.sequence_s == pytest.approx(taken, rel=SAME)
    energy_j = sum(step.energy_j for step in slow.steps)
    assert totals.energy_j == pytest.approx(energy_j, rel=ENERGY)


@settings(deadline=None, max_examples=70, suppress_health_check=list(HealthCheck))
@given(ranked())
def test_ranks_equal_single_steps(case: Case) -> None:
    assert_same(case)


def assert_same(case: Case) -> None:
    """Hold the engine to the reference in what both tell of ranks."""
    slow, fast = reference(case), engine(case)
    assert_same_requests(slow, fast)
    assert_same_sums(slow, fast)
    assert_same_gaps(slow, fast)


def test_all_wait_for_the_rank_with_the_longest_context() -> None:
    """Two ranks of one sequence each, by hand: 1 ms a context token, 5 ms together for each."""
    toy = Toy(attend=1e-3, per_shared=5e-3)
    case = Case(
        (ReferenceRequest(0.0, 10, 3), ReferenceRequest(0.0, 100, 3)),
        lambda clock: Speed(toy, toy_power(clock)),
        max_num_batched_tokens=200,
        ranks=2,
    )
    run = engine(case)
    # The prompts' step costs 110 * 5 ms; then two steps with 101 and 102 tokens and 2 * 5 ms.
    ends = [0.55 + 0.101 + 0.102 + 2 * 0.010] * 2
    assert [run.left[number][1] for number in (0, 1)] == pytest.approx(ends)
    totals = run.batch.ledger.totals(run.batch.stretch.step_time)
    waited_s = (0.101 - 0.011 + 0.102 - 0.012) / 2  # the mean of both ranks
    links_s = 0.55 / 2 + 2 * 0.010 / 2
    assert totals.rank_wait_s == pytest.approx(waited_s)
    assert totals.network_s == pytest.approx(links_s)


def test_requests_go_to_the_rank_with_the_fewest() -> None:
    toy = Toy(compute=0.01)
    case = Case(
        tuple(ReferenceRequest(0.001 * number, 16, 50) for number in range(8)),
        lambda clock: Speed(toy, toy_power(clock)),
        max_num_seqs=2,
        ranks=4,
    )
    run = engine(case)
    # Eight slots in all, two a rank: everybody is in by the second step after the last arrival.
    assert max(request.admitted_s for request in run.requests) <= 0.021


def test_a_bound_below_the_ranks_leaves_each_a_sequence() -> None:
    """Else who is queued at a rank without a slot would wait until the bound is lifted."""
    case = Case(
        (ReferenceRequest(0.0, 16, 2),), lambda clock: Speed(Toy(), toy_power(clock)), ranks=4
    )
    ranks = engine(case).batch
    assert isinstance(ranks, Ranks)
    for bound, each in ((1, [1, 1, 1, 1]), (6, [2, 2, 1, 1]), (8, [2, 2, 2, 2])):
        ranks.max_running = bound
        assert [rank.max_running for rank in ranks.ranks] == each
