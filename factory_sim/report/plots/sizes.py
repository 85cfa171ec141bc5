"""The plots of a search for a size: where requests spend their time at each load."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from factory_sim.experiments.sizing.size import Sized
from factory_sim.report.plots import stations


def plots_of(sized: Sized) -> dict[str, Callable[[], Figure]]:
    """Return the plot of stations, where two sizes have a board of them.

    Of a search for the fewest the load is the traffic over the size: on each of them.
    """
    most = sized.looked[-1].size
    if sized.aim == "cap":
        axis, loads = "times the traffic that is given", [each.size for each in sized.looked]
    else:
        axis = f"traffic for each of the {sized.unit}, times that with {most:,.0f} of them"
        loads = [most / each.size for each in sized.looked]
    runs = zip(loads, (each.runs for each in sized.looked), strict=True)
    levels = stations.levels(runs)
    return {"stations": partial(stations.draw, levels, axis)} if len(levels) > 1 else {}
