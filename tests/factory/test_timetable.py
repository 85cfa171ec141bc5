"""The timetable: calls and events in one queue, in one order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from simpy import Environment, Event
from simpy.core import EmptySchedule

from factory_sim.factory.timetable import ARRIVAL, COMPLETION, CONTROL, PLAN, Timetable

Log = list[Any]


def test_ranks_order_an_instant_and_numbers_a_rank(env: Timetable, log: Log) -> None:
    def note(name: str) -> None:
        env.call(
            1.0, {"c": COMPLETION, "a": ARRIVAL, "p": PLAN}[name[0]], lambda _: log.append(name)
        )

    def process() -> Iterator[Event]:
        yield env.at(1.0, ARRIVAL)
        log.append("a2")

    def control() -> Iterator[Event]:
        yield env.timeout(1.0)
        log.append("control")

    note("p1")
    note("a1")
    env.process(process())
    env.process(control())
    env.call(0.5, CONTROL, lambda _: note("a3"))
    note("c1")
    env.run()
    assert log == ["c1", "control", "a1", "a2", "a3", "p1"]
    assert env.now == 1.0


def test_a_call_is_told_its_number(env: Timetable, log: Log) -> None:
    numbers = [env.call(time, CONTROL, log.append) for time in (2.0, 1.0)]
    env.run()
    assert log == numbers[::-1]
    assert len(set(numbers)) == 2


def test_what_is_set_for_the_past_comes_now(env: Timetable, log: Log) -> None:
    env.run(until=5.0)
    env.call(3.0, CONTROL, lambda _: log.append(env.now))
    env.at(4.0, CONTROL).callbacks.append(lambda _: log.append(env.now))
    env.run()
    assert log == [5.0, 5.0]


def test_quiet_until(env: Timetable) -> None:
    assert env.quiet_until(9.0)
    env.call(2.0, PLAN, lambda _: None)
    assert env.quiet_until(1.9)
    assert not env.quiet_until(2.0)


def ticking(env: Environment, log: Log) -> Iterator[Event]:
    while True:
        yield env.timeout(1)
        log.append(env.now)


@pytest.mark.parametrize("until", [3, 3.5])
def test_it_runs_until_a_time_as_simpy_does(until: float) -> None:
    logs: list[Log] = []
    for env in (Environment(), Timetable()):
        log: Log = []
        env.process(ticking(env, log))
        for stop in (until, until + 1, until + 1.25):
            env.run(until=stop)
            log.append(("stopped", env.now))
        logs.append(log)
    assert logs[0] == logs[1]


def test_it_runs_until_an_event_past_calls(env: Timetable, log: Log) -> None:
    env.call(1.0, ARRIVAL, lambda _: log.append("call"))
    assert env.run(until=env.timeout(2.0, "value")) == "value"
    assert log == ["call"]


def test_it_steps_through_both(env: Timetable, log: Log) -> None:
    env.call(1.0, ARRIVAL, lambda _: log.append("call"))
    env.timeout(2.0).callbacks.append(lambda _: log.append("event"))
    env.step()
    assert (log, env.now, env.peek()) == (["call"], 1.0, 2.0)
    env.step()
    assert (log, env.now) == (["call", "event"], 2.0)
    with pytest.raises(EmptySchedule):
        env.step()


def test_time_does_not_run_back(env: Timetable) -> None:
    env.run(until=2.0)
    with pytest.raises(ValueError, match=r"until \(2.0\) must be greater than the current"):
        env.run(until=2.0)


def test_what_a_process_raises_comes_out(env: Timetable) -> None:
    def failing() -> Iterator[Event]:
        yield env.timeout(1)
        raise KeyError("broken")

    env.process(failing())
    with pytest.raises(KeyError, match="broken"):
        env.run(until=5.0)
