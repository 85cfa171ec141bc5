"""Orders of a replica's queue and swapping: who goes first, who is preempted, what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.engine.scheduling.fair import Fair
from factory_sim.factory.replica import Speed
from tests.factory.side_by_side import Case, Toy, engine, reference, toy_power
from tests.reference import Order, ReferenceRequest, ReferenceRun


def steady(clock: float) -> Speed:
    """A tenth of a second a step, whatever is in it."""
    return Speed(Toy(compute=0.1, clock=clock), toy_power(clock))


def admitted(case: Case) -> list[int]:
    """Return the numbers of the requests in the order in which the engine let them in."""
    requests = [r for r in engine(case).requests if not math.isnan(r.admitted_s)]
    return [r.number for r in sorted(requests, key=lambda r: (r.admitted_s, r.first_token_s))]


def one_slot(*requests: ReferenceRequest, order: Order) -> Case:
    return Case(requests, steady, max_num_seqs=1, order=order)


def test_the_lowest_priority_number_goes_first_then_who_came_first() -> None:
    asked = [(0.0, 5), (0.01, 2), (0.02, 1), (0.03, 2), (0.04, 1)]
    requests = [ReferenceRequest(t, 4, 3, priority=p) for t, p in asked]
    assert admitted(one_slot(*requests, order=Order("priority"))) == [0, 2, 4, 1, 3]
    assert admitted(one_slot(*requests, order=Order())) == [0, 1, 2, 3, 4]


def test_the_earliest_deadline_goes_first_and_who_has_none_last() -> None:
    promised = [math.inf, math.inf, 9.0, 2.0, 5.0]
    requests = [ReferenceRequest(i / 100, 4, 3, promised_s=s) for i, s in enumerate(promised)]
    assert admitted(one_slot(*requests, order=Order("edf"))) == [0, 3, 4, 2, 1]


def test_tenants_take_turns_by_tokens() -> None:
    # A request of tenant 0 counts 4 + 2 x 3 = 10, one of tenant 1 three times as much. Tenant 1 is
    # lifted to what 0 has when it comes, 6 of its first 10: so 6 goes before 10, then 10, 20 and 30
    # before 36, then 36 before 40.
    small = [ReferenceRequest(i / 1000, 4, 3, tenant=0) for i in range(5)]
    large = [ReferenceRequest(0.01 + i / 1000, 12, 9, tenant=1) for i in range(2)]
    case = one_slot(*small, *large, order=Order("fair"))
    assert admitted(case) == [0, 5, 1, 2, 3, 6, 4]


def test_the_victim_is_of_the_lowest_priority_and_not_the_last() -> None:
    # Both fill memory at their fourth token; the first has the higher number.
    requests = (ReferenceRequest(0.0, 4, 8, priority=7), ReferenceRequest(0.05, 4, 8, priority=0))
    case = Case(requests, steady, blocks=4, block_tokens=4, order=Order("priority"))
    assert [r.preemptions for r in engine(case).requests] == [1, 0]
    plain = replace(case, order=Order())
    assert [r.preemptions for r in engine(plain).requests] == [0, 1]


def test_a_waiting_request_interrupts_nobody() -> None:
    requests = (ReferenceRequest(0.0, 4, 50, priority=9), ReferenceRequest(0.05, 4, 2, priority=0))
    run = engine(one_slot(*requests, order=Order("priority")))
    assert run.requests[0].preemptions == 0
    assert run.requests[1].admitted_s == pytest.approx(5.0)


# Swapping.

SWAPS = Case(
    (ReferenceRequest(0.0, 4, 8), ReferenceRequest(0.05, 4, 8)),
    steady,
    blocks=4,
    block_tokens=4,
    host_blocks=10,
    move_s=0.01,
)


def test_a_move_delays_its_step_and_nothing_is_computed_again() -> None:
    run = engine(SWAPS)
    first, second = run.requests
    assert (second.preemptions, run.batch.recomputed_tokens) == (1, 0)
    # The second has 7 tokens or 8 in two blocks, which go out before a step and back before one.
    assert run.batch.moved_blocks == 4
    assert first.last_token_s == pytest.approx(8 * 0.1 + 2 * 0.01)
    busy_s = run.batch.ledger.totals(run.batch.stretch.step_time).busy_s
    tokens = sum(len(step.decoded) for step in reference(SWAPS).steps)
    assert tokens == 14  # each token after the first is decoded once
    assert busy_s == pytest.approx(0.1 * len(reference(SWAPS).steps) + 4 * 0.01)


def test_a_victim_with_drafts_goes_on_where_it_was() -> None:
    """Three drafts a step, all right: four tokens. Blocks taken for drafts ahead hold nothing."""
    requests = tuple(ReferenceRequest(0.1 * number, 4, 33) for number in range(2))
    case = replace(SWAPS, requests=requests, blocks=11, drafts=Drafts(3, 1.0, 0.0, 1))
    run = engine(case)
    first, second = run.requests
    assert (first.preemptions, second.preemptions, run.batch.recomputed_tokens) == (0, 1, 0)
    # For its sixth step the first needs seven blocks, for its fifth the second six, two too many.
    # That one has stored 4 + 4 * 4 tokens, in five, which go out and come back.
    assert run.batch.moved_blocks == 2 * 5
    totals = run.batch.ledger.totals(run.batch.stretch.step_time)
    assert totals.verified == 8 + 8  # no step of either was taken twice
    assert totals.network_s + totals.kv_full_s == pytest.approx(10 * 0.01 + 0.1 * waited(case))


def waited(case: Case) -> int:
    """Return the decode steps run while somebody waited for KV blocks."""
    steps = reference(case).steps
    return sum(1 for step in steps if not step.prefilled and step.known)


def test_a_move_is_booked_as_communication() -> None:
    free, slow = (engine(replace(SWAPS, move_s=s)) for s in (0.0, 0.01))
    booked = [run.batch.ledger.totals(run.batch.stretch.step_time) for run in (free, slow)]
    moved_s = sum(booked[1][1:7]) - sum(booked[0][1:7])
    assert moved_s == pytest.approx(4 * 0.01)
    assert booked[1].network_s + booked[1].kv_full_s > booked[0].network_s + booked[0].kv_full_s


@pytest.mark.parametrize("room", [0, 1])
def test_without_room_in_host_memory_it_is_computed_again(room: int) -> None:
    run = engine(replace(SWAPS, host_blocks=room))
    assert run.batch.moved_blocks == 0
    assert run.batch.recomputed_tokens > 0
    assert run.requests[1].preemptions == 1


def test_a_client_that_gives_up_frees_host_memory() -> None:
    asked = SWAPS.requests[1]
    case = replace(SWAPS, requests=(SWAPS.requests[0], replace(asked, deadline_s=0.6)))
    run = engine(case)
    assert run.left[1] == ("timed_out", pytest.approx(0.62))
    assert run.batch.host.free == run.batch.host.total  # type: ignore[attr-defined]


# Fair shares: the bound of Sheng et al. (2024, section 4.2): while two tenants are backlogged, what
# they were served differs by 2 max(w_p L, w_q M) at most, L the longest prompt and M the most
# tokens that a batch holds.


def served(run: ReferenceRun, weights: tuple[int, int]) -> list[int]:
    """Return the widest gap between what tenants 0 and 1 were served, both still waiting."""
    done = [0, 0]
    widest = 0
    seen: set[int] = set()
    left = [max(r.admitted_s or 0.0 for r in run if r.request.tenant == t) for t in (0, 1)]
    for step in run.steps:
        if step.start_s >= min(left):
            break
        for index in {*step.prefilled, *step.decoded} - seen:
            done[run[index].request.tenant] += weights[0] * run[index].request.prompt
            seen.add(index)
        for index in {*step.prefilled, *step.decoded}:
            made = run[index].emissions_s.count(step.end_s)
            done[run[index].request.tenant] += weights[1] * made
        widest = max(widest, abs(done[0] - done[1]))
    assert min(done) > 0
    return [widest, min(done)]


@pytest.mark.parametrize("drafts", [None, Drafts(3, 0.7, 0.2, 5)])
def test_two_backlogged_tenants_are_served_alike_whatever_their_sizes(
    drafts: Drafts | None,
) -> None:
    short = [ReferenceRequest(i / 1e6, 10, 20, tenant=0) for i in range(400)]
    long = [ReferenceRequest(0.5 + i / 1e6, 200, 60, tenant=1) for i in range(60)]
    fair = Case(
        (*short, *long), steady, max_num_seqs=8, blocks=100, order=Order("fair"), drafts=drafts
    )
    bound = 2 * max(1 * 200, 2 * 100 * 16)
    gap, least = served(reference(fair), (1, 2))
    assert gap <= bound
    assert least > 2 * bound  # long enough for the bound to bind
    first_come = replace(fair, order=Order())
    plain = reference(first_come)
    of_long = min(r.admitted_s or 0.0 for r in plain if r.request.tenant == 1)
    assert of_long > max(r.admitted_s or 0.0 for r in plain if r.request.tenant == 0)


def test_every_token_is_charged_once() -> None:
    requests = tuple(
        ReferenceRequest(i / 10, 3 + i % 5, 4 + i % 7, tenant=i % 3) for i in range(30)
    )
    case = Case(requests, steady, blocks=6, block_tokens=4, order=Order("fair", weights=(3, 5)))
    run = engine(case)
    assert sum(r.preemptions for r in run.requests) > 0
    queue = run.batch.waiting
    assert isinstance(queue, Fair)
    # Lifts only add: with nobody ever lifted a counter is what was served.
    for tenant in range(3):
        own = [r for r in requests if r.tenant == tenant]
        assert queue.counter(tenant) >= sum(3 * r.prompt + 5 * r.output for r in own)
