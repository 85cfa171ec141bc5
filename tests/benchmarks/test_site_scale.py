"""A 100 MW site, request by request: what a second of it costs, in memory, and with two workers."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

import factory_sim as fs
from factory_sim.scenario.scenario import Scenario

pytestmark = [pytest.mark.slow, pytest.mark.alone]
SITE = Path(__file__).parents[2] / "configs/site_100mw.yaml"


def test_a_minute_of_a_100_mw_site_is_served_whole(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    minute = ["--set", "duration=1 min", "--set", "warmup=20 s", "--set", "drain=5 s"]
    # The grid takes back a quarter at half time, and what fails, fails more often.
    curtailed = "site.grid_limit={steps: [[0 s, 100 MW], [30 s, 75 MW]]}"
    more = ["--set", curtailed, "--out", str(tmp_path / "run"), "--no-plots", "--json"]
    program = [sys.executable, "-c", "from factory_sim.cli import main; main()"]
    command = [*program, "run", str(SITE), *minute, *more]
    started = time.perf_counter()
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert told.returncode == 0, told.stderr
    summary = json.loads(told.stdout)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    arrived = summary["requests_arrived"]
    print(f"\n{arrived:,} requests in {seconds:.0f} s, start and compilation included; ", end="")
    print(f"at most {memory_gb:.1f} GB")
    assert record["engine"] == {"chat": "compiled"}
    assert record["gpus"] == 50_040
    assert arrived == pytest.approx(150_000 * 60, rel=0.002)
    assert summary["requests_completed"] > 0.99 * arrived - 150_000 * 10
    assert memory_gb < 8.0
    assert summary["cap_overshoot_s"] < 10.0
    assert summary["clock"]["lowest"] < 1.0
    assert summary["time_lost"]["power_throttled"] > 0.0
    littles = summary["littles_law"]
    assert littles["requests_in_system"] == pytest.approx(
        littles["arrival_rate_per_s"] * littles["time_in_system_s"], rel=1e-6
    )


def test_two_workers_serve_pods_faster_than_one() -> None:
    # The aim is 1.6 times; where other work shares the cores, the second one has less to give. What
    # does not grow with the run, such as laying out 50,000 GPUs, is taken off.
    pytest.importorskip("numba")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    short, long = (fs.load(SITE, [f"duration={s} s", "warmup=1 s", "drain=1 s"]) for s in (4, 16))

    def seconds(scenario: Scenario, workers: int) -> float:
        started = time.perf_counter()
        fs.simulate(scenario, workers=workers)
        return time.perf_counter() - started

    seconds(short, 2)
    one, two = (
        median(seconds(long, workers) - seconds(short, workers) for _ in range(3))
        for workers in (1, 2)
    )
    print(f"\ntwo workers: {one / two:.2f} times as fast as one")
    assert one / two > 1.1
