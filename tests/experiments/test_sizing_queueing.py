"""The queueing formula of a sizing: Erlang's where that is exact, and monotone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import factory_sim as fs
from factory_sim.experiments.sizing.bounds import bounds
from factory_sim.experiments.sizing.queueing import Slots, erlang_c, wait_exceeds
from tests import queueing as theory


@given(st.integers(1, 400), st.floats(0.01, 0.999))
def test_erlang_c_is_that_of_the_recursion(servers: int, share: float) -> None:
    load = share * servers
    assert erlang_c(servers, load) == pytest.approx(theory.erlang_c(servers, load), rel=1e-9)


@given(st.integers(1, 50), st.floats(0.01, 0.99), st.floats(0.1, 10.0), st.floats(0.0, 20.0))
def test_exponential_stays_wait_as_in_mmc(
    servers: int, share: float, stay_s: float, wait_s: float
) -> None:
    rate = share * servers / stay_s
    expected = theory.mmc_wait_exceeds(servers, rate, stay_s, wait_s)
    found = wait_exceeds(servers, rate * stay_s, stay_s, 1.0, wait_s)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_where_more_comes_than_is_served_all_wait() -> None:
    assert erlang_c(4, 4.0) == wait_exceeds(4, 5.0, 1.0, 1.0, 1e9) == 1.0
    assert erlang_c(4, 0.0) == 0.0


@given(st.integers(1, 64), st.floats(0.5, 20.0), st.floats(0.0, 3.0), st.floats(0.1, 500.0))
def test_the_fewest_replicas_and_the_highest_rate_are_two_sides_of_one_edge(
    slots: int, stay_s: float, spread: float, per_s: float
) -> None:
    own = Slots(slots, stay_s, spread, 2.0, 0.01)
    count = own.replicas(per_s, 1_000_000)
    assert count is not None and own.keep(count, per_s)
    assert own.carried(count) >= per_s * (1.0 - 1e-6)
    assert count == 1 or own.carried(count - 1) <= per_s * (1.0 + 1e-6)
    assert own.replicas(per_s, count - 1) is None


def test_variable_answers_wait_longer() -> None:
    waits = [wait_exceeds(10, 8.0, 2.0, spread, 1.0) for spread in (0.0, 0.5, 1.0, 4.0)]
    assert waits == sorted(waits) and waits[0] < waits[-1]


def test_a_promise_of_tpot_bounds_the_slots() -> None:
    def slots(*overrides: str) -> Slots | None:
        (pool,) = bounds(fs.load(None, ["warmup=0 s", "duration=10 s", *overrides])).pools
        return pool.slots

    full, quick = slots(), slots("deployments.chat.slo.tpot=25 ms")
    assert full is not None and quick is not None and 1 <= quick.slots < full.slots
    assert quick.slots / quick.stay_s < full.slots / full.stay_s
    assert slots("deployments.chat.slo.tpot=1 us") is None
    long = slots("deployments.chat.slo.ttft=20 s")
    assert long is not None and long.wait_s == 20.0


def test_what_is_drawn_says_how_answers_vary() -> None:
    def spread(output: str) -> float:
        (pool,) = bounds(
            fs.load(
                None,
                ["warmup=0 s", f"workload.chat.lengths={{prompt: 100, output: {output}}}"],
            )
        ).pools
        assert pool.slots is not None
        return pool.slots.spread

    assert spread("50") == pytest.approx(0.0, abs=1e-12)
    varied = spread("{lognormal: {median: 200, sigma: 1.0}}")
    assert varied > 0.5
