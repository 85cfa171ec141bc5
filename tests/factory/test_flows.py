"""Transfers that cross several ports: exact logs, and beside a plain filling of one port at a time.

The plain one knows no routes, no levels and no heaps: it asks anew, at every start and end, which
port would be full first if all went equally fast.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import inf
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_sim.factory.network.flows import Flows, Port, Way
from factory_sim.factory.timetable import CONTROL, Timetable
from tests.queueing import batch_means, mg1_ps_sojourn_s

Log = list[tuple[str, float]]


def noting(log: Log, env: Timetable, name: str) -> Callable[[], None]:
    return lambda: log.append((name, env.now))


def through(*ports: Port) -> Way:
    return tuple((port, 1.0) for port in ports)


def test_who_shares_a_narrow_port_leaves_room_on_a_wide_one(env: Timetable) -> None:
    log: Log = []
    flows, wide, narrow = Flows(env), Port(10.0), Port(4.0)
    flows.send(10.0, through(wide, narrow), noting(log, env, "both"))
    flows.send(40.0, through(wide), noting(log, env, "wide"))
    flows.send(6.0, through(narrow), noting(log, env, "narrow"))
    env.run()
    # Both and narrow get 2 of the narrow port, wide the other 8; at 3 s narrow is through, and both
    # gets 4 for its last 4; the wide one, with 16 left, gets 6 for a second and 10 for another.
    assert log == [("narrow", 3.0), ("both", 4.0), ("wide", 5.0)]
    assert (wide.carried_bytes, narrow.carried_bytes) == (50.0, 16.0)


def test_a_port_that_others_leave_room_on_waits_for_the_next_full_one(env: Timetable) -> None:
    log: Log = []
    flows, first, middle, last = Flows(env), Port(1.0), Port(4.0), Port(2.5)
    flows.send(10.0, through(first, middle), noting(log, env, "slow"))
    flows.send(25.0, through(middle, last), noting(log, env, "fast"))
    env.run()
    # Two each would fill the middle port, but slow stops at 1; then the last port is full at 2.5.
    assert log == [("slow", 10.0), ("fast", 10.0)]


def test_parts_of_a_transfer_side_by_side_keep_step(env: Timetable) -> None:
    log: Log = []
    flows, left, right = Flows(env), Port(10.0), Port(2.0)
    flows.send(40.0, ((left, 0.5), (right, 0.5)), noting(log, env, "two"))
    flows.send(80.0, through(left), noting(log, env, "one"))
    env.run()
    # The right port takes 2 a second, so that the left one carries as much, and 8 for the other.
    assert log == [("two", 10.0), ("one", 10.0)]
    assert (left.carried_bytes, right.carried_bytes) == (100.0, 20.0)


def test_a_closed_port_stops_only_who_crosses_it(env: Timetable) -> None:
    log: Log = []
    flows, shared, store = Flows(env), Port(10.0), Port(10.0)
    flows.send(20.0, through(store, shared), noting(log, env, "weights"))
    flows.send(20.0, through(shared), noting(log, env, "kv"))
    env.call(2.0, CONTROL, lambda _: flows.set_open(store, False))
    env.call(7.0, CONTROL, lambda _: flows.set_open(store, True))
    env.run()
    # Five a second each for 2 s; then kv has all, for its last 10, and weights go on at 7 s.
    assert log == [("kv", 3.0), ("weights", 8.0)]


class Sent(NamedTuple):
    """A transfer of the plain network: its way in shares of each port."""

    start_s: Fraction
    size: Fraction
    shares: dict[int, Fraction]


def fair(capacities: list[Fraction], active: dict[int, Sent]) -> dict[int, Fraction]:
    """Return max-min fair rates: all rise together until a port is full; who crosses it stays."""
    rates: dict[int, Fraction] = {}
    while len(rates) < len(active):
        full = {}
        for port, capacity in enumerate(capacities):
            taken = sum(rates[n] * active[n].shares.get(port, 0) for n in rates)
            rising = sum(s.shares.get(port, 0) for n, s in active.items() if n not in rates)
            if rising:
                full[port] = (capacity - taken) / rising
        level = min(full.values())
        stopped = [port for port, at in full.items() if at == level]
        for number, sent in active.items():
            if number not in rates and any(sent.shares.get(port) for port in stopped):
                rates[number] = level
    return rates


def plain(capacities: list[Fraction], transfers: list[Sent]) -> list[Fraction]:
    """Return when each transfer ends."""
    ends = [Fraction(0)] * len(transfers)
    left = {number: sent.size for number, sent in enumerate(transfers)}
    now = Fraction(0)
    while left:
        active = {n: transfers[n] for n in left if transfers[n].start_s <= now}
        rates = fair(capacities, active)
        nexts = [left[n] / rate for n, rate in rates.items()]
        nexts += [transfers[n].start_s - now for n in left if n not in active]
        step = min(nexts)
        for number, rate in rates.items():
            left[number] -= rate * step
        now += step
        for number in [n for n in active if not left[n]]:
            ends[number] = now
            del left[number]
    return ends


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Fraction], list[Sent]]:
    tenths = st.integers(1, 60).map(lambda n: Fraction(n, 10))
    capacities = draw(st.lists(tenths, min_size=1, max_size=6))
    shares = st.sampled_from([Fraction(1), Fraction(1), Fraction(1, 2), Fraction(1, 3)])
    way = st.dictionaries(st.integers(0, len(capacities) - 1), shares, min_size=1, max_size=3)
    starts = st.sampled_from([0, 0, 0, 1, 2, 5]).map(Fraction)
    known = draw(st.lists(way, min_size=1, max_size=4))  # several transfers may take one way
    sends = st.builds(Sent, starts, tenths, st.one_of(st.sampled_from(known), way))
    return capacities, draw(st.lists(sends, min_size=1, max_size=8))


@settings(deadline=None, max_examples=60)
@given(networks())
def test_transfers_end_when_those_of_the_plain_network_do(
    network: tuple[list[Fraction], list[Sent]],
) -> None:
    capacities, transfers = network
    env = Timetable()
    flows, ports = Flows(env), [Port(float(capacity)) for capacity in capacities]
    ends: dict[int, float] = {}

    def send(number: int, sent: Sent) -> None:
        way = tuple((ports[port], float(share)) for port, share in sorted(sent.shares.items()))
        flows.send(float(sent.size), way, lambda: ends.update({number: env.now}))

    for number, sent in enumerate(transfers):
        env.call(float(sent.start_s), CONTROL, lambda _, n=number, s=sent: send(n, s))
    env.run()
    expected = plain(capacities, transfers)
    assert [ends[number] for number in range(len(transfers))] == pytest.approx(
        [float(end) for end in expected], rel=1e-9
    )
    # No byte is lost or made: every port has carried its share of all.
    for number, port in enumerate(ports):
        crossed = sum(sent.size * sent.shares.get(number, 0) for sent in transfers)
        assert port.carried_bytes == pytest.approx(float(crossed), rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(networks())
def test_every_transfer_has_a_bottleneck(network: tuple[list[Fraction], list[Sent]]) -> None:
    """What makes rates max-min fair (Bertsekas and Gallager, 6.5.2): each crosses a full port on
    which nobody is faster."""
    capacities, transfers = network
    env = Timetable()
    flows, ports = Flows(env), [Port(float(capacity)) for capacity in capacities]
    gauges = [Port(inf) for _ in transfers]  # unbounded: what each carries is the transfer's own
    for sent, gauge in zip(transfers, gauges, strict=True):
        way = [(ports[port], float(share)) for port, share in sorted(sent.shares.items())]
        flows.send(1e6, (*way, (gauge, 1.0)), lambda: None)
    env.run(until=1.0)
    flows.settle()
    rates = [gauge.carried_bytes for gauge in gauges]
    for sent, rate in zip(transfers, rates, strict=True):
        assert any(
            ports[port].carried_bytes == pytest.approx(ports[port].bytes_per_s)
            and rate
            >= max(r for r, t in zip(rates, transfers, strict=True) if port in t.shares)
            * (1 - 1e-9)
            for port in sent.shares
        )
    assert all(port.carried_bytes <= port.bytes_per_s * (1 + 1e-9) for port in ports)


def test_one_bottleneck_among_wide_ports_is_m_g_1_ps() -> None:
    """Ten senders, each behind a port as wide as the one they all cross: theirs never bind."""
    env, rng, load, count = Timetable(), np.random.default_rng(5), 0.6, 6_000
    flows, core = Flows(env), Port(1.0)
    ways = [through(Port(1.0), core, Port(1.0)) for _ in range(10)]
    arrivals_s = np.cumsum(rng.exponential(1.0 / load, count)).tolist()
    sizes, senders = rng.exponential(1.0, count).tolist(), rng.integers(10, size=count).tolist()
    stays: dict[int, float] = {}

    def send(number: int) -> None:
        def done() -> None:
            stays[number] = env.now - arrivals_s[number]

        flows.send(sizes[number], ways[senders[number]], done)
        if number + 1 < count:
            env.call(arrivals_s[number + 1], CONTROL, lambda _: send(number + 1))

    env.call(arrivals_s[0], CONTROL, lambda _: send(0))
    env.run()
    stay = batch_means([stays[number] for number in range(count)])
    assert mg1_ps_sojourn_s(load, 1.0) in stay
    assert stay.relative < 0.2
