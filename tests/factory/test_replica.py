"""A replica's story, told by exact logs. A step takes a second unless a test says otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest

from factory_sim.factory.clients import Stream, closed_client
from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.replica import Replica, Speed
from factory_sim.factory.routing import ROUTING
from factory_sim.factory.timetable import ARRIVAL, Timetable
from factory_sim.metrics.gaps import GapHistogram
from tests.factory.side_by_side import Toy, toy_power

Log = list[Any]
Leave = Callable[[Replica, Request, float, str], None]


def one_second(clock: float) -> Speed:
    """Return steps of one second at the reference clock, of two at half of it."""
    return Speed(Toy(compute=1.0, clock=clock), toy_power(clock))


def build(
    env: Timetable,
    leave: Leave,
    policy: str = "chunked",
    slots: int = 4,
    budget: int = 8,
    blocks: int = 100,
    block_tokens: int = 4,
    max_queue: float = math.inf,
    ahead: bool = False,
) -> Replica:
    batch = (AsyncBatch if ahead else Batch)(
        BATCHING[policy](budget),
        *one_second(1.0),
        KvBlocks(blocks, block_tokens),
        slots,
        max_queue,
        GapHistogram(),
    )
    return Replica(env, 0, [0], batch, one_second, leave, debug=True)


def logged(env: Timetable, log: Log, **options: Any) -> Replica:
    """Return a replica that logs (time, number, outcome, admitted, first token, tokens)."""

    def leave(replica: Replica, request: Request, time: float, outcome: str) -> None:
        first_s = None if math.isnan(request.first_token_s) else request.first_token_s
        admitted_s = None if math.isnan(request.admitted_s) else request.admitted_s
        log.append((time, request.number, outcome, admitted_s, first_s, request.emitted))

    return build(env, leave, **options)


def send(replica: Replica, number: int, at: float, prompt: int, output: int, **more: Any) -> None:
    request = Request(number, at, prompt, output, **more)
    replica.env.call(at, ARRIVAL, lambda _: replica.submit(request))


def clock(replica: Replica, at: float, share: float) -> None:
    replica.env.timeout(at).callbacks.append(lambda _: replica.hold_clock("test", share))


def test_a_long_answer_is_one_event(env: Timetable, log: Log) -> None:
    replica = logged(env, log, blocks=300)
    send(replica, 0, at=0.0, prompt=4, output=1001)
    events = 0
    while env.peek() < math.inf:
        env.step()
        events += 1
    assert log == [(1001.0, 0, "completed", 0.0, 1.0, 1001)]
    assert events <= 5  # arrival, the end of its instant, prefill, answer


def test_an_arrival_ends_the_stretch_at_the_next_step(env: Timetable, log: Log) -> None:
    replica = logged(env, log)
    send(replica, 0, at=0.0, prompt=1, output=100)
    send(replica, 1, at=10.25, prompt=1, output=2)
    env.run(until=50.0)
    assert log == [(13.0, 1, "completed", 11.0, 12.0, 2)]
    env.run()
    assert log[1:] == [(100.0, 0, "completed", 0.0, 1.0, 100)]


def test_a_clock_change_holds_from_the_next_step(env: Timetable, log: Log) -> None:
    replica = logged(env, log)
    send(replica, 0, at=0.0, prompt=1, output=10)
    clock(replica, 3.5, 0.5)  # from 4 on
    clock(replica, 8.0, 1.0)  # at a boundary: at once
    clock(replica, 8.0 + 3e-9, 0.5)  # inside the next step, and taken back in it
    clock(replica, 8.75, 1.0)
    env.run()
    assert log == [(12.0, 0, "completed", 0.0, 1.0, 10)]


def test_a_deadline_acts_at_the_next_step(env: Timetable, log: Log) -> None:
    replica = logged(env, log, slots=1)
    send(replica, 0, at=0.0, prompt=1, output=50, due_s=7.5)
    send(replica, 1, at=1.0, prompt=1, output=1, due_s=3.0)
    send(replica, 2, at=1.0, prompt=1, output=2)
    env.run()
    assert log == [
        (3.0, 1, "timed_out", None, None, 0),
        (8.0, 0, "timed_out", 0.0, 1.0, 8),
        (10.0, 2, "completed", 8.0, 9.0, 2),
    ]


def test_a_deadline_already_past_acts_at_the_next_step_too(env: Timetable, log: Log) -> None:
    replica = logged(env, log, slots=1)
    send(replica, 0, at=0.0, prompt=1, output=9)
    send(replica, 1, at=4.5, prompt=1, output=1, due_s=2.0)
    send(replica, 2, at=6.0, prompt=1, output=1, due_s=6.0)  # time-outs come before arrivals
    env.run()
    assert log == [
        (5.0, 1, "timed_out", None, None, 0),
        (7.0, 2, "timed_out", None, None, 0),
        (9.0, 0, "completed", 0.0, 1.0, 9),
    ]


def test_completion_control_and_arrival_at_one_instant(env: Timetable, log: Log) -> None:
    replica = logged(env, log, slots=1)
    send(replica, 0, at=0.0, prompt=1, output=2, due_s=2.0)  # done at 2: not timed out
    send(replica, 1, at=2.0, prompt=1, output=1)  # finds the slot free
    clock(replica, 2.0, 0.5)  # holds for the step that starts at 2
    env.run()
    assert log == [
        (2.0, 0, "completed", 0.0, 1.0, 2),
        (4.0, 1, "completed", 2.0, 4.0, 1),
    ]


@pytest.mark.parametrize("early_s", [-0.4e-9, 0.0, 0.4e-9])
def test_times_within_an_instant_are_equal(env: Timetable, log: Log, early_s: float) -> None:
    replica = logged(env, log, slots=1, max_queue=1)
    send(replica, 0, at=0.0, prompt=1, output=2)
    send(replica, 1, at=0.5, prompt=1, output=1, due_s=2.0)
    # The time-out at 2 has made room in the queue, whichever side of 2 it arrives.
    send(replica, 2, at=2.0 + early_s, prompt=1, output=1)
    env.run()
    assert log == [
        (2.0, 0, "completed", 0.0, 1.0, 2),
        (2.0, 1, "timed_out", None, None, 0),
        (3.0, 2, "completed", 2.0, 3.0, 1),
    ]


def test_the_last_come_is_preempted_and_returns(env: Timetable, log: Log) -> None:
    replica = logged(env, log, blocks=4, block_tokens=2)
    send(replica, 0, at=0.0, prompt=2, output=5)
    send(replica, 1, at=0.0, prompt=2, output=4)
    env.run(until=3.5)
    assert [r.number for r in replica.batch.waiting] == [1]
    env.run()
    assert log == [
        (5.0, 0, "completed", 0.0, 1.0, 5),
        (6.0, 1, "completed", 0.0, 1.0, 4),
    ]
    assert replica.batch.recomputed_tokens == 4
    assert replica.batch.gaps.count == 4 + 3


def test_back_from_preemption_with_the_same_last_step(env: Timetable, log: Log) -> None:
    # Whole-prompt prefills do not count as decode steps: 1 is to finish at the very decode
    # step that was its last before it was preempted.
    replica = logged(env, log, policy="continuous", blocks=4, block_tokens=2)
    send(replica, 0, at=0.0, prompt=2, output=4)
    send(replica, 1, at=0.0, prompt=2, output=5)
    env.run()
    assert log == [
        (4.0, 0, "completed", 0.0, 1.0, 4),
        (6.0, 1, "completed", 0.0, 1.0, 5),
    ]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        # Decodes go on beside the prompt's two chunks.
        ("chunked", [(6.0, 0, "completed", 0.0, 1.0, 6), (6.0, 1, "completed", 3.0, 5.0, 2)]),
        # The prompt goes ahead, whole, for one step.
        ("continuous", [(5.0, 1, "completed", 3.0, 4.0, 2), (7.0, 0, "completed", 0.0, 1.0, 6)]),
        # The prompt waits for the batch to end.
        ("static", [(6.0, 0, "completed", 0.0, 1.0, 6), (8.0, 1, "completed", 6.0, 7.0, 2)]),
    ],
)
def test_policies(env: Timetable, log: Log, policy: str, expected: Log) -> None:
    replica = logged(env, log, policy=policy, budget=8)
    send(replica, 0, at=0.0, prompt=2, output=6)
    send(replica, 1, at=2.5, prompt=12, output=2)
    env.run()
    assert log == expected


def test_a_held_back_sequence_that_gives_up_takes_only_its_own_gap(
    env: Timetable, log: Log
) -> None:
    # 0 and then 1 are held back by prefills; 0 gives up, 1 goes on with a gap of two seconds.
    replica = logged(env, log, policy="continuous")
    send(replica, 0, at=0.0, prompt=1, output=50, due_s=3.0)
    send(replica, 1, at=1.0, prompt=1, output=2)
    send(replica, 2, at=2.0, prompt=1, output=1)
    env.run()
    assert log == [
        (3.0, 2, "completed", 2.0, 3.0, 1),
        (3.0, 0, "timed_out", 0.0, 1.0, 1),
        (4.0, 1, "completed", 1.0, 2.0, 2),
    ]
    gaps = replica.batch.gaps
    assert (gaps.count, gaps.mean_s()) == (1, 2.0)


def test_what_is_refused_leaves_no_trace(env: Timetable, log: Log) -> None:
    replica = logged(env, log, slots=1, blocks=2, block_tokens=2, max_queue=1)
    assert not replica.submit(Request(0, 0.0, prompt=3, output=3))  # five tokens in four places
    assert replica.submit(Request(1, 0.0, prompt=3, output=2))
    assert not replica.submit(Request(2, 0.0, prompt=1, output=1))  # 1 still waits
    env.run()
    assert log == [(2.0, 1, "completed", 0.0, 1.0, 2)]
    assert not replica.batch.waiting and not replica.batch.running
    assert replica.batch.kv.free == 2


def test_a_client_that_returns_at_once_arrives_at_that_instant(env: Timetable) -> None:
    gateway = Gateway(env, ROUTING["round-robin"](np.random.default_rng(0)), 0.0)
    gateway.replicas.append(build(env, gateway.leave, slots=2))
    gateway.outstanding.append(0)
    stream = Stream(env, gateway, 0, 0.0, math.inf, count())
    draws = iter([(1, 3, 0, 0, 0), (1, 1, 0, 0, 0), (1, 2, 0, 0, 0)])
    thinking = iter([0.0, 0.0, 0.0])
    env.process(closed_client(stream, draws, thinking, 0.0, math.inf, iter(range(3))))
    env.run()
    rows = gateway.table()
    stays = list(zip(rows["arrival_s"], rows["admitted_s"], rows["end_s"], strict=True))
    assert stays == [(0.0, 0.0, 3.0), (3.0, 3.0, 4.0), (4.0, 4.0, 6.0)]


def test_totals_in_the_middle_of_a_stretch(env: Timetable, log: Log) -> None:
    replica = logged(env, log)
    send(replica, 0, at=0.0, prompt=1, output=9)
    seen = []
    for until_s in (0.5, 1.0, 4.25, 9.0, 20.0):
        env.run(until=until_s)
        totals = replica.totals()
        seen.append((totals.busy_s, totals.output_tokens, totals.sequence_s))
    assert seen == [(0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (4.25, 4.25, 4.25), (9.0,) * 3, (9.0,) * 3]
