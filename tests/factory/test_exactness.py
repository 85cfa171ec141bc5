"""The macro-step engine equals the step-by-step reference, request by request.

Every policy, with preemption, prefix hits, sliding windows, time-outs, bounded queues, reasoning
and clock changes, with and without asynchronous scheduling, and with times that collide with step
boundaries to the last bit or miss them by half an instant.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.factory.build import roofline
from factory_sim.factory.layout import lay_out
from factory_sim.factory.replica import Speed
from factory_sim.factory.run import simulate
from factory_sim.metrics.totals import Totals
from tests.factory.side_by_side import Case, EngineRun, Toy, engine, reference, toy_power
from tests.factory.small import small_scenario
from tests.reference import ReferenceRequest, ReferenceRun

POLICIES = ["chunked", "continuous", "static"]
SAME = 1e-9
ENERGY = 1e-3
BIN = 0.0026  # half a bin of the gap histogram, and its rounding

TOYS = {
    "constant": Toy(compute=0.01),
    "binary": Toy(compute=1 / 128),
    "linear": Toy(
        base=0.0071,
        per_sequence=13e-5,
        per_token=31e-6,
        per_sample=17e-5,
        per_pair=37e-9,
        attend=5.3e-6,
    ),
    "steep": Toy(base=1e-4, per_token=1e-5, attend=1.7e-4),
    "windowed": Toy(base=0.0053, per_token=29e-6, attend=1.1e-6, attend_window=97e-6, window=57),
    "only windows": Toy(base=0.0053, attend_window=0.97e-4, window=16),
}
TICK_S = {"constant": 0.01, "binary": 1 / 128}  # steps at half the clock meet the grid too
REAL = "llama-3.1-8b on an H100"


@cache
def speed_of(name: str, clock: float) -> Speed:
    if name == REAL:
        (fleet,) = lay_out(small_scenario()).fleets
        return Speed(roofline(fleet, clock), fleet.power.at(clock))
    return Speed(replace(TOYS[name], clock=clock), toy_power(clock))


def times(draw: st.DrawFn, tick_s: float, most: int) -> float:
    """Draw a time: on the grid of steps, an instant beside it, or anywhere."""
    kind = draw(st.sampled_from(["grid", "grid", "beside", "anywhere"]))
    whole = draw(st.integers(0, most))
    if kind == "grid":
        return whole * tick_s
    if kind == "beside":
        return whole * tick_s + draw(st.sampled_from([-3e-9, -0.4e-9, 0.4e-9, 3e-9])) + 5 * tick_s
    return (whole + draw(st.integers(1, 999_982)) / 999_983) * tick_s


@st.composite
def cases(draw: st.DrawFn, toys: tuple[str, ...] = tuple(TOYS)) -> Case:
    name = draw(st.sampled_from(toys))
    tick_s = TICK_S.get(name, 0.0107)
    spread = draw(st.sampled_from([10, 30, 100, 600]))
    longest_prompt = draw(st.sampled_from([8, 60, 400]))
    longest_output = draw(st.sampled_from([4, 40, 200]))
    requests = []
    for _ in range(draw(st.integers(1, 6) | st.integers(8, 24))):
        arrival_s = times(draw, tick_s, spread)
        prompt = draw(st.integers(1, longest_prompt))
        patience_s = draw(st.sampled_from([math.inf, math.inf, 0.0, 1.0]))
        if patience_s == 1.0:
            patience_s = times(draw, tick_s, 300)
        output = draw(st.integers(1, longest_output))
        requests.append(
            ReferenceRequest(
                arrival_s,
                prompt,
                output,
                draw(st.just(0) | st.integers(0, prompt - 1)),
                arrival_s + patience_s,
                reasoning=draw(st.just(0) | st.integers(0, output - 1)),
            )
        )
    block_tokens = draw(st.sampled_from([16, 16, 4, 1]))
    largest = max(-(-(r.prompt + r.output - 1) // block_tokens) for r in requests)
    case = replica_of(draw, name, requests, block_tokens, largest)
    return replace(case, max_queue=draw(st.none() | st.integers(1, 4)))


def replica_of(
    draw: st.DrawFn,
    name: str,
    requests: list[ReferenceRequest],
    block_tokens: int,
    largest: int,
) -> Case:
    """Draw the replica that serves some requests, and what happens to it.

    largest: the most blocks that one of them needs; there are about as many, or a few times more.
    """
    tick_s = TICK_S.get(name, 0.0107)
    max_num_seqs = draw(st.integers(1, 10))
    changes = [
        (times(draw, tick_s, 700), draw(st.sampled_from([1.0, 0.5])))
        for _ in range(draw(st.integers(0, 4)))
    ]
    return Case(
        tuple(requests),
        partial(speed_of, name),
        policy=draw(st.sampled_from(POLICIES)),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 60)),
        blocks=max(1, largest * draw(st.sampled_from([9, 10, 12, 20, 40])) // 10),
        block_tokens=block_tokens,
        async_scheduling=draw(st.booleans()),
        clock_changes=tuple(sorted(changes, key=lambda change: change[0])),
        looks_s=tuple(times(draw, tick_s, 900) for _ in range(draw(st.integers(0, 6)))),
    )


def close(a: float | None, b: float) -> bool:
    return math.isnan(b) if a is None else a == b or math.isclose(a, b, rel_tol=SAME)


def assert_same_requests(slow: ReferenceRun, fast: EngineRun) -> None:
    for number, (record, request) in enumerate(zip(slow, fast.requests, strict=True)):
        outcome, left_s = fast.left[number]
        assert outcome == record.outcome, number
        assert close(record.left_s, left_s), number
        if record.request.made_s is None:
            assert close(record.admitted_s, request.admitted_s), number
        assert close(record.first_token_s, request.first_token_s), number
        if record.request.reasoning:
            assert close(record.answer_s, request.answer_s), number
        assert (request.emitted, request.preemptions) == (record.emitted, record.preemptions)
        if record.request.shareable:
            assert request.hit == record.found, number


def assert_same_sums(slow: ReferenceRun, fast: EngineRun) -> None:
    batch = fast.batch
    totals = batch.ledger.totals(batch.stretch.step_time)
    assert batch.kv.free == batch.kv.total
    assert batch.recomputed_tokens == sum(record.recomputed for record in slow)
    here = [record for record in slow if record.request.made_s is None]
    assert batch.input_tokens == sum(r.request.prompt for r in here if r.emitted)
    made = sum(record.emitted for record in slow) - (len(slow) - len(here))
    assert totals.output_tokens == pytest.approx(made, rel=SAME)
    busy_s = sum(step.end_s - step.start_s for step in slow.steps)
    assert totals.busy_s == pytest.approx(busy_s, rel=SAME)
    causes = totals[1:7]
    assert sum(causes) + totals.drafting_s == pytest.approx(busy_s, rel=SAME)
    assert min(causes) >= -SAME * busy_s
    if all(step.clock == 1.0 for step in slow.steps):
        assert totals.throttled_s == pytest.approx(0.0, abs=SAME * busy_s)
    energy_j = sum(step.energy_j for step in slow.steps)
    assert totals.energy_j == pytest.approx(energy_j, rel=ENERGY)


def assert_same_blame(slow: ReferenceRun, fast: EngineRun, case: Case) -> None:
    """Time is KV-full while a slot is free, known requests wait, and nobody could be let in."""
    if case.policy == "static":
        return  # a request waits for the batch to end, whatever is free
    kv_full_s = sum(
        step.end_s - step.start_s
        for step in slow.steps
        if not step.prefilled and step.known and step.running < case.max_num_seqs
    )
    totals = fast.batch.ledger.totals(fast.batch.stretch.step_time)
    assert totals.kv_full_s == pytest.approx(kv_full_s, rel=1e-6, abs=SAME)


def assert_same_gaps(slow: ReferenceRun, fast: EngineRun) -> None:
    gaps = sorted(gap for record in slow for gap in record.gaps_s)
    assert fast.gaps.count == len(gaps)
    if not gaps:
        return
    assert fast.gaps.mean_s() == pytest.approx(sum(gaps) / len(gaps), rel=SAME)
    for share in (0.1, 0.5, 0.9, 0.99):
        place = math.ceil(share * len(gaps)) - 1
        near = gaps[max(0, place - 1) : place + 2]
        assert near[0] * (1 - BIN) <= fast.gaps.quantile_s(share) <= near[-1] * (1 + BIN)


def until(slow: ReferenceRun, now_s: float) -> Totals:
    """Sum up the reference's steps, the one under way by the share of it that has passed."""
    sums = Totals()
    for step in slow.steps:
        length_s = step.end_s - step.start_s
        passed = min(1.0, max(0.0, now_s - step.start_s) / length_s)
        took_part = len(step.decoded) + len(step.prefilled)
        one = Totals(
            busy_s=length_s,
            energy_j=step.energy_j,
            output_tokens=step.made,
            sequence_s=took_part * length_s,
        )
        sums = sums.plus(one, passed)
    return sums


def assert_same_looks(
    slow: ReferenceRun, fast: EngineRun, looks_s: tuple[float, ...], tokens: float = 0.1 * 10
) -> None:
    last = Totals()
    for now_s, seen in zip(sorted(looks_s), fast.looks, strict=True):
        assert all(new >= old - SAME for new, old in zip(seen, last, strict=True))
        last = seen
        told = until(slow, now_s)
        assert seen.busy_s == pytest.approx(told.busy_s, rel=1e-6, abs=2 * SAME)
        assert seen.sequence_s == pytest.approx(told.sequence_s, rel=1e-6, abs=20 * SAME)
        # Within a step the closed form is a little convex where a share of the step is linear:
        # the difference is under a tenth of a token a sequence.
        assert seen.output_tokens == pytest.approx(told.output_tokens, rel=1e-3, abs=tokens)
        assert seen.energy_j == pytest.approx(told.energy_j, rel=ENERGY, abs=1.0)


def assert_same(case: Case) -> None:
    """Hold the engine to the reference in everything."""
    slow, fast = reference(case), engine(case)
    assert_same_requests(slow, fast)
    assert_same_sums(slow, fast)
    assert_same_blame(slow, fast, case)
    assert_same_gaps(slow, fast)
    assert_same_looks(slow, fast, case.looks_s)


@settings(deadline=None, max_examples=70, suppress_health_check=list(HealthCheck))
@given(cases())
def test_macro_steps_equal_single_steps(case: Case) -> None:
    assert_same(case)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(cases(toys=(REAL,)))
def test_macro_steps_equal_single_steps_of_a_real_model(case: Case) -> None:
    assert_same(case)


@pytest.mark.parametrize(
    ("policy", "ahead"),
    [*product(("chunked", "continuous"), (False, True)), ("static", False)],
)
def test_replicas_of_a_factory_equal_the_reference_one_by_one(policy: str, ahead: bool) -> None:
    scenario = small_scenario(
        engine={
            "batching": policy,
            "max_num_seqs": 6,
            "gpu_memory_utilization": 0.221,
            "async_scheduling": ahead,
        },
        replicas=3,
        rate="30 /s",
        lengths={
            "prompt": {"uniform": {"low": 1, "high": 300}},
            "output": {"uniform": {"low": 1, "high": 60}},
        },
        cached={"uniform": {"low": 0, "high": 100}},
        timeout="3 s",
    )
    run = simulate(scenario, debug=True)
    (fleet,) = lay_out(scenario).fleets
    assert fleet.memory.blocks < 100  # few enough to preempt
    preempted = 0
    for number in range(3):
        rows = run.requests[run.requests["replica"] == number]
        lag_s = fleet.host.per_request_s
        # What a request asked for is in the table only if it was served to the end.
        asked = tuple(
            ReferenceRequest(
                row.arrival_s + lag_s, row.prompt_tokens, row.output_tokens, row.cached_tokens
            )
            for row in rows.itertuples()
        )
        assert set(rows["outcome"]) == {"completed"}
        slow = reference(
            Case(
                asked,
                partial(speed_of, REAL),
                policy=policy,
                max_num_seqs=6,
                max_num_batched_tokens=fleet.max_step_tokens,
                blocks=fleet.memory.blocks,
                async_scheduling=ahead,
            )
        )
        for record, row in zip(slow, rows.itertuples(), strict=True):
            sent_s = record.request.arrival_s - lag_s
            assert record.admitted_s == pytest.approx(row.admitted_s, rel=SAME)
            assert record.first_token_s == pytest.approx(sent_s + row.ttft_ms / 1e3, rel=SAME)
            assert record.completed_s == pytest.approx(sent_s + row.e2e_ms / 1e3, rel=SAME)
            assert record.preemptions == row.preemptions
        preempted += sum(record.preemptions for record in slow)
    assert preempted > 0 or policy == "static"
