"""An engine that plans a step ahead, by exact logs. A step takes a second."""

from __future__ import annotations

import math
from typing import Any

import pytest

from factory_sim.factory.build import Factory
from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.layout import lay_out
from factory_sim.factory.timetable import Timetable
from tests.factory.small import small_scenario
from tests.factory.test_replica import Log, clock, logged, send


def events(env: Timetable) -> int:
    """Run to the end, and return how many events that took."""
    number = 0
    while env.peek() < math.inf:
        env.step()
        number += 1
    return number


@pytest.mark.parametrize(
    ("ahead", "admitted_s"),
    # Half a step is left and its own takes one; planned ahead, a whole one lies between.
    [(False, 11.0), (True, 12.0)],
)
def test_an_arrival_takes_two_and_a_half_steps(
    env: Timetable, log: Log, ahead: bool, admitted_s: float
) -> None:
    replica = logged(env, log, ahead=ahead)
    send(replica, 0, at=0.0, prompt=1, output=100)
    send(replica, 1, at=10.5, prompt=1, output=1)
    number = events(env)
    first_s = admitted_s + 1.0
    assert log == [
        (first_s, 1, "completed", admitted_s, first_s, 1),
        (100.0, 0, "completed", 0.0, 1.0, 100),
    ]
    assert number <= 8  # two arrivals, an instant, four stretches, the one that was cut


@pytest.mark.parametrize(
    ("at", "admitted_s"),
    [(9.75, 11.0), (10.0, 11.0), (10.0 + 0.4e-9, 11.0), (10.0 + 3e-9, 12.0)],
)
def test_the_queue_is_looked_at_when_the_step_before_starts(
    env: Timetable, log: Log, at: float, admitted_s: float
) -> None:
    replica = logged(env, log, ahead=True)
    send(replica, 0, at=0.0, prompt=1, output=100)
    send(replica, 1, at=at, prompt=1, output=1)
    env.run(until=50.0)
    assert [row[3] for row in log] == [admitted_s]


def test_an_idle_engine_plans_at_once(env: Timetable, log: Log) -> None:
    replica = logged(env, log, ahead=True)
    send(replica, 0, at=0.5, prompt=1, output=3)
    send(replica, 1, at=0.5, prompt=1, output=1)
    send(replica, 2, at=3.25, prompt=1, output=1)  # nobody is left at 3.5
    send(replica, 3, at=9.0, prompt=1, output=1)
    env.run()
    assert log == [
        (1.5, 1, "completed", 0.5, 1.5, 1),
        (3.5, 0, "completed", 0.5, 1.5, 3),
        (4.5, 2, "completed", 3.5, 4.5, 1),
        (10.0, 3, "completed", 9.0, 10.0, 1),
    ]


def test_arrivals_in_a_step_with_prompts_and_in_the_one_cut_for_another(
    env: Timetable, log: Log
) -> None:
    replica = logged(env, log, ahead=True)
    send(replica, 0, at=0.0, prompt=1, output=100)
    send(replica, 1, at=0.25, prompt=1, output=1)  # in 0's prompt: one step of decoding between
    send(replica, 2, at=2.25, prompt=1, output=1)  # in 1's
    send(replica, 3, at=3.75, prompt=1, output=1)  # in the one that lies between
    env.run(until=50.0)
    assert log == [
        (3.0, 1, "completed", 2.0, 3.0, 1),
        (5.0, 2, "completed", 4.0, 5.0, 1),
        (6.0, 3, "completed", 5.0, 6.0, 1),
    ]


def test_a_slot_that_falls_free_is_for_who_was_there(env: Timetable, log: Log) -> None:
    replica = logged(env, log, slots=2, ahead=True)
    send(replica, 0, at=0.0, prompt=1, output=50)
    send(replica, 1, at=0.0, prompt=1, output=6)
    send(replica, 2, at=3.5, prompt=1, output=3)  # waits for the slot
    send(replica, 3, at=8.75, prompt=1, output=1)  # comes in the last step before it is free
    env.run(until=40.0)
    assert log == [
        (6.0, 1, "completed", 0.0, 1.0, 6),
        (9.0, 2, "completed", 6.0, 7.0, 3),
        (11.0, 3, "completed", 10.0, 11.0, 1),
    ]


def test_control_and_deadlines_cut_as_ever(env: Timetable, log: Log) -> None:
    replica = logged(env, log, slots=2, ahead=True)
    send(replica, 0, at=0.0, prompt=1, output=12, due_s=99.0)
    send(replica, 1, at=3.25, prompt=1, output=1)
    clock(replica, 3.5, 0.5)  # at 4, a step before 1 may join
    send(replica, 2, at=6.5, prompt=1, output=1, due_s=7.5)  # gives up before it may
    env.run()
    assert log == [
        (8.0, 1, "completed", 6.0, 8.0, 1),
        (8.0, 2, "timed_out", None, None, 0),
        (20.0, 0, "completed", 0.0, 1.0, 12),
    ]


def test_who_comes_late_waits_for_no_blocks(env: Timetable, log: Log) -> None:
    replica = logged(env, log, blocks=8, block_tokens=1, ahead=True)
    send(replica, 0, at=0.0, prompt=1, output=4)
    send(replica, 1, at=1.5, prompt=7, output=1)  # known from 3 on; then there is no room
    env.run()
    assert log == [
        (4.0, 0, "completed", 0.0, 1.0, 4),
        (5.0, 1, "completed", 4.0, 5.0, 1),
    ]
    batch = replica.batch
    assert batch.ledger.totals(batch.stretch.step_time).kv_full_s == 1.0


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ({"profile": "vllm-0.15"}, AsyncBatch),
        ({"profile": "vllm-0.15", "async_scheduling": False}, Batch),
        ({"profile": "vllm-0.2"}, Batch),
        ({"profile": "vllm-0.2", "async_scheduling": True}, AsyncBatch),
    ],
)
def test_an_engine_plans_ahead_by_its_profile_or_as_told(
    engine: dict[str, Any], kind: type[Batch]
) -> None:
    factory = Factory(lay_out(small_scenario(engine=engine)))
    assert type(factory.gateways["d"].replicas[0].batch) is kind
