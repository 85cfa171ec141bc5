"""KV caches that cross layer by layer: closed forms, and streams beside a plain account of them."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_sim.factory.network.kv import KvOverLink, KvStream
from factory_sim.factory.network.link import Link
from factory_sim.factory.run import Run, simulate
from factory_sim.factory.timetable import CONTROL, Timetable
from tests.factory.side_by_side import Toy
from tests.factory.test_disaggregated_runs import BYTES_PER_TOKEN, disaggregated
from tests.factory.test_disaggregation import Service, fail, serving


def alone(prompt: int, **given: Any) -> Service:
    """Serve one request of two tokens that comes at 1 s, and nobody else."""
    env = Timetable()
    service = serving(env, **given)
    service.send(0, 1.0, prompt, 2)
    env.run(1000.0)
    return service


def transfer_s(prompt: int, **given: Any) -> float:
    return alone(prompt, **given).rows()[0][3]


@pytest.mark.parametrize("layers", [1, 2, 4, 32])
@pytest.mark.parametrize("rate", [0.5, 3.0, 8.0, 40.0, 1000.0])
def test_of_a_prompt_in_one_step_remains_what_the_link_could_not_carry(
    layers: int, rate: float
) -> None:
    """A step of 1 s makes 8 tokens: 8 / layers at the end of each layer."""
    whole_s, last_s = 8 / rate, 8 / layers / rate
    remains_s = max(last_s, 1 / layers - 1.0 + whole_s)
    found_s = transfer_s(8, layers=layers, tokens_per_s=rate)
    assert found_s == pytest.approx(remains_s, rel=1e-9)
    # Never less than the last layer, nor more than without overlap, which is the one-layer case.
    assert last_s <= found_s * (1 + 1e-9)
    assert found_s <= transfer_s(8, tokens_per_s=rate) * (1 + 1e-9)


@pytest.mark.parametrize("rate", [2.0, 6.0, 7.9, 20.0])
def test_chunks_cross_while_later_ones_are_computed(rate: float) -> None:
    """Four steps of 8 tokens, of 4 layers: 6 ready a quarter into each step and 2 at its end."""
    ready = [(step + at, size) for step in range(4) for at, size in ((0.25, 6), (1.0, 2))]
    left = [sum(size for _, size in ready[n:]) for n in range(len(ready))]
    ends = max(at + size / rate for (at, _), size in zip(ready, left, strict=True))
    found_s = transfer_s(32, layers=4, tokens_per_s=rate)
    assert found_s == pytest.approx(ends - 4.0, rel=1e-9)
    if rate == 2.0:  # the link is busy from the first layer on
        assert found_s == pytest.approx(0.25 + 32 / rate - 4.0, rel=1e-9)
    if rate == 20.0:  # the last layer of the last chunk remains
        assert found_s == pytest.approx(2 / rate, rel=1e-9)


def test_latency_follows_the_last_byte_alone() -> None:
    for rate in (2.0, 20.0):
        given = {"layers": 4, "tokens_per_s": rate}
        plain_s = transfer_s(32, **given)
        assert transfer_s(32, **given, latency_s=0.5) == pytest.approx(plain_s + 0.5, rel=1e-9)


def test_a_replica_that_is_lost_while_its_prompt_is_computed_is_replaced() -> None:
    """The other gets all of it: 16 tokens that are there at 3 s, and the rest as it is made."""
    env = Timetable()
    service = serving(env, decodes=2, layers=4, tokens_per_s=100.0)
    service.send(0, 1.0, 32, 2)
    fail(service, 2.5, "decodes", 0)
    env.run(100.0)
    ((_, outcome, first_s, took_s, end_s),) = service.rows()
    assert (outcome, first_s, end_s) == ("completed", 5.0, pytest.approx(6.02))
    assert took_s == pytest.approx(2 / 100.0)
    # By 2.5 s the first had 8 tokens and the three layers of the second chunk: 14.
    assert service.link.carried_bytes() == pytest.approx(14 + 32)
    assert service.at_rest()


def test_whose_client_gives_up_or_has_its_answer_is_sent_no_further() -> None:
    for more, carried in (({"output": 1}, 32), ({"output": 2, "due_s": 2.9}, 16)):
        env = Timetable()
        service = serving(env, layers=4, tokens_per_s=1000.0)
        service.send(0, 1.0, 32, **more)  # type: ignore[arg-type]
        env.run(100.0)
        assert not service.decodes.early
        assert service.at_rest()
        # Nobody knows that a first token is the last before it is made; its last layer stays.
        assert service.link.carried_bytes() == pytest.approx(carried - 2)


def test_without_an_open_replica_it_crosses_once_there_is_one() -> None:
    env = Timetable()
    service = serving(env, layers=4, tokens_per_s=16.0)
    fail(service, 0.5, "decodes", 0, back=2.5)
    service.send(0, 1.0, 32, 2)
    env.run(100.0)
    # From 3 s on: 16 tokens that are there, the third chunk's and the fourth's: 2 s without a gap.
    assert service.rows()[0][3] == pytest.approx(max(0.0, 2 / 16, 3.0 + 32 / 16 - 5.0))
    assert service.at_rest()


# Streams over one link, beside an account of them in fractions.

Feed = tuple[Fraction, Fraction]


def played(streams: list[list[Feed]], rate: Fraction) -> list[Fraction]:
    """Return when each stream's last byte has left: all who have something ready share evenly."""
    now = Fraction(0)
    to_come = [list(feeds) for feeds in streams]
    ready = [Fraction(0)] * len(streams)
    ends = [Fraction(-1)] * len(streams)
    while min(ends) < 0:
        busy = [number for number, size in enumerate(ready) if size > 0]
        times = [feeds[0][0] for feeds in to_come if feeds]
        if busy:
            each = rate / len(busy)
            times.append(now + min(ready[number] for number in busy) / each)
        later = min(times)
        for number in busy:
            ready[number] -= each * (later - now)
        now = later
        for number, feeds in enumerate(to_come):
            if not ready[number] and not feeds and ends[number] < 0:
                ends[number] = now
            while feeds and feeds[0][0] <= now:
                ready[number] += feeds.pop(0)[1]
    return ends


@st.composite
def feeds(draw: st.DrawFn) -> list[Feed]:
    tick = Fraction(1, 8)
    times = draw(st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True))
    sizes = [Fraction(draw(st.integers(1, 40)), 4) for _ in times]
    return [(tick * time, size) for time, size in zip(sorted(times), sizes, strict=True)]


@settings(deadline=None, max_examples=150)
@given(st.lists(feeds(), min_size=1, max_size=6), st.sampled_from([1, 3, 10]))
def test_streams_share_a_link_as_whoever_has_something_ready(
    streams: list[list[Feed]], rate: int
) -> None:
    env = Timetable()
    link = Link(env, "kv", float(rate), 0.25)
    found = [-1.0] * len(streams)
    for number, portions in enumerate(streams):
        landed = partial(lambda n: found.__setitem__(n, env.now), number)
        stream = KvStream(KvOverLink(link, "d", math.inf), number, 0, landed)
        for at, size in portions:
            last = at == portions[-1][0]
            feed = partial(stream.feed, float(size), last)
            env.call(float(at), CONTROL, lambda _, feed=feed: feed())
    env.run()
    expected = [float(end) + 0.25 for end in played(streams, Fraction(rate))]
    assert found == pytest.approx(expected, rel=1e-9)
    carried = sum(float(size) for portions in streams for _, size in portions)
    assert link.carried_bytes() == pytest.approx(carried, rel=1e-12)


def two(tmp_path: Path, overlap: bool) -> Run:
    """Serve the two prompts of `test_two_requests_to_the_nanosecond`."""
    trace = tmp_path / "two.csv"
    trace.write_text("arrival_s,input_toks,output_toks\n0.0,10,3\n0.005,20,2\n")
    scenario = disaggregated(
        prefill={"overlap": overlap},
        link={"bandwidth": f"{100 * BYTES_PER_TOKEN} byte/s", "latency": "5 ms"},
        engine={"async_scheduling": False},
        workload={"w": {"deployment": "d", "arrivals": {"process": "trace", "path": str(trace)}}},
        duration="1 s",
    )
    return simulate(scenario, step_time=lambda *_: Toy(base=0.01, per_token=0.001), debug=True)


def test_two_requests_that_share_a_link_to_the_nanosecond(tmp_path: Path) -> None:
    """Steps of 20 and 30 ms, 32 layers, 100 tokens/s: the link never rests once it has begun."""
    run = two(tmp_path, True)
    # The first alone from 0.625 ms; the second joins at 20 + 30 / 32 ms, when 2.03 tokens are
    # through; the first's other 7.97 take twice as long, the second's 20 end the whole.
    joins, begins = 20 + 30 / 32, 20 / 32
    first = joins + 2 * (100 - (joins - begins))
    second = begins + 300
    expected = [first + 5 - 20, second + 5 - 50]
    assert run.requests["transfer_ms"].to_numpy() == pytest.approx(expected, rel=1e-9)
    apart = two(tmp_path, False)
    assert (run.requests["transfer_ms"] < apart.requests["transfer_ms"]).all()
    assert run.summary["links"]["kv"]["carried_gb"] == pytest.approx(30 * BYTES_PER_TOKEN / 1e9)
