"""Response surfaces: what replicas make, draw and promise, by their load and clock.

Each point is a run of the engine. Loads are counted as shares of the rate of a perfect replica at
the same clock, so that the knee of every curve is at about the same place. Along the load curves
are interpolated monotonically where the points are monotone (PCHIP; Fritsch and Carlson 1980),
latencies in their logarithm; then along the clock in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from factory_sim.experiments.runs.task import Figures

Floats = NDArray[np.float64]

LOADS = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    *(1.0, 1.05, 1.1, 1.2, 1.5),
)
"""Loads that are run, closest where queues begin to build up. Beyond the last all is as there."""

LATENCIES = ("ttft_ms.p50", "ttft_ms.p99", "tpot_ms.p50", "tpot_ms.p99", "e2e_ms.p99")
NEVER_MS = 3.6e6
"""What stands for a latency that nobody had, since nobody was answered: longer than any run."""

WATTS, SERVED, MET = "gpu_w", "served", "met"


class Promise(NamedTuple):
    """A promise: whose and of what, such as `deployments.chat.slo.ttft`, and its limit in ms."""

    name: str
    limit_ms: float


@dataclass(frozen=True)
class Column:
    """The points at one clock. best_per_s: requests/s of a perfect replica. loads: increasing
    shares of it. values: by response, float[loads]."""

    clock: float
    best_per_s: float
    loads: Floats
    values: Mapping[str, Floats]

    def read(self, name: str, load: Floats) -> Floats:
        """Return a response at loads, held at its ends beyond the points."""
        if len(self.loads) == 1:
            return np.full(load.shape, self.values[name][0])
        within = np.clip(load, self.loads[0], self.loads[-1])
        return np.asarray(PchipInterpolator(self.loads, self.values[name])(within))


class Surface:
    """Columns, the highest clock first. best_per_s: of a perfect replica at a clock."""

    def __init__(self, columns: Sequence[Column], best_per_s: Callable[[float], float]) -> None:
        self.columns = list(columns)
        self.best_per_s = best_per_s
        self.names = [*self.columns[0].values]

    def read(self, clock: float, requests_per_s: Floats) -> dict[str, Floats]:
        """Return all responses of a replica at a clock with so many requests/s.

        gpu_w: the mean of its boards, each. served: requests/s. met: the share of requests that
        keep every promise. Latencies and promises in ms.
        """
        best_per_s = self.best_per_s(clock)
        load = requests_per_s / best_per_s
        found = {name: self._across(name, clock, load) for name in self.names}
        for name in self.names:
            if name not in (WATTS, SERVED, MET):
                found[name] = np.exp(found[name])
        # All that is asked is served, up to the most that was at this load or a higher one.
        found[SERVED] = np.minimum(requests_per_s, best_per_s * found[SERVED])
        return found

    def _across(self, name: str, clock: float, load: Floats) -> Floats:
        rows = np.array([column.read(name, load) for column in self.columns])
        if len(rows) == 1:
            return np.asarray(rows[0])
        clocks = np.array([column.clock for column in self.columns])
        return np.asarray(PchipInterpolator(clocks[::-1], rows[::-1], axis=0)(clock))


def loads_between(lowest: float, highest: float) -> list[float]:
    """Return the loads to be run so that both lie well between them, if they can."""
    highest *= 1.1  # one beyond tells what could be served
    first = max([i for i, load in enumerate(LOADS) if load <= lowest], default=0)
    last = min([i for i, load in enumerate(LOADS) if load >= highest], default=len(LOADS) - 1)
    last = max(last, min(first + 1, len(LOADS) - 1))
    return list(LOADS[first : last + 1])


def column_of(
    clock: float,
    best_per_s: float,
    points: Mapping[float, Figures],
    deployment: str,
    output: float,
    idle_w: float,
) -> Column:
    """Return the column of the runs at one clock, by their load.

    output: tokens of an answer in the mean. idle_w: of a board without work.
    """
    loads = np.array(sorted(points))
    runs = [points[load] for load in loads.tolist()]
    whose = f"deployments.{deployment}."
    replicas = float(runs[0][f"{whose}replicas"])
    made = np.array([float(run[f"{whose}output_tokens_per_s"]) for run in runs])
    most = np.maximum.accumulate(made[::-1])[::-1] / (replicas * best_per_s * output)
    values = {
        WATTS: np.array([float(run[f"{whose}gpu_power_w"]) for run in runs]),
        SERVED: most,
        MET: np.array([float(run.get("slo.share_of_requests_met", 1.0)) for run in runs]),
    }
    for name in LATENCIES:
        values[name] = np.log([float(run.get(f"{whose}{name}", NEVER_MS)) for run in runs])
    for promise in promises_of(runs[0]):
        kept = [float(run.get(f"{promise.name}.value_ms", NEVER_MS)) for run in runs]
        values[promise.name] = np.log(np.maximum(kept, 1e-3))
    if loads[0] == LOADS[0]:  # and without any load boards are at rest
        loads = np.concatenate(([0.0], loads))
        values = {name: np.concatenate((each[:1], each)) for name, each in values.items()}
        values[WATTS][0] = idle_w
    return Column(clock, best_per_s, loads, values)


def promises_of(run: Figures) -> list[Promise]:
    """Return what is promised in a run."""
    ends = ".limit_ms"
    return [
        Promise(key.removesuffix(ends), float(value))
        for key, value in run.items()
        if key.endswith(ends) and ".slo." in key
    ]
