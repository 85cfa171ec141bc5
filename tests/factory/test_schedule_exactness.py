"""Every order of the queue, and preemption by swapping, equals the step-by-step reference."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factory.side_by_side import Case
from tests.factory.test_exactness import TICK_S, TOYS, assert_same, replica_of, times
from tests.reference import Order, ReferenceRequest


@st.composite
def orders(draw: st.DrawFn) -> Order:
    policy = draw(st.sampled_from(["fcfs", "priority", "fair", "fair", "edf"]))
    rate = draw(st.none() | st.sampled_from([100.0, 1000.0, 7000.0])) if policy == "edf" else None
    weights = draw(st.sampled_from([(1, 2), (1, 1), (3, 5)]))
    return Order(policy, rate, weights)


@st.composite
def cases(draw: st.DrawFn, hashed: bool = False, toys: tuple[str, ...] = tuple(TOYS)) -> Case:
    name = draw(st.sampled_from(toys))
    tick_s = TICK_S.get(name, 0.0107)
    spread = draw(st.sampled_from([10, 30, 100, 600]))
    longest_prompt = draw(st.sampled_from([8, 60, 400]))
    longest_output = draw(st.sampled_from([4, 40, 200]))
    block_tokens = draw(st.sampled_from([16, 16, 4, 1]))
    tenants = draw(st.integers(1, 4))
    requests = []
    for _ in range(draw(st.integers(1, 6) | st.integers(8, 24))):
        arrival_s = times(draw, tick_s, spread) + 5 * tick_s
        prompt = draw(st.integers(1, longest_prompt))
        patience_s = draw(st.sampled_from([math.inf, math.inf, 0.0, 1.0]))
        if patience_s == 1.0:
            patience_s = times(draw, tick_s, 300) + 2 * tick_s
        promise_s = draw(st.sampled_from([math.inf, 5.0, 30.0, 100.0])) * tick_s
        hashes = ()
        if hashed:
            most = prompt // (2 * block_tokens)
            hashes = tuple(draw(st.integers(0, 1)) * 100 + i for i in range(most))
        output = draw(st.integers(1, longest_output))
        requests.append(
            ReferenceRequest(
                arrival_s,
                prompt,
                output,
                0 if hashed else draw(st.just(0) | st.integers(0, prompt - 1)),
                arrival_s + patience_s,
                hashes=prefix_of(hashes),
                hash_blocks=2,
                priority=draw(st.integers(0, 2)),
                tenant=draw(st.integers(0, tenants - 1)),
                promised_s=arrival_s + promise_s,
                reasoning=draw(st.just(0) | st.integers(0, output - 1)),
            )
        )
    largest = max(-(-(r.prompt + r.output - 1) // block_tokens) for r in requests)
    case = replica_of(draw, name, requests, block_tokens, largest)
    case = replace(case, order=draw(orders()), max_queue=draw(st.none() | st.integers(1, 4)))
    if not hashed:
        host_blocks = draw(st.sampled_from([0, largest // 2, largest, 5 * largest]))
        case = replace(case, host_blocks=host_blocks, move_s=draw(st.sampled_from([tick_s, 1e-4])))
    return case


@st.composite
def tight_cases(draw: st.DrawFn) -> Case:
    """Many short prompts and a few long ones, long answers, little memory: heads that do not fit
    while others would, and victims that leave more room than they were asked for."""
    name = draw(st.sampled_from(["linear", "steep", "binary"]))
    tick_s = TICK_S.get(name, 0.0107)
    requests = []
    for _ in range(draw(st.integers(6, 24))):
        arrival_s = times(draw, tick_s, draw(st.sampled_from([5, 60])))
        prompt = draw(st.integers(1, 6) | st.integers(1, 90))
        requests.append(
            ReferenceRequest(
                arrival_s,
                prompt,
                draw(st.integers(1, 150)),
                priority=draw(st.integers(0, 3)),
                tenant=draw(st.integers(0, 3)),
                promised_s=arrival_s + tick_s * draw(st.sampled_from([10, 100, 500, math.inf])),
            )
        )
    largest = max(r.prompt + r.output - 1 for r in requests)
    case = replica_of(draw, name, requests, 1, largest)
    return replace(
        case,
        order=draw(orders()),
        policy=draw(st.sampled_from(["chunked", "continuous"])),
        max_num_seqs=10,
        max_num_batched_tokens=64,
        blocks=largest * draw(st.sampled_from([10, 11, 13, 16])) // 10,
        host_blocks=draw(st.sampled_from([0, largest // 2, 2 * largest])),
        move_s=1e-4,
    )


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(tight_cases())
def test_every_order_where_memory_is_short(case: Case) -> None:
    assert_same(case)


def prefix_of(hashes: tuple[int, ...]) -> tuple[int, ...]:
    """Each hash says what came before it."""
    return tuple(hash(hashes[: i + 1]) for i in range(len(hashes)))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(cases())
def test_every_order_and_swapping(case: Case) -> None:
    assert_same(case)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(cases(hashed=True))
def test_every_order_with_a_prefix_cache(case: Case) -> None:
    assert_same(case)
