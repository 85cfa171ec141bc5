"""Transfers that share a pipe: exact logs of who is done when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.factory.network.pipe import Pipe
from factory_sim.factory.timetable import CONTROL, Timetable
from tests.queueing import batch_means, mg1_ps_sojourn_s, mg1_wait_s

Log = list[tuple[str, float]]
FREE = float("inf")


@pytest.fixture
def env() -> Timetable:
    return Timetable()


def noting(log: Log, env: Timetable, name: str) -> Callable[[], None]:
    return lambda: log.append((name, env.now))


def at(env: Timetable, time: float, act: Callable[[], object]) -> None:
    env.timeout(time).callbacks.append(lambda _: act())


def test_one_alone_has_the_whole_pipe(env: Timetable) -> None:
    log: Log = []
    Pipe(env, 10.0).send(50.0, FREE, noting(log, env, "a"))
    env.run()
    assert log == [("a", 5.0)]


def test_who_comes_slows_the_other_and_who_ends_lets_it_run(env: Timetable) -> None:
    log: Log = []
    pipe = Pipe(env, 10.0)
    pipe.send(50.0, FREE, noting(log, env, "a"))
    at(env, 1.0, lambda: pipe.send(10.0, FREE, noting(log, env, "b")))
    env.run()
    # a has 40 left at 1 s; both get 5 a second, so b ends at 3 s and a, with 30 left, at 6 s.
    assert log == [("b", 3.0), ("a", 6.0)]


def test_what_one_cannot_take_goes_to_the_others(env: Timetable) -> None:
    log: Log = []
    pipe = Pipe(env, 10.0)
    pipe.send(10.0, 2.0, noting(log, env, "slow"))
    pipe.send(40.0, FREE, noting(log, env, "fast"))
    env.run()
    assert log == [("slow", 5.0), ("fast", 5.0)]


def test_without_a_sender_each_has_a_line_of_its_own(env: Timetable) -> None:
    log: Log = []
    pipe = Pipe(env, 10.0)
    for name in ("a", "b"):
        pipe.send(10.0, 2.0, noting(log, env, name))
    pipe.send(30.0, FREE, noting(log, env, "fast"))
    at(env, 4.0, lambda: pipe.send(2.0, 2.0, noting(log, env, "late")))
    env.run()
    # 2, 2 and 6; with a third slow one 2, 2, 2 and 4, of the 6 that are left.
    assert log == [("a", 5.0), ("b", 5.0), ("late", 5.0), ("fast", pytest.approx(5.0 + 2.0 / 10.0))]


def test_an_unbounded_pipe_leaves_each_its_own_limit(env: Timetable) -> None:
    log: Log = []
    pipe = Pipe(env, FREE)
    pipe.send(10.0, 2.0, noting(log, env, "a"))
    pipe.send(10.0, 5.0, noting(log, env, "b"))
    env.run()
    assert log == [("b", 2.0), ("a", 5.0)]


def test_a_closed_pipe_stands_still_and_a_dropped_transfer_never_ends(env: Timetable) -> None:
    log: Log = []
    pipe = Pipe(env, 10.0)
    pipe.send(50.0, FREE, noting(log, env, "a"))
    lost = pipe.send(50.0, FREE, noting(log, env, "b"))
    at(env, 2.0, lambda: pipe.set_open(False))
    at(env, 12.0, lambda: pipe.set_open(True))
    at(env, 12.0, lambda: pipe.drop(lost))
    env.run()
    # Each got 10 by 2 s; a has 40 left when the pipe opens again, alone.
    assert log == [("a", 16.0)]


def test_transfers_of_one_sender_share_its_limit(env: Timetable) -> None:
    log: Log = []
    pipe = Pipe(env, 10.0)
    for name in ("a", "b"):
        pipe.send(10.0, 4.0, noting(log, env, name), sender="one")
    pipe.send(30.0, 100.0, noting(log, env, "c"), sender="other")
    env.run()
    assert log == [("a", 5.0), ("b", 5.0), ("c", 5.0)]  # 2, 2 and the 6 that are left
    assert pipe.carried_bytes() == 50.0


def test_what_was_dropped_has_flown_in_part(env: Timetable) -> None:
    log: Log = []
    pipe = Pipe(env, 10.0)
    number = pipe.send(50.0, FREE, noting(log, env, "a"))
    at(env, 2.0, lambda: pipe.drop(number))
    env.run()
    assert (log, pipe.carried_bytes()) == ([], 20.0)


LARGE = 20.0


@pytest.mark.parametrize("share_large", [0.0, 0.05])
def test_sharing_is_m_g_1_ps(share_large: float) -> None:
    """Transfers of one size, or some twenty times as large: the mean stay is that of theory."""
    env, rng, load = Timetable(), np.random.default_rng(7), 0.5
    mean = 1.0 + share_large * (LARGE - 1.0)
    pipe, stays = Pipe(env, 1.0), {}
    count = 10_000
    arrivals_s = np.cumsum(rng.exponential(mean / load, count)).tolist()
    sizes = np.where(rng.random(count) < share_large, LARGE, 1.0).tolist()

    def send(number: int) -> None:
        def done() -> None:
            stays[number] = env.now - arrivals_s[number]

        pipe.send(sizes[number], FREE, done)
        if number + 1 < count:
            env.call(arrivals_s[number + 1], CONTROL, lambda _: send(number + 1))

    env.call(arrivals_s[0], CONTROL, lambda _: send(0))
    env.run()
    stay = batch_means([stays[number] for number in range(count)])
    assert mg1_ps_sojourn_s(load / mean, mean) in stay
    assert stay.relative < 0.2
    squared = share_large * LARGE**2 + 1.0 - share_large
    assert mean + mg1_wait_s(load / mean, mean, squared) not in stay  # one after the other


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.1, 50.0)), min_size=1, max_size=6))
def test_a_busy_pipe_carries_its_bytes_every_second(sends: list[tuple[float, float]]) -> None:
    env, log = Timetable(), []  # type: ignore[var-annotated]
    pipe = Pipe(env, 4.0)
    for number, (time, size) in enumerate(sends):
        at(
            env,
            time,
            lambda size=size, n=number: pipe.send(size, FREE, noting(log, env, str(n))),
        )
    env.run()
    assert len(log) == len(sends)
    # Work is conserved: the last ends when a single server of that rate would have ended.
    end_s = 0.0
    for time, size in sorted(sends):
        end_s = max(end_s, time) + size / 4.0
    assert max(time for _, time in log) == pytest.approx(end_s, rel=1e-9)
