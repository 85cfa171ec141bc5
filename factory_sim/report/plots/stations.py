"""Where do requests spend their time as load grows, and what sets the pace? Stations over load.

Above: of the requests inside, the share at each station; by Little's law that is its share of the
cycle time. Below: how busy each pool, or the link between two, would be at its best pace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from factory_sim.experiments.runs.task import Figures
from factory_sim.report.losses import POOLS, STATIONS
from factory_sim.report.plots import style
from factory_sim.report.text import percent

_COLOURS = {
    "network": style.PALE,
    "encode": style.PURPLE,
    "queue": style.VERMILLION,
    "prefill": style.ORANGE,
    "transfer": style.SKY,
    "decode": style.BLUE,
}

_DASHES = ("-", "--", ":", "-.")

_LOAD = re.compile(r"deployments\.(.+)\.station_loads\.(\w+)")


class Level(NamedTuple):
    """What runs at one load came to. at: the load. shares: of the requests inside, by station.
    loads: of each pool, by deployment and pool; 1 is always at its best pace."""

    at: float
    shares: dict[str, float]
    loads: dict[tuple[str, str], float]


def levels(runs: Iterable[tuple[float, Sequence[Figures]]]) -> list[Level]:
    """Return the stations at each load, the lowest first; loads of which no run has a board, none.

    runs: figures of runs by the load that they are of.
    """
    found = (_level(at, own) for at, own in runs)
    return sorted((level for level in found if level.shares), key=lambda level: level.at)


def _level(at: float, runs: Sequence[Figures]) -> Level:
    """Return the mean over the runs of a load."""
    wip = {s: sum(float(run.get(f"stations.{s}.wip", 0.0)) for run in runs) for s in STATIONS}
    whole = sum(wip.values())
    loads: dict[tuple[str, str], float] = {}
    for run in runs:
        for key, value in run.items():
            match = _LOAD.fullmatch(key)
            if match is not None:
                pool = (match[1], match[2])
                loads[pool] = loads.get(pool, 0.0) + float(value) / len(runs)
    shares = {station: many / whole for station, many in wip.items() if many} if whole else {}
    return Level(at, shares, loads)


def draw(known: Sequence[Level], axis: str, what: str = "load") -> Figure:
    """Return the plot over loads, two at least. axis: its label; what: moves, in the question."""
    figure = style.figure(11.0, 8.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    at = [level.at for level in known]
    present = [station for station in STATIONS if any(station in each.shares for each in known)]
    above.stackplot(
        at,
        [[each.shares.get(station, 0.0) for each in known] for station in present],
        labels=[STATIONS[station] for station in present],
        colors=[_COLOURS[station] for station in present],
    )
    above.set_ylim(0.0, 1.0)
    above.set_ylabel("share of requests inside")
    above.margins(x=0.0)
    above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), reverse=True)
    _loads(below, known)
    below.set_xlabel(axis)
    for axes in (above, below):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.plot(at, np.zeros(len(at)), "|", color=style.BLACK, clip_on=False)  # what was run
    question = f"Where do requests spend their time as {what} grows, and what sets the pace?"
    style.ask(figure, question, _answer(known))
    return figure


def _answer(known: Sequence[Level]) -> str:
    """Say which station takes the most more between the ends, and who sets the pace, from where."""
    first, last = known[0], known[-1]
    more = {s: last.shares.get(s, 0.0) - first.shares.get(s, 0.0) for s in STATIONS}
    grown = max(more, key=lambda station: more[station])
    ends = (
        f"{percent(level.shares.get(grown, 0.0))} at {level.at:,.4g}" for level in (first, last)
    )
    told = f"Of those inside, {STATIONS[grown]}: {', '.join(ends)}."
    pace = list(_pace(known))
    if pace:
        most = max(load for level in known for load in level.loads.values())
        told += f" The pace is set by the {', '.join(pace)}: up to {percent(most)} of the best."
    return told


def _pools(known: Sequence[Level]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(pool for level in known for pool in level.loads))


def _named(pool: tuple[str, str], pools: Sequence[tuple[str, str]]) -> str:
    """Return what a pool is called, with its deployment where there are several."""
    deployment, role = pool
    called = POOLS.get(role, role)
    return called if len({name for name, _ in pools}) == 1 else f"{deployment}: {called}"


def _loads(axes: Axes, known: Sequence[Level]) -> None:
    """Draw how busy each pool would be at its best pace."""
    pools = _pools(known)
    styles = {name: _DASHES[i % len(_DASHES)] for i, name in enumerate({p: 0 for p, _ in pools})}
    for pool in pools:
        there = [level for level in known if pool in level.loads]
        axes.plot(
            [level.at for level in there],
            [level.loads[pool] for level in there],
            color=_COLOURS.get(pool[1], style.BLUE),
            linestyle=styles[pool[0]],
            marker="o",
            markersize=4,
            label=_named(pool, pools),
        )
    most = max((load for level in known for load in level.loads.values()), default=0.0)
    axes.set_ylim(0.0, max(1.0, most) * 1.05)
    axes.set_ylabel("busy, at the best pace")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _pace(known: Sequence[Level]) -> Iterator[str]:
    """Say which pool is busiest, and from which load on it is another."""
    pools, before = _pools(known), None
    for level in known:
        busiest = max(level.loads, key=lambda pool: level.loads[pool], default=None)
        if busiest is not None and busiest != before:
            named = _named(busiest, pools)
            yield named if before is None else f"from {level.at:,.4g} on the {named}"
            before = busiest
