"""The delivery of a token stream, held to a plain simulation of its packets and to theory."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.physics.delivery import (
    EVENT_BYTES,
    SEGMENT_BYTES,
    Line,
    deliver,
    flow_bytes_per_s,
    seen_s,
    timeout_s,
    way_in_s,
)


def packet_by_packet(
    line: Line, made_s: list[float], delays_s: list[float], again_s: list[float], lost: list[int]
) -> list[float]:
    """Return when events are seen: send, lose and acknowledge one packet after another."""
    half_s, turn_s, wait_s = line.round_trip_s / 2, EVENT_BYTES / line.bytes_per_s, timeout_s(line)
    happenings: list[Any] = []
    for number, time in enumerate(made_s):
        heappush(happenings, (time, 2, number, "send", 0.0))
    free_s = last_s = 0.0
    losses, received, told = list(lost), set(), [0] * len(made_s)
    resent: set[int] = set()
    seen: list[float] = []
    timer_s = [0.0] * len(made_s)  # when the one that counts goes off

    def send_again(number: int, now: float, next_wait_s: float) -> None:
        resent.add(number)
        losses[number] -= 1
        if losses[number] == 0:
            come_s = now + turn_s + half_s + again_s[number]
            heappush(happenings, (come_s, 0, number, "come", 0.0))
        else:
            timer_s[number] = now + next_wait_s
            heappush(happenings, (timer_s[number], 1, number, "timer", next_wait_s))

    while happenings:
        now, _, number, what, waited_s = heappop(happenings)
        if what == "send":
            free_s = max(free_s, now) + turn_s
            last_s = max(last_s, free_s + half_s + delays_s[number])
            if lost[number]:
                timer_s[number] = now + wait_s
                heappush(happenings, (timer_s[number], 1, number, "timer", wait_s))
            else:
                heappush(happenings, (last_s, 0, number, "come", 0.0))
                heappush(happenings, (last_s + half_s, 3, number, "acknowledge", 0.0))
        elif what == "come":
            received.add(number)
            while len(seen) in received:
                seen.append(now)
        elif what == "acknowledge":
            for earlier in range(number):
                if lost[earlier] and earlier not in resent:
                    told[earlier] += 1
                    if told[earlier] == 3:
                        send_again(earlier, now, wait_s)
        elif now == timer_s[number] and losses[number] > 0:
            send_again(number, now, 2 * waited_s)
    return seen


LINES = st.builds(
    Line,
    st.floats(0.001, 0.5),
    st.floats(0.001, 0.1),
    st.just(0.1),
    st.sampled_from([inf, 1e6, 31_234.0, 9_876.0]),
)


@given(LINES, st.floats(0.0003, 0.21), st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_an_answer_is_seen_as_packets_would_bring_it(
    line: Line, gap_s: float, seed: int, tokens: int
) -> None:
    rng = np.random.default_rng(seed)
    made_s = np.cumsum(gap_s * rng.uniform(0.5, 1.5, tokens))
    delays_s, again_s = line.jitter_s * rng.standard_exponential((2, tokens))
    lost = rng.choice([0, 0, 0, 1, 1, 2, 3], tokens)
    found = seen_s(line, made_s, delays_s, again_s, lost)
    plain = packet_by_packet(
        line, made_s.tolist(), delays_s.tolist(), again_s.tolist(), lost.tolist()
    )
    assert found == pytest.approx(plain, rel=1e-9)


@given(
    st.floats(0, 0.5), st.sampled_from([inf, 1e6, 9_876.0]), st.floats(0, 0.1), st.integers(1, 50)
)
def test_without_chance_a_closed_form_is_enough(
    round_trip_s: float, bytes_per_s: float, gap_s: float, tokens: int
) -> None:
    line = Line(round_trip_s, bytes_per_s=bytes_per_s)
    nothing = np.zeros(tokens)
    made_s = 3.0 + gap_s * np.arange(tokens)
    seen = seen_s(line, made_s, nothing, nothing, nothing.astype(int))
    closed = deliver(line, 3.0, float(made_s[-1]), tokens, None)
    assert closed.first_s == pytest.approx(seen[0])
    assert closed.last_s == pytest.approx(seen[-1])
    assert closed.longest_gap_s == pytest.approx(np.diff(seen).max() if tokens > 1 else 0.0)


def test_one_loss_in_a_steady_stream_stalls_it_for_a_round_trip_and_three_tokens() -> None:
    line, gap_s = Line(0.1, loss=0.01), 0.01
    lost = np.zeros(40, dtype=int)
    lost[10] = 1
    seen = seen_s(line, gap_s * np.arange(40), np.zeros(40), np.zeros(40), lost)
    assert seen[10] == pytest.approx(0.1 + 0.05 + 3 * gap_s + 0.1)
    assert np.diff(seen).max() == pytest.approx(gap_s + 3 * gap_s + 0.1)
    assert seen[30] == pytest.approx(0.3 + 0.05)  # it has caught up


def test_a_loss_with_too_little_behind_it_waits_for_the_timeout() -> None:
    line, lost = Line(0.1, loss=0.01), np.array([0, 0, 0, 1, 0, 0])
    seen = seen_s(line, 0.01 * np.arange(6), np.zeros(6), np.zeros(6), lost)
    assert timeout_s(line) == pytest.approx(0.3)
    assert seen[3:] == pytest.approx([0.03 + 0.3 + 0.05] * 3)


def test_losses_limit_a_connection_as_the_square_root_law_says_while_they_are_few() -> None:
    few = Line(0.1, loss=1e-6)
    law = SEGMENT_BYTES / 0.1 * sqrt(3 / (2 * 2 * few.loss))
    assert flow_bytes_per_s(few) == pytest.approx(law, rel=0.01)
    many = Line(0.1, loss=0.1)
    assert flow_bytes_per_s(many) < 0.75 * SEGMENT_BYTES / 0.1 * sqrt(3 / (2 * 2 * many.loss))
    assert flow_bytes_per_s(Line(0.1)) == inf


def test_a_far_line_with_losses_carries_fewer_tokens_than_are_made() -> None:
    line = Line(0.3, loss=0.05)
    seen = deliver(line, 0.0, 20.0, 4001, np.random.default_rng(1))  # 200 tokens/s are made
    pace = 4000 / (seen.last_s - seen.first_s)
    assert pace == pytest.approx(flow_bytes_per_s(line) / EVENT_BYTES, rel=0.02)
    assert pace < 60.0


def test_the_way_in_is_half_a_round_trip_and_chance() -> None:
    assert way_in_s(Line(0.08), None) == 0.04
    line, rng = Line(0.08, 0.02, 0.1), np.random.default_rng(2)
    drawn = [way_in_s(line, rng) for _ in range(40_000)]
    # Lost k times with chance p^k (1 - p): timeouts of T (2^k - 1), in the mean T p / (1 - 2 p).
    mean_s = 0.04 + 0.02 + timeout_s(line) * 0.1 / 0.8
    assert np.mean(drawn) == pytest.approx(mean_s, rel=0.03)
