"""The plots of a run, by file name: one module each, and each answers the question in its title.

What a plot says of a site it says of each, in a picture of its own: `power-paris` and `power-rome`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from factory_sim.report.plots import (
    cooling,
    energy,
    flow,
    gpu_time,
    latency,
    load_duration,
    money,
    one_line,
    power,
    regions,
    replicas,
    services,
    style,
    waterfall,
)
from factory_sim.report.saved import SavedRun
from factory_sim.report.sites import by_site

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
    "services": services.draw,
    "regions": regions.draw,
    "money": money.draw,
    "waterfall_gpu_hours": waterfall.draw_hours,
    "waterfall_megawatts": waterfall.draw_megawatts,
}

_OF_A_SITE = ("power", "energy", "one_line", "cooling", "load_duration")

_ONLY_WHERE: dict[str, Callable[[SavedRun], bool]] = {
    "latency": latency.applies,
    "energy": energy.applies,
    "one_line": one_line.applies,
    "cooling": cooling.applies,
    "load_duration": load_duration.applies,
    "replicas": replicas.applies,
    "services": services.applies,
    "regions": regions.applies,
    "money": money.applies,
    "waterfall_gpu_hours": waterfall.hours_apply,
    "waterfall_megawatts": waterfall.megawatts_apply,
}


def plots_of(run: SavedRun) -> dict[str, Callable[[SavedRun], Figure]]:
    """Return those of PLOTS that have something to say about `run`, each to be drawn of it."""
    sites = by_site(run)
    found = {
        name: draw
        for name, draw in PLOTS.items()
        if not (sites and name in _OF_A_SITE) and _applies(name, run)
    }
    for site, own in sites.items():
        for name in _OF_A_SITE:
            if _applies(name, own):
                found[f"{name}-{_file_name(site)}"] = partial(_draw_site, PLOTS[name], site)
    return found


def _applies(name: str, run: SavedRun) -> bool:
    return name not in _ONLY_WHERE or _ONLY_WHERE[name](run)


def _draw_site(draw: Callable[[SavedRun], Figure], site: str, run: SavedRun) -> Figure:
    """Draw a plot of one of the sites of a run, and say which it is."""
    figure = draw(by_site(run)[site])
    style.name(figure, site)
    return figure


def _file_name(site: str) -> str:
    return site.replace(" ", "-")


def write(draw: Callable[[SavedRun], Figure], run: SavedRun, target: Path) -> Path:
    """Draw a plot of `run` as the PNG `target`; the same run gives the same bytes.

    Raises OSError when `target` cannot be written.
    """
    with style.applied():
        figure = draw(run)
        # Without this matplotlib signs the file with its version.
        figure.savefig(target, format="png", metadata={"Software": None})
    return target
