"""The reference replica against logs computed by hand, and its conservation laws.

Unless a test says otherwise a step takes exactly one second, so that the logs can be followed
with a finger; times and energies are sums of binary fractions and compared exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import (
    Chunk,
    ReferenceRecord,
    ReferenceRequest,
    ReferenceRun,
    run_reference,
)


@dataclass(frozen=True)
class Linear:
    """A step time and power with a weight for everything the replica may count wrongly."""

    base: float = 1.0
    per_decode: float = 0.0
    per_context: float = 0.0
    per_start: float = 0.0
    per_prompt: float = 0.0
    per_sample: float = 0.0
    watts: float = 0.0

    def step_s(self, contexts: Sequence[int], chunks: Sequence[Chunk], sampled: int) -> float:
        return (
            self.base
            + self.per_decode * len(contexts)
            + self.per_context * sum(contexts)
            + self.per_start * sum(start for start, _ in chunks)
            + self.per_prompt * sum(length for _, length in chunks)
            + self.per_sample * sampled
        )

    def step_power_w(self, contexts: Sequence[int], chunks: Sequence[Chunk], sampled: int) -> float:
        return self.watts + 10 * len(contexts) + sum(length for _, length in chunks)


def serve(*requests: ReferenceRequest, **options: Any) -> ReferenceRun:
    settings: dict[str, Any] = {
        "policy": "chunked",
        "max_num_seqs": 4,
        "max_num_batched_tokens": 8,
        "blocks": 100,
        "block_tokens": 4,
        "physics_by_clock": {1.0: Linear()},
        "clock_changes": [(0.0, 1.0)],
    }
    return run_reference(requests, **(settings | options))


def ask(
    arrival_s: float, prompt: int, output: int, cached: int = 0, deadline_s: float = math.inf
) -> ReferenceRequest:
    return ReferenceRequest(arrival_s, prompt, output, cached, deadline_s)


def log(run: ReferenceRun) -> list[tuple[float, list[int], list[tuple[int, int, int]], int]]:
    """Return (start, decoded, [(request, start, length) of each chunk], blocks) per step."""
    return [
        (
            step.start_s,
            list(step.decoded),
            [(index, *chunk) for index, chunk in zip(step.prefilled, step.chunks, strict=True)],
            step.blocks_in_use,
        )
        for step in run.steps
    ]


def emissions(run: ReferenceRun) -> list[list[float]]:
    return [record.emissions_s for record in run]


def fates(run: ReferenceRun) -> list[tuple[str, float | None, float | None]]:
    return [(record.outcome, record.admitted_s, record.left_s) for record in run]


def test_one_request_from_prompt_to_last_token() -> None:
    run = serve(ask(5.0, prompt=3, output=3), block_tokens=2)
    assert log(run) == [
        (5.0, [], [(0, 0, 3)], 2),
        (6.0, [0], [], 2),
        (7.0, [0], [], 3),  # the 5th KV token opens the third block of two
    ]
    assert [step.context for step in run.steps] == [0, 4, 5]
    assert run == [
        ReferenceRecord(
            request=ask(5.0, 3, 3),
            outcome="completed",
            admitted_s=5.0,
            left_s=8.0,
            emissions_s=[6.0, 7.0, 8.0],
        )
    ]
    assert run[0].first_token_s == 6.0
    assert run[0].completed_s == 8.0
    assert run[0].gaps_s == [1.0, 1.0]


def test_step_time_and_energy_see_the_right_counts() -> None:
    physics = Linear(
        base=1.0,
        per_decode=0.5,
        per_context=0.125,
        per_start=0.0625,
        per_prompt=0.25,
        per_sample=0.03125,
        watts=100.0,
    )
    run = serve(
        ask(0.0, prompt=4, output=3),
        ask(1.0, prompt=6, output=2, cached=4),
        max_num_batched_tokens=4,
        block_tokens=2,
        physics_by_clock={1.0: physics},
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 4)], 2),  # 1 + 4/4 + 1/32
        (2.03125, [0], [(1, 4, 2)], 6),  # 1 + 1/2 + 5/8 + 4/16 + 2/4 + 2/32
        (4.96875, [0, 1], [], 7),  # 1 + 2/2 + (6 + 7)/8 + 2/32
    ]
    assert [(s.context, s.sampled, s.tokens) for s in run.steps] == [
        (0, 1, 4),
        (5, 2, 3),
        (13, 2, 2),
    ]
    assert [step.energy_j for step in run.steps] == [104 * 2.03125, 112 * 2.9375, 120 * 3.6875]
    assert emissions(run) == [[2.03125, 4.96875, 8.65625], [4.96875, 8.65625]]


def test_chunked_fills_the_budget_decodes_first_then_running_prompts_then_new_ones() -> None:
    run = serve(
        ask(0.0, prompt=2, output=4),
        ask(0.0, prompt=7, output=2),
        ask(0.0, prompt=3, output=1),
        max_num_batched_tokens=4,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2), (1, 0, 2)], 3),
        (1.0, [0], [(1, 2, 3)], 3),
        (2.0, [0], [(1, 5, 2), (2, 0, 1)], 4),
        (3.0, [0, 1], [(2, 1, 2)], 5),
    ]
    assert [step.sampled for step in run.steps] == [1, 1, 2, 3]  # an unfinished prompt has no token
    assert emissions(run) == [[1.0, 2.0, 3.0, 4.0], [3.0, 4.0], [4.0]]
    assert fates(run) == [
        ("completed", 0.0, 4.0),
        ("completed", 0.0, 4.0),
        ("completed", 2.0, 4.0),
    ]


def test_continuous_prefills_whole_prompts_while_decodes_wait() -> None:
    run = serve(
        ask(0.0, prompt=2, output=4),
        ask(0.0, prompt=2, output=2),
        ask(0.0, prompt=1, output=1),
        ask(2.5, prompt=9, output=1),
        ask(2.5, prompt=1, output=1),
        policy="continuous",
        max_num_batched_tokens=4,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2), (1, 0, 2)], 2),
        (1.0, [], [(2, 0, 1)], 3),  # would have been the fifth token of the first step
        (2.0, [0, 1], [], 2),
        (3.0, [], [(3, 0, 9)], 4),  # larger than the budget, hence alone
        (4.0, [], [(4, 0, 1)], 2),
        (5.0, [0], [], 1),
        (6.0, [0], [], 2),
    ]
    assert emissions(run) == [[1.0, 3.0, 6.0, 7.0], [1.0, 3.0], [2.0], [4.0], [5.0]]
    assert run[0].gaps_s == [2.0, 3.0, 1.0]


def test_continuous_counts_only_uncached_tokens_against_the_budget() -> None:
    run = serve(
        ask(0.0, prompt=10, output=1, cached=8),
        ask(0.0, prompt=6, output=1, cached=4),
        policy="continuous",
        max_num_batched_tokens=4,
    )
    assert log(run) == [(0.0, [], [(0, 8, 2), (1, 4, 2)], 5)]


def test_static_admits_the_next_batch_when_the_last_has_left() -> None:
    run = serve(
        ask(0.0, prompt=2, output=1),
        ask(0.0, prompt=3, output=3),
        ask(0.0, prompt=2, output=1),
        policy="static",
        max_num_seqs=2,
        max_num_batched_tokens=2,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2), (1, 0, 3)], 2),
        (1.0, [1], [], 1),
        (2.0, [1], [], 2),
        (3.0, [], [(2, 0, 2)], 1),
    ]
    assert emissions(run) == [[1.0], [1.0, 2.0, 3.0], [4.0]]


@pytest.mark.parametrize(
    ("prompt", "cached", "block_tokens", "chunk"),
    [
        (5, 4, 2, (4, 1)),
        (5, 3, 2, (2, 3)),
        (4, 3, 2, (2, 2)),
        (1, 0, 2, (0, 1)),
        (17, 16, 16, (16, 1)),
        (17, 15, 16, (0, 17)),
    ],
)
def test_only_whole_blocks_of_a_prefix_are_cached(
    prompt: int, cached: int, block_tokens: int, chunk: Chunk
) -> None:
    run = serve(
        ask(0.0, prompt, output=1, cached=cached),
        block_tokens=block_tokens,
        max_num_batched_tokens=32,
    )
    assert [step.chunks for step in run.steps] == [(chunk,)]


@pytest.mark.parametrize("policy", ["chunked", "continuous", "static"])
def test_an_idle_replica_starts_at_the_arrival(policy: str) -> None:
    run = serve(ask(0.25, 1, 1), ask(10.5, 1, 1), policy=policy)
    assert [(step.start_s, step.end_s) for step in run.steps] == [(0.25, 1.25), (10.5, 11.5)]


def test_arrivals_wait_for_the_end_of_the_step_and_join_in_order_of_arrival() -> None:
    run = serve(
        ask(1.0 + 3e-9, 1, 1),
        ask(1.0 + 1e-9, 1, 1),  # the same time as the boundary at 1
        ask(0.5, 1, 1),
        ask(0.0, 1, 2),
    )
    assert [(step.start_s, step.decoded, step.prefilled) for step in run.steps] == [
        (0.0, (), (3,)),
        (1.0, (3,), (2, 1)),
        (2.0, (), (0,)),
    ]


def test_planned_ahead_a_step_knows_the_queue_of_the_start_of_the_one_before() -> None:
    run = serve(
        ask(0.0, 1, 6),
        ask(1.0 + 1e-9, 1, 1),  # as the step at 1 starts
        ask(1.0 + 3e-9, 1, 1),  # in it
        ask(5.5, 1, 1),  # in the last step of all: it finds an idle engine
        async_scheduling=True,
    )
    assert [(s.start_s, s.decoded, s.prefilled, s.waiting, s.known) for s in run.steps] == [
        (0.0, (), (0,), 0, 0),
        (1.0, (0,), (), 1, 0),
        (2.0, (0,), (1,), 1, 0),
        (3.0, (0,), (2,), 0, 0),
        (4.0, (0,), (), 0, 0),
        (5.0, (0,), (), 0, 0),
        (6.0, (), (3,), 0, 0),
    ]


def test_the_oldest_running_survive_and_the_last_starts_over() -> None:
    run = serve(
        ask(0.0, prompt=2, output=5),
        ask(0.0, prompt=2, output=4),
        blocks=4,
        block_tokens=2,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2), (1, 0, 2)], 2),
        (1.0, [0, 1], [], 4),
        (2.0, [0, 1], [], 4),
        (3.0, [0], [], 3),  # both need a third block: request 1 is preempted
        (4.0, [0], [], 3),
        (5.0, [], [(1, 0, 5)], 3),  # its prompt and the three tokens it had
    ]
    assert emissions(run) == [[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 6.0]]
    assert [(r.preemptions, r.recomputed, r.admitted_s) for r in run] == [(0, 0, 0.0), (1, 4, 0.0)]
    assert run[1].gaps_s == [1.0, 1.0, 3.0]


def test_a_preempted_request_keeps_its_cached_prefix() -> None:
    run = serve(
        ask(0.0, prompt=2, output=5),
        ask(0.0, prompt=3, output=4, cached=2),
        blocks=5,
        block_tokens=2,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2), (1, 2, 1)], 3),
        (1.0, [0, 1], [], 4),
        (2.0, [0, 1], [], 5),
        (3.0, [0], [], 3),
        (4.0, [0], [], 3),
        (5.0, [], [(1, 2, 4)], 3),
    ]
    assert (run[1].preemptions, run[1].recomputed) == (1, 3)


def test_a_request_preempted_in_its_prefill_restarts_it() -> None:
    run = serve(
        ask(0.0, prompt=2, output=4),
        ask(0.0, prompt=6, output=1),
        max_num_seqs=3,
        max_num_batched_tokens=3,
        blocks=5,
        block_tokens=2,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2), (1, 0, 1)], 4),
        (1.0, [0], [(1, 1, 2)], 5),
        (2.0, [0], [(1, 3, 2)], 5),
        (3.0, [0], [], 3),
        (4.0, [], [(1, 0, 3)], 3),
        (5.0, [], [(1, 3, 3)], 3),
    ]
    assert fates(run) == [("completed", 0.0, 4.0), ("completed", 0.0, 6.0)]
    assert (run[1].preemptions, run[1].recomputed, run[1].emissions_s) == (1, 5, [6.0])


def test_victims_keep_their_order_and_nobody_overtakes_the_head() -> None:
    run = serve(
        ask(0.0, prompt=1, output=4),
        ask(0.0, prompt=1, output=2),
        ask(0.0, prompt=1, output=2),
        ask(0.0, prompt=1, output=2),
        ask(0.0, prompt=1, output=1),
        max_num_seqs=5,
        blocks=4,
        block_tokens=1,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1)], 4),
        (1.0, [0, 1], [], 4),  # 3, then 2, make room
        (2.0, [0], [], 3),  # one block is free; 2 needs two, and 4 stays behind it
        (3.0, [0], [], 4),
        (4.0, [], [(2, 0, 2), (3, 0, 2)], 4),
        (5.0, [], [(4, 0, 1)], 1),
    ]
    assert emissions(run) == [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0], [1.0, 5.0], [1.0, 5.0], [6.0]]


def test_continuous_decodes_the_rest_when_one_is_preempted() -> None:
    run = serve(
        ask(0.0, prompt=2, output=5),
        ask(0.0, prompt=2, output=4),
        policy="continuous",
        blocks=4,
        block_tokens=2,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2), (1, 0, 2)], 2),
        (1.0, [0, 1], [], 4),
        (2.0, [0, 1], [], 4),
        (3.0, [0], [], 3),
        (4.0, [0], [], 3),
        (5.0, [], [(1, 0, 5)], 3),
    ]


def test_static_sends_the_preempted_to_the_next_batch() -> None:
    run = serve(
        ask(0.0, prompt=1, output=3),
        ask(0.0, prompt=1, output=2),
        ask(0.5, prompt=1, output=1),
        policy="static",
        blocks=3,
        block_tokens=1,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 1), (1, 0, 1)], 2),
        (1.0, [0], [], 2),
        (2.0, [0], [], 3),
        (3.0, [], [(1, 0, 2), (2, 0, 1)], 3),
    ]
    assert emissions(run) == [[1.0, 2.0, 3.0], [1.0, 4.0], [4.0]]


def test_a_timeout_frees_blocks_at_the_end_of_the_step() -> None:
    run = serve(
        ask(0.0, prompt=6, output=1, deadline_s=1.5),
        ask(0.0, prompt=2, output=1),
        ask(0.0, prompt=4, output=1),
        ask(0.0, prompt=1, output=1, deadline_s=0.5),
        max_num_seqs=2,
        max_num_batched_tokens=2,
        blocks=4,
        block_tokens=2,
    )
    assert log(run) == [
        (0.0, [], [(0, 0, 2)], 3),
        (1.0, [], [(0, 2, 2)], 3),
        (2.0, [], [(1, 0, 2)], 1),
        (3.0, [], [(2, 0, 2)], 2),
        (4.0, [], [(2, 2, 2)], 2),
    ]
    assert fates(run) == [
        ("timed_out", 0.0, 2.0),
        ("completed", 2.0, 3.0),
        ("completed", 3.0, 5.0),
        ("timed_out", None, 1.0),
    ]


def test_at_one_time_completion_comes_before_control_and_control_before_arrival() -> None:
    run = serve(
        ask(0.0, prompt=1, output=1, deadline_s=1.0),
        ask(0.0, prompt=1, output=2, deadline_s=1.0),
        ask(1.0, prompt=1, output=1, deadline_s=1.0),  # joins after the timeouts at 1
        ask(1.5, prompt=1, output=2, deadline_s=1.75),
        physics_by_clock={1.0: Linear(), 0.5: Linear(base=2.0)},
        clock_changes=[(0.0, 1.0), (1.0, 0.5), (3.0, 1.0)],
    )
    assert fates(run) == [
        ("completed", 0.0, 1.0),
        ("timed_out", 0.0, 1.0),
        ("completed", 1.0, 3.0),
        ("timed_out", None, 3.0),  # it was here when its deadline passed
    ]
    assert emissions(run) == [[1.0], [1.0], [3.0], []]


def test_a_clock_change_waits_for_the_end_of_the_step() -> None:
    run = serve(
        ask(0.0, prompt=1, output=5),
        ask(10.0, prompt=1, output=1),
        physics_by_clock={1.0: Linear(watts=100.0), 0.5: Linear(base=2.0, watts=40.0)},
        clock_changes=[
            (0.0, 1.0),
            (0.5, 0.5),
            (3.0 + 1e-9, 1.0),
            (4.2, 0.5),
            (4.4, 1.0),
            (8.0, 0.5),
        ],
    )
    assert [(step.start_s, step.clock, step.energy_j) for step in run.steps] == [
        (0.0, 1.0, 101.0),
        (1.0, 0.5, 100.0),
        (3.0, 1.0, 110.0),
        (4.0, 1.0, 110.0),
        (5.0, 1.0, 110.0),
        (10.0, 0.5, 82.0),
    ]
    assert emissions(run) == [[1.0, 3.0, 4.0, 5.0, 6.0], [12.0]]


def test_a_full_queue_and_an_impossible_request_are_rejected() -> None:
    run = serve(
        ask(0.0, prompt=3, output=3),  # 5 KV tokens, 3 blocks: never fits
        ask(0.0, prompt=3, output=2),  # 4 KV tokens, 2 blocks: just fits
        ask(0.0, prompt=1, output=1),
        ask(1.25, prompt=1, output=1),
        ask(1.75, prompt=1, output=1),
        max_num_seqs=1,
        blocks=2,
        block_tokens=2,
        max_queue=1,
    )
    assert fates(run) == [
        ("rejected", None, 0.0),
        ("completed", 0.0, 2.0),
        ("rejected", None, 0.0),
        ("completed", 2.0, 3.0),
        ("rejected", None, 1.75),
    ]


def test_nothing_asked_nothing_done() -> None:
    run = serve()
    assert run == []
    assert run.steps == []


requests = st.builds(
    lambda arrival, prompt, output, cached, patience: ReferenceRequest(
        arrival / 4, prompt, output, min(cached, prompt - 1), (arrival + patience) / 4
    ),
    arrival=st.integers(0, 80),
    prompt=st.integers(1, 12),
    output=st.integers(1, 12),
    cached=st.integers(0, 12),
    patience=st.integers(1, 200) | st.just(math.inf),
)


@given(
    asked=st.lists(requests, min_size=1, max_size=12),
    policy=st.sampled_from(["chunked", "continuous", "static"]),
    max_num_seqs=st.integers(1, 5),
    extra_budget=st.integers(0, 10),
    blocks=st.integers(2, 16),
    block_tokens=st.sampled_from([1, 2, 4]),
    max_queue=st.none() | st.integers(1, 4),
    async_scheduling=st.booleans(),
)
def test_requests_tokens_and_time_are_conserved(
    asked: list[ReferenceRequest],
    policy: str,
    max_num_seqs: int,
    extra_budget: int,
    blocks: int,
    block_tokens: int,
    max_queue: int | None,
    async_scheduling: bool,
) -> None:
    run = serve(
        *asked,
        policy=policy,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + extra_budget,
        blocks=blocks,
        block_tokens=block_tokens,
        max_queue=max_queue,
        async_scheduling=async_scheduling,
        physics_by_clock={1.0: Linear(base=0.5, per_context=0.125, per_prompt=0.0625)},
    )
    assert [record.request for record in run] == asked
    for record in run:
        need = math.ceil((record.request.prompt + record.request.output - 1) / block_tokens)
        assert record.left_s is not None and record.left_s >= record.request.arrival_s
        if record.outcome == "completed":
            assert record.emitted == record.request.output
            assert record.emissions_s[-1] == record.left_s
        elif record.outcome == "timed_out":
            assert record.emitted < record.request.output
            assert record.left_s >= record.request.deadline_s
        else:
            assert record.outcome == "rejected"
            assert need > blocks or max_queue is not None
            assert (record.emitted, record.admitted_s) == (0, None)
        assert record.emissions_s == sorted(set(record.emissions_s))
        assert (record.recomputed == 0) or record.preemptions
    assert sum(record.emitted for record in run) == sum(step.sampled for step in run.steps)
    for step, following in zip(run.steps, run.steps[1:], strict=False):
        assert step.end_s <= following.start_s
    for step in run.steps:
        assert 0 < step.running <= max_num_seqs
        assert 0 < step.blocks_in_use <= blocks
        assert set(step.decoded).isdisjoint(step.prefilled)
        if policy == "chunked":
            assert step.tokens <= max_num_seqs + extra_budget
        else:
            assert not step.decoded or not step.prefilled


def test_drafts_take_a_sequence_forward_evenly() -> None:
    """Five tokens after the first in three steps: at 5/3, 10/3 and 5, and out when rounded up."""
    asked = []

    def draw(index: int, made: int, left: int) -> int:
        asked.append((index, made, left))
        return 3

    per_context = {1.0: Linear(per_context=1.0)}
    run = serve(
        ask(0.0, 3, 6), max_num_seqs=1, drafts=2, draw_steps=draw, physics_by_clock=per_context
    )
    assert asked == [(0, 1, 5)]
    # A token of a step sees the context before it, and of the three the mean one two more.
    starts = [5.0, 5.0 + 5 / 3, 5.0 + 10 / 3]
    assert [step.context for step in run.steps] == pytest.approx([0.0, *starts])
    assert [step.sampled for step in run.steps] == [1, 1, 1, 1]
    # Three tokens of prompt, then room for three more of each step, kept.
    assert [step.blocks_in_use for step in run.steps] == [1, 2, 2, 3]
    ends = [step.end_s for step in run.steps]
    (record,) = run
    assert record.emissions_s == [ends[0], ends[1], ends[1], ends[2], ends[2], ends[3]]
    assert record.gaps_s == [b - a for a, b in itertools.pairwise(ends)]
