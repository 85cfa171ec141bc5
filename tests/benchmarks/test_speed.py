"""Cost per request, as a multiple of a bare SimPy timeout in the same process.

Machines are noisy and differ; the ratio of two things measured side by side holds better. Each is
taken as the least of several rounds, the two in turn. Where other work shares the cores, a run,
which fills their caches, still slows by more than a bare timeout, by up to 40 %: time is therefore
bounded with room above the aim, and the calls of functions, which no other work changes, closely.
What is timed is marked `alone`: those tests run one at a time.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import simpy
from pytest_benchmark.fixture import BenchmarkFixture

import factory_sim as fs
from factory_sim.factory.build import Factory, roofline
from factory_sim.factory.layout import lay_out
from factory_sim.physics.ideal import ideal
from factory_sim.scenario.scenario import Scenario

AZURE = Path(__file__).parents[3] / "shared/data/traces/azure2023_conv.csv"
AZURE_CHAT = Path(__file__).parents[2] / "configs/azure_chat.yaml"
FOUR = ("deployments.chat.replicas=4", "racks.0.servers_per_rack=4", "site.grid_limit=80 kW")

timed = pytest.mark.benchmark(timer=time.process_time)
needs_trace = pytest.mark.skipif(
    not AZURE.exists(), reason="needs ../shared/data/traces/azure2023_conv.csv"
)


def bare_timeout_s(cycles: int = 100_000) -> float:
    """Return the seconds that one cycle of a process in a bare `env.timeout` loop takes."""

    def ticking(env: simpy.Environment) -> Iterator[simpy.Event]:
        while True:
            yield env.timeout(1)

    env = simpy.Environment()
    env.process(ticking(env))
    started = time.process_time()
    env.run(until=cycles)
    return (time.process_time() - started) / cycles


def timeouts_per_request(
    benchmark: BenchmarkFixture, scenario: Scenario, rounds: int
) -> tuple[float, fs.Run]:
    """Return what a request costs in bare timeouts, and the last run. Prints the speed."""
    bare: list[float] = []
    run = benchmark.pedantic(
        fs.simulate,
        setup=lambda: bare.append(bare_timeout_s()) or ((scenario,), {}),
        rounds=rounds,
        warmup_rounds=1,
    )
    requests, least_s = run.summary["requests_arrived"], benchmark.stats.stats.min
    ratio = least_s / requests / min(bare)
    benchmark.extra_info["bare timeouts a request"] = ratio
    print(
        f"\n{scenario.name}: {ratio:.1f} bare timeouts a request; "
        f"{requests / least_s:,.0f} requests/s, "
        f"{run.record['simulated_s'] / least_s:,.0f} simulated seconds/s"
    )
    return ratio, run


def calls_per_request(scenario: Scenario) -> float:
    """Return how many functions a run calls for each request, whatever else the machine does."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run = fs.simulate(scenario)
    finally:
        sys.setprofile(None)
    return calls / len(run.requests)


def azure(*overrides: str) -> Scenario:
    return fs.load(AZURE_CHAT, [f"workload.chat.arrivals.path={AZURE}", *overrides])


def synthetic(rate: float, requests: int, *overrides: str) -> Scenario:
    """Return one replica under Poisson arrivals with the lengths of the Azure conversations."""
    arrivals = f"{{process: poisson, rate: {rate} /s, requests: {requests}}}"
    return fs.load(
        AZURE_CHAT,
        [
            f"workload.chat.arrivals={arrivals}",
            "workload.chat.lengths=azure-conv-2023",
            f"duration={2 * requests / rate} s",
            "drain=10 h",
            *overrides,
        ],
    )


@pytest.mark.alone
@pytest.mark.slow
@needs_trace
@timed
@pytest.mark.parametrize("overrides", [(), FOUR], ids=["one replica", "four replicas"])
def test_an_hour_of_conversations_costs_few_timeouts(
    benchmark: BenchmarkFixture, overrides: tuple[str, ...]
) -> None:
    # The aim is 60. Measured on a quiet machine: 41 to 45 with one replica, 52 to 56 with four,
    # which have smaller batches, so more boundaries and meter readings a request. On machines whose
    # other cores were busy: up to 61 and 70.
    ratio, run = timeouts_per_request(benchmark, azure(*overrides), rounds=4)
    assert len(run.requests) == 19_366
    assert run.summary["requests_completed"] == 19_366
    assert ratio <= (90 if overrides else 80)


@pytest.mark.alone
@pytest.mark.slow
@needs_trace
@timed
def test_the_compiled_kernel_costs_few_timeouts(benchmark: BenchmarkFixture) -> None:
    # The hour of 16 such services at once, tables and summary included: 1.4 on a quiet machine.
    # With 640 it is about 2.5, as what is kept of so many leaves the caches. The aim is 5.
    pytest.importorskip("numba")
    many = ("kernel=compiled", "workload.chat.arrivals.superpose=16", "site.grid_limit=320 kW")
    sixteen = ("deployments.chat.replicas=16", "racks.0.servers_per_rack=16")
    scenario = azure(*many, *sixteen, "deployments.chat.router=least-outstanding")
    ratio, run = timeouts_per_request(benchmark, scenario, rounds=3)
    assert len(run.requests) == 16 * 19_366
    assert run.record["engine"] == {"chat": "compiled"}
    assert ratio <= 3


@pytest.mark.alone
@pytest.mark.slow
@timed
def test_counting_without_rows_costs_few_timeouts(benchmark: BenchmarkFixture) -> None:
    # A million requests on 640 replicas, drawn, not from a trace: 0.9, a tenth of it to lay out and
    # sum up. The aim is 1.
    pytest.importorskip("numba")
    path = Path(__file__).parents[2] / "configs" / "million_requests.yaml"
    scenario = fs.load(path, ["kernel=compiled"])
    ratio, run = timeouts_per_request(benchmark, scenario, rounds=3)
    assert run.summary["requests_completed"] > 1_000_000
    assert run.rows is None
    assert ratio <= 2


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("replicas", [64, 640])
def test_two_million_more_requests_cost_few_timeouts(replicas: int) -> None:
    # Of processor time, all threads together, without start and end. The aims: 2 million a second,
    # and one bare timeout. Measured on a quiet machine: 2.0 million and 0.68 on 64 replicas, 1.6 to
    # 1.8 million and 0.77 on 640.
    pytest.importorskip("numba")
    path = Path(__file__).parents[2] / "configs" / "million_requests.yaml"
    rate = 5.375 * replicas

    def counted(requests: int) -> Scenario:
        changes = {
            "kernel": "compiled",
            "duration": f"{requests / rate} s",
            "deployments.chat.replicas": replicas,
            "workload.chat.arrivals.rate": f"{rate} /s",
        }
        return fs.load(path, [f"{name}={value}" for name, value in changes.items()])

    def processor_s(scenario: Scenario) -> tuple[float, int]:
        started = time.process_time()
        run = fs.simulate(scenario)
        return time.process_time() - started, run.summary["requests_arrived"]

    few, many = counted(500_000), counted(2_500_000)
    processor_s(few)
    rounds = [(bare_timeout_s(), processor_s(few), processor_s(many)) for _ in range(6)]
    bare, (few_s, first), (many_s, last) = (min(taken) for taken in zip(*rounds, strict=True))
    each_s = (many_s - few_s) / (last - first)
    print(
        f"\n{replicas} replicas: {1e-6 / each_s:.2f} million requests/s a core, "
        f"{each_s / bare:.2f} bare timeouts a request"
    )
    assert each_s / bare <= 1.4


@needs_trace
@pytest.mark.parametrize(
    ("overrides", "most"),
    [((), 135), pytest.param(FOUR, 155, marks=pytest.mark.slow)],
    ids=["one replica", "four replicas"],
)
def test_an_hour_of_conversations_takes_few_calls(overrides: tuple[str, ...], most: int) -> None:
    # 124.6 and 145.9 when this was written; what has a cost when it is switched off shows here.
    scenario = azure(*overrides)
    fs.simulate(scenario)  # what is imported and cached once is not counted
    calls = calls_per_request(scenario)
    print(f"\n{calls:.1f} calls a request")
    assert calls <= most


BUILDING = (
    "site={grid_limit: 200 kW, cooling: liquid-tower, power_chain: 2n, "
    "weather: {dry_bulb: {daily: [['05:00', 14 degC], ['15:00', 26 degC]]}, humidity: 55 %}}",
    "racks.0.liquid_share=75 %",
)


@pytest.mark.alone
@pytest.mark.slow
@needs_trace
def test_the_building_costs_little_of_a_run() -> None:
    """What a reading costs on a busy site, by the median, times the readings of the hour."""
    scenario = azure(*FOUR, *BUILDING)
    layout = lay_out(scenario)
    factory = Factory(layout)
    (site,) = factory.premises
    readings_s = []
    for step in range(400):
        factory.env.run(until=600.05 + 0.1 * step)
        started = time.process_time()
        site.meter.read()
        site.manager.guard()
        readings_s.append(time.process_time() - started)
    runs_s = []
    for _ in range(3):
        started = time.process_time()
        fs.simulate(scenario)
        runs_s.append(time.process_time() - started)
    reading_s = sorted(readings_s)[200]
    share = 3600.0 / layout.period_s * reading_s / min(runs_s)
    print(f"\na reading: {reading_s * 1e6:.0f} us; the building: {share:.1%} of the run")
    assert share <= 0.15


@needs_trace
@pytest.mark.parametrize("overrides", [(), FOUR], ids=["one replica", "four replicas"])
def test_few_events_a_request(overrides: tuple[str, ...]) -> None:
    # One control tick in the whole run: what is left is the requests' own.
    factory = Factory(lay_out(azure(*overrides, "power.period=1 h")))
    factory.env.run(until=3600.0)
    events = next(factory.env._eid)
    requests = sum(stream.sent for stream in factory.streams)
    print(f"\n{events / requests:.2f} events a request")
    assert requests == 19_366
    assert events <= 6 * requests


@pytest.mark.alone
@pytest.mark.slow
@timed
def test_overload_with_preemption_costs_not_much_more(benchmark: BenchmarkFixture) -> None:
    squeezed = (
        "deployments.chat.parallelism.tp=4",
        "deployments.chat.engine.gpu_memory_utilization=0.6",
    )
    (fleet,) = lay_out(synthetic(1.0, 10, *squeezed)).fleets
    most = min(fleet.max_num_seqs, fleet.memory.tokens // 1260)
    best = ideal(roofline(fleet, 1.0), 1155.0, 211.0, 0.0, most, fleet.max_step_tokens)
    overload = synthetic(1.2 * best.requests_per_s, 5000, *squeezed)
    ratio, run = timeouts_per_request(benchmark, overload, rounds=3)
    assert run.requests["preemptions"].sum() > 200
    assert run.summary["time_lost"]["kv_full"] > 0.1
    assert ratio <= 120


@pytest.mark.alone
@pytest.mark.slow
def test_memory_per_request_is_a_row() -> None:
    small, large = synthetic(5.0, 2_000), synthetic(5.0, 12_000)
    fs.simulate(small)
    peaks = []
    for scenario in (small, large):
        tracemalloc.start()
        run = fs.simulate(scenario)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert run.summary["requests_completed"] == len(run.requests)
    bytes_each = (peaks[1] - peaks[0]) / 10_000
    print(f"\n{bytes_each:.0f} bytes a request")
    assert bytes_each < 1024


@pytest.mark.alone
@pytest.mark.slow
def test_cost_is_flat_from_ten_thousand_to_a_million_requests() -> None:
    """In calls of functions, and with room for other work on the cores in seconds, too."""
    few, many = synthetic(5.0, 10_000), synthetic(5.0, 1_000_000)
    seconds = []
    for scenario, requests in ((few, 10_000), (many, 1_000_000), (few, 10_000)):
        started = time.process_time()
        fs.simulate(scenario)
        seconds.append((time.process_time() - started) / requests)
    before, at_length, after = seconds
    calls = [calls_per_request(synthetic(5.0, requests)) for requests in (10_000, 100_000)]
    print(f"\n{before * 1e6:.1f}, {at_length * 1e6:.1f}, {after * 1e6:.1f} us a request; ", end="")
    print("{:.2f} and {:.2f} calls".format(*calls))
    assert calls[1] <= 1.02 * calls[0]
    assert at_length <= 2.0 * max(before, after)
