"""The plots of a run, by file name: one module each, and each answers the question in its title."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from factory_sim.report.plots import (
    cooling,
    energy,
    flow,
    gpu_time,
    latency,
    load_duration,
    one_line,
    power,
    replicas,
    style,
)
from factory_sim.report.saved import SavedRun

PLOTS: dict[str, Callable[[SavedRun], Figure]] = {
    "latency": latency.draw,
    "power": power.draw,
    "flow": flow.draw,
    "gpu_time": gpu_time.draw,
    "energy": energy.draw,
    "one_line": one_line.draw,
    "cooling": cooling.draw,
    "load_duration": load_duration.draw,
    "replicas": replicas.draw,
}

_ONLY_WHERE: dict[str, Callable[[SavedRun], bool]] = {
    "energy": energy.applies,
    "one_line": one_line.applies,
    "cooling": cooling.applies,
    "load_duration": load_duration.applies,
    "replicas": replicas.applies,
}


def plots_of(run: SavedRun) -> dict[str, Callable[[SavedRun], Figure]]:
    """Return those of PLOTS that have something to say about `run`."""
    return {
        name: draw
        for name, draw in PLOTS.items()
        if name not in _ONLY_WHERE or _ONLY_WHERE[name](run)
    }


def write(draw: Callable[[SavedRun], Figure], run: SavedRun, target: Path) -> Path:
    """Draw a plot of `run` as the PNG `target`; the same run gives the same bytes.

    Raises OSError when `target` cannot be written.
    """
    with style.applied():
        figure = draw(run)
        # Without this matplotlib signs the file with its version.
        figure.savefig(target, format="png", metadata={"Software": None})
    return target
