"""Jobs: done by a child, ended when asked, and their death is a message and no more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory_sim.app.jobs import Desk, Job, State
from factory_sim.app.results import about, at_most, result_of
from factory_sim.app.settings import Settings
from factory_sim.experiments.runs.task import task_of
from factory_sim.factory.run import simulate
from factory_sim.scenario.load import load, plain, scenario_from

LONG = ["duration=10 h", "kernel=simpy"]

pytestmark = pytest.mark.slow


@pytest.fixture
def asked() -> Iterator[list[Job]]:
    """Jobs of a test, which none outlives."""
    found: list[Job] = []
    yield found
    for job in found:
        job.kill()


def run_of(*overrides: str, full: bool = True) -> dict[str, Any]:
    return {"scenario": plain(load(None, overrides)), "full": full}


def until(desk: Desk, job: Job, wanted: Any, patience_s: float = 60.0) -> State:
    """Return the first state of a job that is as wanted."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        state = desk.look(job)
        if wanted(state):
            return state
        time.sleep(0.05)
    raise AssertionError(f"still {state}")


def test_a_child_runs_what_this_process_would(own: Settings, asked: list[Job]) -> None:
    ask = run_of("duration=20 s", "warmup=2 s", "workload.chat.arrivals.rate=20 /s")
    asked.append(job := Job("run", ask, own))
    assert until(Desk(1), job, lambda state: state.ended).problems == ()
    result = result_of(task_of(ask["scenario"]).key, own)
    assert result is not None and result.full and result.run is not None
    assert result.run.summary == simulate(scenario_from(ask["scenario"])).summary
    assert about(result).startswith("Full run") and at_most(result) > 0.0


def test_bounds_come_first_and_a_cancelled_job_leaves_nobody(
    own: Settings, asked: list[Job]
) -> None:
    ask = run_of(*LONG)
    asked.append(job := Job("run", ask, replace(own, longest_s=1e6)))
    desk = Desk(1)
    until(desk, job, lambda state: state.share > 0.0)
    key = task_of(ask["scenario"]).key
    assert (found := result_of(key, own)) is not None and not found.full
    assert job.process is not None
    child = job.process.pid
    job.kill()
    assert desk.look(job).problems[0].message == "cancelled"
    with pytest.raises(ProcessLookupError):
        os.killpg(child or 0, 0)
    assert list((own.runs / key).glob(".full*")) == []


def test_who_waits_begins_when_another_has_ended(own: Settings, asked: list[Job]) -> None:
    desk, large = Desk(1), replace(own, longest_s=1e6)
    for overrides in (LONG, [*LONG, "seed=2"]):
        asked.append(Job("run", run_of(*overrides), large))
    first, second = asked
    assert not desk.look(first).ended
    assert desk.look(second).text == "waiting for a free place"
    first.kill()
    until(desk, second, lambda state: state.text != "waiting for a free place")
    assert second.runs


def test_a_child_that_dies_is_a_message(own: Settings, asked: list[Job]) -> None:
    asked.append(job := Job("run", run_of(*LONG), replace(own, longest_s=1e6)))
    desk = Desk(1)
    until(desk, job, lambda state: state.share > 0.0)
    assert job.process is not None
    os.kill(job.process.pid or 0, signal.SIGKILL)
    state = until(desk, job, lambda state: state.ended)
    assert "the process of the run died (exit code -9)" in state.problems[0].message


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"patience_s": 3.0}, "took longer than the 3 s that a run may"),
        ({"memory_gb": 1.0}, "it needs more memory than the 1 GB that a run may take"),
        ({"most_gpus": 10}, "160 GPUs are over the 10 of this server"),
        ({"longest_s": 60.0}, "is over the 1 min of this server"),
    ],
)
def test_limits_hold(own: Settings, asked: list[Job], limits: Any, said: str) -> None:
    ask = run_of(*LONG, "workload.chat.arrivals.rate=30000 /s")
    asked.append(job := Job("run", ask, replace(own, **({"longest_s": 1e6} | limits))))
    state = until(Desk(1), job, lambda state: state.ended)
    assert said in state.problems[0].message


def test_runs_beyond_those_kept_go(own: Settings, asked: list[Job], tmp_path: Path) -> None:
    few = replace(own, kept=2)
    for seed in range(3):
        ask = run_of("duration=5 s", "warmup=1 s", f"seed={seed}", full=False)
        asked.append(job := Job("run", ask, few))
        until(Desk(1), job, lambda state: state.ended)
    assert len(list(few.runs.iterdir())) == 2
    assert result_of(task_of(ask["scenario"]).key, few) is not None
