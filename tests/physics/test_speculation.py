"""Steps that verify drafts: what they cost beside plain ones, from the roofline alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factory_sim.factory.build import roofline
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out
from factory_sim.physics.step_time import Chunk, Cost, StepTime
from tests.factory.small import small_scenario


def fleet_of(draft: object = None, tokens: int = 3, acceptance: float = 0.7) -> Fleet:
    engine = {}
    if draft is not None:
        speculation = {"num_speculative_tokens": tokens, "acceptance": acceptance}
        speculation |= draft if isinstance(draft, dict) else {"draft": draft}
        engine = {"speculation": speculation}
    (fleet,) = lay_out(small_scenario(engine=engine)).fleets
    return fleet


def step_s(step_time: StepTime, n: int, context: float) -> float:
    return step_time.decode(n).duration_s + context * step_time.per_context.duration_s


def test_a_step_that_verifies_reads_as_much_and_computes_more() -> None:
    plain, verifying = (roofline(fleet_of(draft), 1.0) for draft in (None, "ngram"))
    one, four = plain.decode(1), verifying.decode(1)
    assert four.busy_compute_s == pytest.approx(4 * one.busy_compute_s)
    assert one.busy_memory_s < four.busy_memory_s < 1.01 * one.busy_memory_s
    assert four.duration_s < 1.01 * one.duration_s
    assert four.drafting_s == 0.0
    # At large batches compute is the bound, and four tokens cost nearly four times one.
    many, fourfold = plain.decode(256), verifying.decode(256)
    assert fourfold.compute_s > 0.8 * 4 * many.busy_compute_s
    assert fourfold.duration_s > 1.5 * many.duration_s
    assert verifying.per_context.busy_compute_s == pytest.approx(
        4 * plain.per_context.busy_compute_s
    )
    assert verifying.per_context.busy_memory_s == pytest.approx(plain.per_context.busy_memory_s)


def test_a_step_with_chunks_counts_every_token_of_the_drafts() -> None:
    fleet = fleet_of("ngram")
    plain, verifying = roofline(fleet_of(), 1.0), roofline(fleet, 1.0)
    chunks = [Chunk(100, 60)]
    # Five sequences of four tokens are as twenty of one, but for attention and the host.
    found = verifying.mixed(5, 0.0, 0, chunks, 5)
    host_s = fleet.host.per_sequence_s * 15
    assert found.duration_s + host_s == pytest.approx(
        plain.mixed(20, 0, 0, chunks, 20).duration_s, rel=1e-12
    )
    without = verifying.mixed(0, 0.0, 0, chunks, 1)
    assert without == pytest.approx(plain.mixed(0, 0, 0, chunks, 1))


def test_drafts_cost_their_passes() -> None:
    free = roofline(fleet_of("ngram"), 1.0)
    for draft in ("eagle", {"step_time_share": 0.05}):
        with_drafts = roofline(fleet_of(draft), 1.0)
        more_s = step_s(with_drafts, 8, 5000.0) - step_s(free, 8, 5000.0)
        drafting_s = with_drafts.decode(8).drafting_s + 5000 * with_drafts.per_context.drafting_s
        assert more_s == pytest.approx(drafting_s, rel=1e-9)
        twice = roofline(fleet_of(draft, tokens=6), 1.0)
        assert twice.decode(8).drafting_s == pytest.approx(2 * with_drafts.decode(8).drafting_s)
        assert sum(with_drafts.decode(8)[1:5]) == pytest.approx(sum(free.decode(8)[1:5]))
    share = step_s(roofline(fleet_of(), 1.0), 8, 5000.0)
    assert drafting_s == pytest.approx(3 * 0.05 * share)


def test_a_draft_computes_prompts_too() -> None:
    free, drafts = (roofline(fleet_of(draft), 1.0) for draft in ("ngram", "eagle"))
    short, long = [Chunk(0, 100)], [Chunk(0, 4000)]

    def more(chunks: list[Chunk]) -> float:
        both = (t.mixed(0, 0.0, 0, chunks, 0).duration_s for t in (free, drafts))
        return -next(both) + next(both)

    assert more(long) > 5 * more(short) > 0.0


def test_what_drafts_takes_memory() -> None:
    plain, free, head = (fleet_of(draft) for draft in (None, "ngram", "eagle"))
    share = fleet_of({"step_time_share": 0.1})
    logits = 4.0 * 3 * plain.max_num_seqs * plain.model.vocab
    assert free.memory == replace(
        plain.memory, activation_bytes=plain.memory.activation_bytes + logits
    )
    # One layer of 32, with an attention of four heads a KV head, and 2 h to h in front.
    layer = 4096 * (4096 + 1024 + 1024) + 4096 * 4096 + 3 * 4096 * 14336
    more = head.memory.weight_bytes - plain.memory.weight_bytes
    assert more == pytest.approx(2.0 * (layer + 2 * 4096 * 4096))
    assert head.memory.bytes_per_token == pytest.approx(plain.memory.bytes_per_token * 33 / 32)
    assert share.memory.weight_bytes == pytest.approx(1.1 * plain.memory.weight_bytes)
    assert share.memory.bytes_per_token == pytest.approx(1.1 * plain.memory.bytes_per_token)
    assert head.longest <= free.memory.tokens + 1 - 3


def test_terms_add_up_at_any_clock() -> None:
    fleet = fleet_of("eagle")
    for clock in (1.0, 0.6):
        step_time = roofline(fleet, clock)
        for cost in (
            step_time.decode(7),
            step_time.per_context,
            step_time.mixed(7, 900.0, 0, [Chunk(0, 50)], 8),
        ):
            assert isinstance(cost, Cost)
            at_reference_s = sum(cost[1:5]) + cost.drafting_s
            if clock == 1.0:
                assert cost.duration_s == pytest.approx(at_reference_s, rel=1e-12)
            else:
                assert cost.duration_s >= at_reference_s
