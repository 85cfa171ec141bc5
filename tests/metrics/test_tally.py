"""A tally answers as a table of the same requests does."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_sim.factory.gateway import ROW
from factory_sim.metrics import tally as tallies
from factory_sim.metrics.answers import LATENCIES, Answers, Found, Which
from factory_sim.metrics.requests import OUTCOMES, Promise, Tariff, Terms, Tier, request_table
from factory_sim.metrics.rows import Rows
from factory_sim.metrics.spread import ERROR
from factory_sim.metrics.tally import Tally

SAME = 1e-12
INF = float("inf")
STREAMS, TENANTS = ["a", "b", "c"], ["x", "y"]
PROMISES = {"d": Promise(1.0, 0.05, 9.0), "e": Promise(INF, INF, INF, 2.0)}
CHEAP = Tier("cheap", None, 90.0)
DEAR = Tier("dear", Promise(0.5, INF, INF, 1.0), 95.0)


def rows_of(rng: np.random.Generator, many: int, terms: Terms) -> np.ndarray:
    """Return random rows: all ways to end, some with one token, some without any."""
    rows = np.zeros(many, ROW)
    rows["number"] = rng.permutation(many)
    rows["stream"] = rng.integers(0, 3, many)
    rows["tenant"] = rng.integers(0, 2, many)
    rows["arrival_s"] = rng.uniform(0.0, 20.0, many)
    rows["outcome"] = rng.choice(4, many, p=[0.7, 0.1, 0.1, 0.1])
    done = rows["outcome"] == 0
    begun = done | (rng.random(many) < 0.5)
    first_s = rows["arrival_s"] + rng.exponential(0.5, many)
    rows["first_token_s"] = np.where(begun, first_s, np.nan)
    rows["admitted_s"] = np.where(begun, rows["arrival_s"], np.nan)
    rows["emitted"] = np.where(begun, rng.integers(1, 5, many), 0)
    length_s = np.where(rows["emitted"] > 1, rng.exponential(3.0, many), 0.0)
    rows["end_s"] = np.where(done, first_s + length_s, np.nan)
    rows["prompt"] = rng.integers(1, 9_000, many)
    rows["cached"] = rng.integers(0, 5, many)
    rows["transfer_s"] = np.where(rng.random(many) < 0.2, np.nan, rng.exponential(0.01, many))
    rows["encoding_s"] = rows["transfer_s"]
    if terms.reasoning:
        rows["reasoning"] = rng.integers(0, 3, many)
        rows["answer_s"] = np.where(begun, first_s + length_s / 2, np.nan)
    rows["images"] = rng.integers(0, 3, many)
    return rows


@st.composite
def both(draw: st.DrawFn) -> tuple[Rows, Tally, Terms]:
    """Draw the same requests with a row each, and counted in pieces by several hands."""
    flags = st.booleans()
    terms = Terms(
        STREAMS,
        [0.0, 0.01, 0.2],
        draw(st.sampled_from([0.0, 7.0, 25.0])),
        PROMISES,
        {"d"} if draw(flags) else (),
        {"e"} if draw(flags) else (),
        [CHEAP, DEAR, CHEAP] if draw(flags) else (),
        TENANTS if draw(flags) else (),
        draw(flags),
        draw(flags),
        [INF, 4.0, INF],
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    raw = {name: rows_of(rng, draw(st.integers(0, 60)), terms) for name in ("d", "e")}
    hands = []
    for name, rows in raw.items():
        for part in np.array_split(rows, draw(st.integers(1, 4))):
            hands.append(Tally(terms))
            hands[-1].add(name, part)
    whole = Tally(terms)
    for hand in draw(st.permutations(hands)):
        whole.merge(hand)
    table = request_table({name: [rows] for name, rows in raw.items()}, terms)
    return Rows(table, terms), whole, terms


def assert_near(one: Any, other: Any, error: float = SAME) -> None:
    assert one == pytest.approx(other, rel=error * (1 + 1e-9), abs=1e-12)


def assert_found(one: Found | None, other: Found | None) -> None:
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert_near(other.figures["mean"], one.figures["mean"])
        assert_near(other.figures["std"], one.figures["std"], 1e-10)
        for p in (50, 90, 95, 99):
            assert_near(other.figures[f"p{p}"], one.figures[f"p{p}"], ERROR)
        assert one.half_widths.keys() >= {"mean"} & other.half_widths.keys()


def assert_same(one: Answers, other: Answers, terms: Terms) -> None:
    assert set(one.deployments) == set(other.deployments)
    assert set(one.workloads) == set(other.workloads)
    counts = other.outcomes()
    assert {name: one.outcomes().get(name, 0) for name in OUTCOMES} == counts
    which: Which
    for which in get_args(Which):
        ours, theirs = one.sums(which), other.sums(which)
        if not terms.images:  # a table without the column
            assert (theirs.images, theirs.pictured) == (0, 0)
        assert ours == theirs, which
    for latency in LATENCIES:
        assert_found(one.spread(latency), other.spread(latency))
    if terms.tiers:
        prices = {
            name: Tariff(k + 1.0, 0.1, 3.0, within_slo=k % 2 == 0) for k, name in enumerate(STREAMS)
        }
        scales = {"d": 3.0, "e": 1.0}
        assert_near(other.dollars(prices, scales), one.dollars(prices, scales))


@settings(deadline=None, max_examples=12)
@given(both())
def test_a_tally_answers_as_rows_do(answers: tuple[Rows, Tally, Terms]) -> None:
    rows, tally, terms = answers
    assert_same(rows, tally, terms)
    for name in ("d", "e"):
        assert_same(rows.of([name]), tally.of([name]), terms)
    assert_same(rows.of(workloads=["b", "c"]), tally.of(workloads=["b", "c"]), terms)
    columns: list[Literal["workload", "class", "tenant"]] = ["workload"]
    columns += ["class"] if terms.tiers else []
    columns += ["tenant"] if terms.tenants else []
    for column in columns:
        one, other = dict(rows.by(column)), dict(tally.by(column))
        assert set(one) == set(other)
        if column != "workload":  # in the order of arrival, which a tally does not know
            assert list(one) == list(other)
        for name in one:
            assert_same(one[name], other[name], terms)
    for named in ("tenant", "reasoning_tokens"):
        assert rows.has(named) == tally.has(named)


@settings(deadline=None, max_examples=12)
@given(both(), st.sampled_from([50.0, 90.0, 99.0, 100.0]))
def test_a_verdict_is_exact_and_its_value_near(
    answers: tuple[Rows, Tally, Terms], percentile: float
) -> None:
    rows, tally, terms = answers
    for deployment in ("d", "e"):
        for stream, name in enumerate(STREAMS):
            promise = terms.promised(deployment)[stream]
            one, other = (each.of([deployment], [name]) for each in (rows, tally))
            latencies = ["ttft", "tpot", "e2e", *(["ttfo"] if terms.reasoning else [])]
            for latency in latencies:
                limit_s = getattr(promise, f"{latency}_s")
                if limit_s < INF:
                    exact = one.kept(latency, limit_s, percentile)
                    found = other.kept(latency, limit_s, percentile)
                    assert found.met == exact.met
                    assert (found.value_ms is None) == (exact.value_ms is None)
                    if found.value_ms is not None:
                        assert_near(found.value_ms, exact.value_ms, ERROR)
                        assert (found.value_ms <= limit_s * 1e3) or not exact.met


def counted(terms: Terms, *pieces: np.ndarray) -> Tally:
    found = Tally(terms)
    for piece in pieces:
        found.add("d", piece)
    return found


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = Terms(STREAMS, [0.0, 0.01, 0.2], 5.0, PROMISES)
    rows = rows_of(np.random.default_rng(5), 3_000, terms)
    whole = counted(terms, rows)
    monkeypatch.setattr(tallies, "AT_ONCE", 100)
    for pieces in (counted(terms, rows), counted(terms, *np.array_split(rows, 7))):
        assert_same(Rows(request_table({"d": [rows]}, terms), terms), pieces, terms)
        for latency in ("ttft_ms", "tpot_ms", "e2e_ms"):
            one, other = whole.spread(latency), pieces.spread(latency)
            assert one is not None and other is not None
            for p in (50, 90, 95, 99):  # of the same bins: to the last bit
                assert one.figures[f"p{p}"] == other.figures[f"p{p}"]


def test_what_was_not_promised_is_no_verdict_of_a_tally() -> None:
    terms = Terms(STREAMS, [0.0, 0.0, 0.0], 0.0, PROMISES)
    tally = counted(terms, rows_of(np.random.default_rng(5), 30, terms))
    with pytest.raises(AssertionError):
        tally.kept("ttft", 3.0, 99.0)


@pytest.mark.parametrize("late", [1, 2])
def test_a_promise_kept_by_a_hair_is_told_from_one_that_is_broken(late: int) -> None:
    # 90.91 % of 12 requests: the eleventh. A sketch cannot tell 0.9999 s from 1.0001 s.
    rows = np.zeros(12, ROW)
    rows["number"], rows["emitted"] = np.arange(12), 1
    rows["first_token_s"] = rows["end_s"] = np.where(np.arange(12) < 12 - late, 0.9999, 1.0001)
    terms = Terms(["a"], [0.0], 0.0, {"d": Promise(1.0, INF, INF)})
    exact = Rows(request_table({"d": [rows]}, terms), terms).kept("ttft", 1.0, 90.0)
    found = counted(terms, rows).kept("ttft", 1.0, 90.0)
    assert found.met == exact.met == (late == 1)
    assert found.value_ms is not None
    assert (found.value_ms <= 1000.0) == found.met
    assert found.value_ms == pytest.approx(1000.0, rel=ERROR)
