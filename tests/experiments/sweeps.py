"""A sweep small enough to run by the hundred: one replica, three seconds, a few requests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from factory_sim.experiments.runs.task import Outcome, Task, execute

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "duration": "3 s",
    "site": {"grid_limit": "100 kW", "pue": 1.25},
    "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
    "deployments": {"d": {"model": "llama-3.1-8b", "replicas": 1}},
    "workload": {
        "w": {
            "deployment": "d",
            "arrivals": {"process": "poisson", "rate": "5 /s"},
            "lengths": {"prompt": 100, "output": 20},
        }
    },
}

RATE = "workload.w.arrivals.rate"
REPLICAS = "deployments.d.replicas"


def small_sweep(**fields: Any) -> dict[str, Any]:
    """Return a sweep over the rate, two replications, unless told."""
    usual: dict[str, Any] = {
        "name": "tiny",
        "scenario": SMALL,
        "axes": {RATE: ["5 /s", "20 /s"]},
        "replications": 2,
    }
    return usual | fields


class Counting:
    """A crew that remembers which runs it did, and hands them over last first."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        for place in reversed(range(len(tasks))):
            self.done.append(tasks[place].key)
            yield place, execute(tasks[place])


def dying_always(task: Task) -> Outcome:
    """Do a run, but kill the process at those with twenty requests a second."""
    if "20.0 1/s" in task.scenario:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(task)


def dying_once(flag: Path, task: Task) -> Outcome:
    """Do a run, but have the first process that comes to one of twenty requests a second die."""
    if "20.0 1/s" in task.scenario and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(task)
