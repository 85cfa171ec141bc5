"""Delivery: when the tokens of an answer reach a user over TCP, far away or on a poor line.

Each token is an event of its own on the wire, and the browser shows them in order: one that is lost
holds back all behind it until it has been sent again.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Counts = NDArray[np.int64]

EVENT_BYTES = 300.0
"""What one token takes on the wire, an estimate: a `chat.completion.chunk` of vLLM's API has about
220 bytes around a token of four letters; HTTP/1.1's chunk frames it with 7, a TLS 1.3 record with
22 (RFC 8446, section 5.2), TCP with time stamps and IPv4 with 52 (RFC 9293, 7323, 791)."""

SEGMENT_BYTES = 1448.0
"""The most of a TCP segment on Ethernet: 1,500 less headers of IPv4 and of TCP with time stamps."""

LEAST_MARGIN_S = 0.2
"""By which a timeout exceeds the round trip at the least: TCP_RTO_MIN of Linux, which bounds the
term of the deviation (Sarolahti and Kuznetsov, Congestion Control in Linux TCP, USENIX 2002). RFC
6298, rule 2.4, asks for a timeout of a second or more."""

DUPLICATES = 3
"""Acknowledgements of later segments after which one counts as lost (RFC 5681, section 3.2)."""

ACKS_EVERY = 2
"""Segments that one acknowledgement covers (delayed acknowledgements, RFC 5681, section 4.2)."""


class Line(NamedTuple):
    """The way between a user and a deployment.

    round_trip_s: without queues. jitter_s: mean of what queues add each way, exponential. loss: of
    packets, each for itself. bytes_per_s: of the narrowest part, most often the last mile.
    """

    round_trip_s: float
    jitter_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = inf

    @property
    def chancy(self) -> bool:
        """Tell whether anything of it is left to chance."""
        return self.jitter_s > 0.0 or self.loss > 0.0


class Delivery(NamedTuple):
    """When an answer's first and last token are seen, and the longest gap between two; seconds."""

    first_s: float
    last_s: float
    longest_gap_s: float


def timeout_s(line: Line) -> float:
    """Return TCP's retransmission timeout once it knows the line: SRTT + 4 RTTVAR (RFC 6298, 2.3).

    RTTVAR is the mean deviation of the round trip: 2/e of the mean of an exponential delay, as
    acknowledgements are taken to come back without one.
    """
    deviation_s = 2.0 / np.e * line.jitter_s
    margin_s = max(LEAST_MARGIN_S, 4.0 * float(deviation_s))
    return line.round_trip_s + line.jitter_s + margin_s


def flow_bytes_per_s(line: Line) -> float:
    """Return what one TCP connection carries at the most over a line that loses packets.

    The approximate model of Padhye, Firoiu, Towsley and Kurose (SIGCOMM 1998) without a limit of
    the receiver's; with few losses it is the square-root law of Mathis et al. (1997). Infinite
    without losses.
    """
    p, rtt_s = line.loss, line.round_trip_s + line.jitter_s
    if not p:
        return inf
    avoiding_s = rtt_s * sqrt(2.0 * ACKS_EVERY * p / 3.0)
    timing_out_s = (
        timeout_s(line)
        * min(1.0, 3.0 * sqrt(3.0 * ACKS_EVERY * p / 8.0))
        * p
        * (1.0 + 32.0 * p * p)
    )
    return SEGMENT_BYTES / (avoiding_s + timing_out_s)


def way_in_s(line: Line, rng: np.random.Generator | None) -> float:
    """Return how long a request takes to the server, as one packet on an open connection.

    rng: draws what is left to chance; None where nothing is.
    """
    if rng is None:
        return line.round_trip_s / 2.0
    lost = int(rng.geometric(1.0 - line.loss)) - 1
    delay_s = line.jitter_s * float(rng.standard_exponential())
    return line.round_trip_s / 2.0 + delay_s + timeout_s(line) * (2.0**lost - 1.0)


def seen_s(line: Line, sent_s: Floats, delays_s: Floats, again_s: Floats, lost: Counts) -> Floats:
    """Return when each of an answer's events is seen, for events handed to TCP at `sent_s`.

    delays_s, again_s: what queues add to the first sending and to the one that arrives. lost: how
    often each is lost. All arrays have a row an event, in order.

    An event waits for its turn on the narrowest part, and nothing overtakes in queues. One that is
    lost is sent again when the third later event that came through has been acknowledged, or at
    the timeout if that is sooner or too few follow; lost again, at timeouts that double (RFC 5681,
    3.2; RFC 6298, 5.5). None is seen before those ahead of it.
    """
    turn_s = EVENT_BYTES / line.bytes_per_s
    steps = np.arange(len(sent_s)) * turn_s
    through_s = np.maximum.accumulate(sent_s - steps) + steps + turn_s
    half_s = line.round_trip_s / 2.0
    arrived_s = np.maximum.accumulate(through_s + half_s + delays_s)
    unlucky = np.flatnonzero(lost)
    if len(unlucky):
        wait_s = timeout_s(line)
        came = np.flatnonzero(lost == 0)
        noticed_s = np.full(len(unlucky), inf)
        third = np.searchsorted(came, unlucky) + DUPLICATES - 1
        told = third < len(came)
        noticed_s[told] = arrived_s[came[third[told]]] + half_s
        timer_s = sent_s[unlucky] + wait_s
        fast = noticed_s < timer_s
        twice = 2.0 ** lost[unlucky]
        resent_s = np.where(
            fast,
            noticed_s + wait_s * (twice / 2.0 - 1.0),
            timer_s + wait_s * (twice - 2.0),
        )
        arrived_s[unlucky] = resent_s + turn_s + half_s + again_s[unlucky]
    return np.maximum.accumulate(arrived_s)


def deliver(
    line: Line, first_s: float, last_s: float, tokens: int, rng: np.random.Generator | None
) -> Delivery:
    """Return when a user sees an answer whose tokens were made evenly from `first_s` to `last_s`.

    rng: draws what is left to chance; None where nothing is, which needs no draws.
    """
    made_s = (last_s - first_s) / (tokens - 1) if tokens > 1 else 0.0
    gap_s = max(made_s, EVENT_BYTES / flow_bytes_per_s(line))
    if rng is None:
        turn_s = EVENT_BYTES / line.bytes_per_s
        begin_s = first_s + turn_s + line.round_trip_s / 2.0
        pace_s = max(gap_s, turn_s) if tokens > 1 else 0.0
        return Delivery(begin_s, begin_s + pace_s * (tokens - 1), pace_s)
    sent_s = first_s + gap_s * np.arange(tokens)
    lost = rng.geometric(1.0 - line.loss, tokens) - 1
    delays_s, again_s = line.jitter_s * rng.standard_exponential((2, tokens))
    shown_s = seen_s(line, sent_s, delays_s, again_s, lost)
    longest_s = float(np.diff(shown_s).max()) if tokens > 1 else 0.0
    return Delivery(float(shown_s[0]), float(shown_s[-1]), longest_s)
