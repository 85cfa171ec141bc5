"""Scaling a trace: exact on a tiny one, whole on a real one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import SeedSequence

from factory_sim.errors import InputError
from factory_sim.scenario.arrivals import TraceArrivals
from factory_sim.workload import scaling
from factory_sim.workload.means import mean_lengths
from factory_sim.workload.scaling import period, replay
from factory_sim.workload.stream import Block, open_blocks, trace_reports
from factory_sim.workload.traces import Trace, read_trace
from tests.workload.making import CATALOG, TRACES, needs_traces, requests, workload

# Four requests, one a second on average: the trace stands for four seconds.
TINY = "arrival_s,input_toks,output_toks,session\n0,10,1,a\n0.5,20,2,b\n2,30,3,a\n3,40,4,\n"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.csv").write_text(TINY)
    return tmp_path / "tiny.csv"


def replayed(path: Path, duration_s: float = 100.0, seed: int = 1, **scale: Any) -> Block:
    fields = {"process": "trace", "path": str(path), **scale}
    whole = requests(workload(arrivals=fields), duration_s, seed)
    cut = requests(workload(arrivals=fields), duration_s, seed, block=3)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, cut, strict=True))
    return whole


def test_a_replay_is_the_trace(tiny: Path) -> None:
    found = replayed(tiny)
    assert found.arrival_s.tolist() == [0.0, 0.5, 2.0, 3.0]
    assert found.prompt.tolist() == [10, 20, 30, 40]
    assert found.output.tolist() == [1, 2, 3, 4]
    assert found.cached.tolist() == [0, 0, 0, 0]
    assert found.session.tolist() == [0, 1, 0, -1]


def test_duration_and_requests_end_it(tiny: Path) -> None:
    assert replayed(tiny, 2.0).prompt.tolist() == [10, 20]
    assert replayed(tiny, requests=3).prompt.tolist() == [10, 20, 30]
    assert replayed(tiny, loop=True, requests=6).prompt.tolist() == [10, 20, 30, 40, 10, 20]
    assert replayed(tiny, loop=True, requests=4).prompt.tolist() == [10, 20, 30, 40]
    assert len(replayed(tiny, 0.0).prompt) == 0


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.floats(0.0, 2.0), max_size=6),
    people=st.lists(st.integers(-1, 2), min_size=7, max_size=7),
    duration_s=st.floats(0.0, 30.0),
    requests=st.none() | st.integers(1, 20),
    loop=st.booleans(),
    speedup=st.sampled_from([1.0, 3.0]),
    block=st.integers(1, 9),
)
def test_a_replay_goes_through_the_trace_one_request_after_another(
    gaps: list[float],
    people: list[int],
    duration_s: float,
    requests: int | None,
    loop: bool,
    speedup: float,
    block: int,
) -> None:
    arrival_s = np.cumsum([0.0, *gaps])
    n = len(arrival_s)
    prompt, session = np.arange(n) + 1, np.array(people[:n])
    trace = Trace(arrival_s, prompt, prompt * 2, None, session, None)
    round_s, sessions = period(arrival_s) / speedup, max(session) + 1
    loop = loop and round_s > 0.01

    expected: list[tuple[float, int, int]] = []
    for turn in range(10_000 if loop else 1):
        for at, tokens, who in zip(arrival_s, prompt, session, strict=True):
            late_s = at / speedup + turn * round_s
            if late_s < duration_s and len(expected) != requests:
                expected.append((late_s, tokens, who + turn * sessions if who >= 0 else -1))
        if turn * round_s > duration_s or len(expected) == requests:
            break

    scale = TraceArrivals(
        process="trace", path="t.csv", loop=loop, speedup=speedup, requests=requests
    )
    parts = list(replay(trace, scale, duration_s, np.random.default_rng(1), block))
    assert all(len(part.prompt) == block for part in parts[:-1])
    found = [
        row for part in parts for row in zip(part.arrival_s, part.prompt, part.session, strict=True)
    ]
    assert found == expected


def test_a_replay_without_scale_copies_nothing(tiny: Path) -> None:
    arrivals = TraceArrivals(process="trace", path=str(tiny))
    trace, _ = read_trace(arrivals, tiny.parent, "arrivals")
    parts = list(replay(trace, arrivals, 100.0, np.random.default_rng(1), 3))
    assert [len(part.prompt) for part in parts] == [3, 1]
    for part in parts:
        for whole, own in zip(trace, part, strict=True):
            assert own is whole is None or np.shares_memory(own, whole)
            assert own is None or not own.flags.writeable


def test_speedup_divides_times(tiny: Path) -> None:
    assert replayed(tiny, speedup=4).arrival_s.tolist() == [0.0, 0.125, 0.5, 0.75]


def test_loop_repeats_after_one_more_mean_gap_with_new_sessions(tiny: Path) -> None:
    found = replayed(tiny, 9.0, loop=True)
    assert found.arrival_s.tolist() == [0.0, 0.5, 2.0, 3.0, 4.0, 4.5, 6.0, 7.0, 8.0, 8.5]
    assert found.prompt.tolist() == [10, 20, 30, 40] * 2 + [10, 20]
    assert found.session.tolist() == [0, 1, 0, -1, 2, 3, 2, -1, 4, 5]
    assert replayed(tiny, 4.5, loop=True, speedup=2).arrival_s.tolist()[4:6] == [2.0, 2.25]


def test_superposed_copies_are_the_trace_rotated(tiny: Path) -> None:
    found = replayed(tiny, superpose=3)
    assert len(found.prompt) == 12
    assert (found.arrival_s < 4.0).all()
    assert (np.diff(found.arrival_s) >= 0.0).all()
    for copy in range(3):
        first, second = (found.arrival_s[found.prompt == p] for p in (10, 20))
        assert len(first) == len(second) == 3
        mine = found.session // 2 == copy
        gap = (
            found.arrival_s[mine & (found.prompt == 20)]
            - found.arrival_s[mine & (found.prompt == 10)]
        )
        assert gap[0] % 4.0 == pytest.approx(0.5, abs=1e-12)
    original = [t for t in (0.0, 0.5, 2.0, 3.0) if t in found.arrival_s]
    assert original == [0.0, 0.5, 2.0, 3.0]
    assert replayed(tiny, superpose=3, seed=2).arrival_s.tolist() != found.arrival_s.tolist()


@settings(max_examples=80, deadline=None)
@given(
    times=st.lists(st.integers(0, 12).map(lambda n: n / 4) | st.floats(0.0, 3.0), min_size=1),
    people=st.integers(1, 3),
    copies=st.integers(1, 7),
    at_once=st.integers(1, 30),
    seed=st.integers(0, 9),
    scale=st.fixed_dictionaries({}, optional={"thin": st.just(0.4), "loop": st.just(True)}),
)
def test_copies_are_the_same_however_many_are_put_in_order_at_once(
    times: list[float], people: int, copies: int, at_once: int, seed: int, scale: dict[str, Any]
) -> None:
    arrival_s = np.sort(times) - min(times)
    numbers = np.arange(len(times))
    trace = Trace(arrival_s, numbers + 1, numbers + 1, None, numbers % people - 1, None)
    if not arrival_s[-1] > 0.0:
        scale.pop("loop", None)
    spec = TraceArrivals(process="trace", path="t", superpose=copies, **scale)

    def of(many: int) -> list[list[Any]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scaling, "AT_ONCE", many)
            parts = list(replay(trace, spec, 20.0, np.random.default_rng(seed), 1000))
        return [[c for part in parts for c in part[column].tolist()] for column in (0, 1, 4)]

    found = of(at_once)
    assert found == of(10_000)
    assert found[0] == sorted(found[0])
    if not scale:
        assert sorted(found[1]) == sorted((numbers + 1).tolist() * copies)


def test_thinning_keeps_whole_sessions(tmp_path: Path) -> None:
    lines = [f"{k},{k + 1},1,{k % 500}" for k in range(2000)]
    path = tmp_path / "sessions.csv"
    path.write_text("arrival_s,input_toks,output_toks,session\n" + "\n".join(lines))
    found = replayed(path, 3000.0, thin="30 %")
    kept, counts = np.unique(found.session, return_counts=True)
    assert set(counts) == {4}
    assert len(kept) / 500 == pytest.approx(0.3, abs=0.06)
    more = replayed(path, 3000.0, thin="60 %")
    assert set(found.prompt) < set(more.prompt)
    assert (more.arrival_s == more.prompt - 1.0).all()


def test_thinning_without_sessions_is_by_request(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text(
        "arrival_s,input_toks,output_toks\n" + "\n".join(f"{k},1,1" for k in range(4000))
    )
    assert len(replayed(path, 5000.0, thin=0.25).prompt) / 4000 == pytest.approx(0.25, abs=0.03)


def test_an_instant_cannot_loop(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("arrival_s,input_toks,output_toks\n5,1,1\n")
    assert replayed(path).arrival_s.tolist() == [0.0]
    with pytest.raises(InputError, match=r"^workload\.arrivals\.loop: the trace lasts no time"):
        replayed(path, loop=True)


def test_cached_tokens_come_from_the_trace_or_the_scenario_but_not_both(tmp_path: Path) -> None:
    path = tmp_path / "hits.csv"
    path.write_text("arrival_s,input_toks,output_toks,cached_toks\n0,10,1,4\n1,10,1,10\n")
    arrivals = {"process": "trace", "path": "hits.csv"}
    spec = workload(arrivals=arrivals)
    (only,) = open_blocks(spec, CATALOG, 9.0, SeedSequence(1), tmp_path)
    assert only.cached.tolist() == [4, 9]
    assert mean_lengths(spec, CATALOG, tmp_path) == (10.0, 1.0, 6.5)
    assert [report.used for report in trace_reports(spec, tmp_path)] == [2]
    with pytest.raises(InputError, match=r"^chat\.cached: the trace hits\.csv has cached tokens"):
        open_blocks(
            workload(arrivals=arrivals, cached=3), CATALOG, 9.0, SeedSequence(1), tmp_path, "chat"
        )


def test_lengths_drawn_from_a_file_keep_its_pairs(tiny: Path) -> None:
    fields: dict[str, Any] = {"lengths": {"trace": {"path": str(tiny)}}}
    spec = workload(arrivals={"process": "offline", "requests": 4000}, **fields)
    found = requests(spec)
    pairs, counts = np.unique(np.stack([found.prompt, found.output]), axis=1, return_counts=True)
    assert pairs.tolist() == [[10, 20, 30, 40], [1, 2, 3, 4]]
    assert (np.abs(counts - 1000) < 100).all()
    assert mean_lengths(spec, CATALOG, tiny.parent) == (25.0, 2.5, 0.0)
    assert [report.rows for report in trace_reports(spec, tiny.parent)] == [4]


@needs_traces
def test_the_azure_hour_replays_at_its_recorded_times() -> None:
    path = TRACES / "azure2023_conv.csv"
    recorded = np.loadtxt(path, delimiter=",", skiprows=1)
    spec = workload(arrivals={"process": "trace", "path": str(path)})
    found = requests(spec, 4000.0)
    assert found.arrival_s.tobytes() == recorded[:, 0].tobytes()
    assert found.prompt.tolist() == recorded[:, 1].tolist()
    assert found.output.tolist() == recorded[:, 2].tolist()
