"""Does the site stay under its cap? The stack of power against the limit, and the clock."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from factory_sim.report.plots import style
from factory_sim.report.plots.scale import power_scale
from factory_sim.report.plots.time_axis import Floats, TimeAxis, window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.summary import lowered
from factory_sim.report.text import duration, megawatts

# What each level adds to the one inside it.
_LAYERS = (
    ("gpu_power_mw", "GPUs", style.BLUE),
    ("server_power_mw", "rest of the servers", style.SKY),
    ("it_power_mw", "rest of IT", style.GREEN),
)


def draw(run: SavedRun) -> Figure:
    """Return power by level over time with the cap, and beneath it the clock of the GPUs."""
    figure = style.figure(12.0, 6.5)
    stack, clock = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style.ask(figure, "Does the site stay under its power cap?", answer(run))
    if not len(run.timeseries):
        style.nothing(stack, "nothing was recorded")
        style.nothing(clock, "nothing was recorded")
        return figure
    time = TimeAxis(run.timeseries)
    _stack(stack, time)
    clock.plot(time.time, 100.0 * time.mean("clock"), color=style.BLACK)
    clock.set_ylim(0.0, 105.0)
    clock.set_ylabel("clock")
    clock.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g} %"))
    clock.set_xlabel(f"{time.unit} (shaded: outside the measured window)")
    for axes in (stack, clock):
        time.finish(axes, window_of(run.summary))
    return figure


def _stack(axes: Axes, time: TimeAxis) -> None:
    meter, peak = time.mean("grid_power_mw"), time.highest("grid_power_mw")
    limit = time.mean("grid_limit_mw")
    generated, out = _own(time, "generation_mw"), np.maximum(-_own(time, "battery_mw"), 0.0)
    layers = layers_of(time)
    top = float(max(layers[-1].level.max(), peak.max(), limit.max()))
    scale, unit = power_scale(top)
    below = np.zeros_like(time.time)
    for level, label, colour in layers:
        if np.any(level > below):
            axes.fill_between(
                time.time, below / scale, level / scale, color=colour, label=label, linewidth=0
            )
        below = level
    below = meter
    for part, label, hatch in (
        (generated, "of this, own generation", "////"),
        (out, "of this, from the battery", "...."),
    ):
        if part.any():
            axes.fill_between(
                time.time,
                below / scale,
                (below + part) / scale,
                facecolor="none",
                edgecolor=style.BLACK,
                hatch=hatch,
                linewidth=0.0,
                label=label,
            )
        below = below + part
    axes.plot(
        time.time,
        peak / scale,
        color=style.BLACK,
        linewidth=1.5,
        label="meter, highest",
    )
    axes.plot(
        time.time,
        limit / scale,
        color=style.LIMIT,
        linestyle="--",
        drawstyle="steps-pre",
        linewidth=2.2,
        label="cap at the meter",
    )
    axes.set_ylim(0.0, 1.08 * top / scale)
    axes.set_ylabel(f"power ({unit})")
    handles, labels = axes.get_legend_handles_labels()
    # Listed from top to bottom as they lie in the picture.
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))


class Layer(NamedTuple):
    """level: megawatts up to the top of a layer, over time."""

    level: Floats
    label: str
    colour: str


def layers_of(time: TimeAxis) -> list[Layer]:
    """Return the layers of the power that came in, each with all that is inside it."""
    battery = _own(time, "battery_mw")
    into, out = np.maximum(battery, 0.0), np.maximum(-battery, 0.0)
    # What came in is what the site used itself and what its battery took.
    came_in = time.mean("grid_power_mw") + _own(time, "generation_mw") + out
    return [
        *(Layer(time.mean(column), label, colour) for column, label, colour in _LAYERS),
        Layer(came_in - into, "cooling and losses", style.ORANGE),
        Layer(came_in, "into the battery", style.PURPLE),
    ]


def _own(time: TimeAxis, column: str) -> Floats:
    """Return a column of what the site has on its own side of the meter; zero where it has not."""
    return time.mean(column) if time.has(column) else np.zeros_like(time.time)


def answer(run: SavedRun) -> str:
    """Say whether the site stays under its cap, and what it took."""
    summary = run.summary
    if "grid_power_mw" not in summary or "grid_limit_mw" not in summary:
        return ""
    highest, cap = megawatts(summary["grid_power_mw"]["max"]), megawatts(summary["grid_limit_mw"])
    over = summary.get("cap_overshoot_s", 0.0)
    most_mw = float(run.timeseries["grid_limit_mw"].max()) if len(run.timeseries) else 0.0
    if most_mw > summary["grid_limit_mw"]:
        # The highest power says little of a cap that was another at the time.
        moving = f"its cap of {cap} to {megawatts(most_mw)}"
        by = megawatts(summary.get("cap_overshoot_max_mw", 0.0))
        no = f"No: it was above {moving} for {duration(over)}, by up to {by}"
        yes = f"Yes: under {moving} all the time"
    else:
        no = f"No: it was above {cap} for {duration(over)}, up to {highest}"
        yes = f"Yes: at most {highest} of {cap}"
    text = no if over else yes
    if "clock" in summary:
        text += f"; clocks {lowered(summary['clock'])}"
    return text
