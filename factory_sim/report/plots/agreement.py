"""Does the simulator agree with what was measured? Every figure of a source, on log axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from factory_sim.report.plots import style
from factory_sim.report.text import percent
from factory_sim.validation.compare import Row, by_gpu, spread_of

Ends = NDArray[np.float64]

KINDS: dict[str, tuple[str, ...]] = {
    "time to first token, ms": ("ttft_mean_ms", "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms"),
    "prefill of a batch, ms": ("prefill_ms",),
    "time per output token, ms": ("tpot_mean_ms", "tpot_p50_ms"),
    "inter-token latency p50, ms": ("itl_p50_ms",),
    "end to end, ms": ("e2e_mean_ms", "e2e_p50_ms", "e2e_p90_ms", "e2e_p99_ms"),
    "output tokens/s": ("output_tok_s",),
    "prompt and output tokens/s": ("total_tok_s",),
    "power of a GPU, W": ("gpu_power_w",),
    "power of a server, W": ("server_power_w",),
    "energy per output token, J": ("energy_per_output_token_j",),
}
"""What shares a panel, by its label: the same quantity in the same unit."""

_LOOKS = {
    "h100-sxm": (style.BLUE, "o"),
    "b200-sxm": (style.VERMILLION, "^"),
    "b300-sxm": (style.GREEN, "s"),
    "a100-sxm": (style.BLACK, "P"),
    "h200-sxm": (style.SKY, "X"),
    "rtx-pro-6000": (style.PURPLE, "D"),
}
_OTHERS = tuple((style.ORANGE, marker) for marker in "v<>hd*")
"""Colour and marker of a GPU, the same in every plot; told apart by either alone."""

DECADES = 1.0
"""A panel spans no less, so that a few figures near one another do not look far apart."""

OFF = 0.2
"""The dashed lines: this far off."""

NARROWEST_IN = 8.0
"""Room for the question above a single panel."""

CROWD = 60
"""With more points than these a panel draws them smaller and paler, so that a crowd shows."""


def draw(source: str, rows: Sequence[Row]) -> Figure:
    """Return one panel for each quantity of a source; a point is one figure of one case."""
    panels = {
        label: own
        for label, metrics in KINDS.items()
        if (own := [row for row in rows if row.metric in metrics])
    }
    across = min(2, max(1, len(panels)))
    down = max(1, -(-len(panels) // across))
    fig = style.figure(max(NARROWEST_IN, 5.5 * across), 1.6 + 4.8 * down)
    grid = fig.subplots(down, across, squeeze=False).ravel()
    style.ask(fig, f"Does the simulator agree with {source}?", _answer(panels))
    gpus = by_gpu(rows)
    others = zip((gpu for gpu in gpus if gpu not in _LOOKS), itertools.cycle(_OTHERS), strict=False)
    looks = {gpu: look for gpu, look in _LOOKS.items() if gpu in gpus} | dict(others)
    for (label, own), axes in zip(panels.items(), grid, strict=False):
        _panel(axes, label, own, looks)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if not panels:
        style.nothing(grid[0], "nothing was compared")
    else:
        fig.legend(handles=_legend(looks), loc="outside lower center", ncols=3 * across)
    return fig


def _panel(axes: Axes, label: str, rows: Sequence[Row], looks: dict[str, tuple[str, str]]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    values = [value for row in rows for value in (row.measured, row.simulated)]
    ends = _ends(min(values), max(values))
    axes.plot(ends, ends, color=style.GREY, linewidth=1.2, zorder=1)
    for factor in (1.0 + OFF, 1.0 - OFF):
        axes.plot(ends, factor * ends, color=style.GREY, linewidth=1.0, linestyle="--", zorder=1)
    for gpu, own in by_gpu(rows).items():
        colour, marker = looks[gpu]
        axes.scatter(
            [row.measured for row in own],
            [row.simulated for row in own],
            s=26 if len(rows) > CROWD else 44,
            color=colour,
            marker=marker,
            alpha=0.55 if len(rows) > CROWD else 0.85,
            linewidths=0,
            zorder=2,
        )
    decades = math.log10(ends[1] / ends[0])
    subs = (1.0, 2.0, 5.0) if decades < 1.9 else (1.0,)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_aspect("equal")
    axes.set_title(label)
    unit = label.rpartition(", ")[2]
    axes.set_xlabel(f"measured ({unit})")
    axes.set_ylabel(f"simulated ({unit})")


def _ends(least: float, most: float) -> Ends:
    """Return the ends of both axes: all values with some room, and DECADES at least."""
    low, high = math.log10(least / 1.3), math.log10(most * 1.3)
    room = max(0.0, DECADES - (high - low)) / 2
    return np.array([10.0 ** (low - room), 10.0 ** (high + room)])


def _legend(looks: dict[str, tuple[str, str]]) -> list[Line2D]:
    points = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=8, label=gpu)
        for gpu, (colour, marker) in looks.items()
    ]
    equal = Line2D([], [], color=style.GREY, linewidth=1.2, label="equal")
    off = Line2D(
        [], [], color=style.GREY, linewidth=1.0, linestyle="--", label=f"{percent(OFF)} off"
    )
    return [*points, equal, off]


def _answer(panels: dict[str, list[Row]]) -> str:
    said = [
        f"{label.rpartition(', ')[0] or label} {percent(spread_of(r.error for r in own).median)}"
        for label, own in panels.items()
    ]
    return f"Median error: {', '.join(said)}" if said else ""
