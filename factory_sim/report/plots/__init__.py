"""The plots of a run, by file name: one module each, and each answers the question in its title."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from factory_sim.report.plots import flow, gpu_time, latency, power, style
from factory_sim.report.saved import SavedRun

PLOTS: dict[str, Callable[[SavedRun], Figure]] = {
    "latency": latency.draw,
    "power": power.draw,
    "flow": flow.draw,
    "gpu_time": gpu_time.draw,
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
