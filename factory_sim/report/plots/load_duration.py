"""For how long does the site draw how much? The load-duration curve at the meter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from factory_sim.report.plots import style
from factory_sim.report.plots.scale import power_scale
from factory_sim.report.plots.time_axis import window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import megawatts, percent

Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """Power from the highest down, each for a share of the time. limits_mw: lowest and highest."""

    power_mw: Floats
    share: Floats
    limits_mw: tuple[float, float]

    @property
    def mean_mw(self) -> float:
        """Return the mean power."""
        return float(self.power_mw @ self.share)

    def exceeded_for(self, share: float) -> float:
        """Return the power that the site is at or above for this share of the time."""
        index = int(np.searchsorted(np.cumsum(self.share), share - 1e-12))
        return float(self.power_mw[min(index, len(self.power_mw) - 1)])


def applies(run: SavedRun) -> bool:
    """Say whether anything was recorded within the measured window of a run."""
    return curve_of(run) is not None


def draw(run: SavedRun) -> Figure:
    """Return power against the share of the measured window for which it was exceeded."""
    figure = style.figure(12.0, 6.5)
    question = "For how long does the site draw how much?"
    axes = figure.subplots()
    curve = curve_of(run)
    if curve is None:
        style.ask(figure, question)
        style.nothing(axes, "nothing was recorded within a measured window")
        return figure
    provisioned = run.summary.get("provisioned", {}).get("utility_mw")
    style.ask(figure, question, _answer(curve, provisioned))
    scale, unit = power_scale(max(float(curve.power_mw[0]), provisioned or 0.0, curve.limits_mw[1]))
    exceeded = 100.0 * np.concatenate([[0.0], np.cumsum(curve.share)])
    axes.stairs(
        curve.power_mw / scale, exceeded, fill=True, color=style.SKY, alpha=0.45, linewidth=0
    )
    axes.stairs(curve.power_mw / scale, exceeded, baseline=None, color=style.BLUE, linewidth=2.4)
    _lines(axes, curve, provisioned, scale)
    axes.set_xlim(0.0, 100.0)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel(f"power at the meter ({unit})")
    axes.set_xlabel("share of the measured window in which it draws that or more")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    return figure


def curve_of(run: SavedRun) -> Curve | None:
    """Return the curve of the measured window, None where that holds no record.

    A period counts by the part of it that lies within the window; the last may be shorter.
    """
    window, series = window_of(run.summary), run.timeseries
    if window is None or not len(series):
        return None
    end_s = series["time_s"].to_numpy(dtype=float)
    edges = np.clip(np.concatenate([[0.0], end_s]), window["start"], window["end"])
    seconds = np.diff(edges)
    inside = seconds > 0.0
    if not inside.any():
        return None
    power, limit = (
        series[column].to_numpy(dtype=float)[inside]
        for column in ("grid_power_mw", "grid_limit_mw")
    )
    order = np.argsort(-power, kind="stable")
    share = seconds[inside][order] / seconds.sum()
    return Curve(power[order], share, (float(limit.min()), float(limit.max())))


def _lines(axes: Axes, curve: Curve, provisioned: float | None, scale: float) -> None:
    low, high = curve.limits_mw
    lines = [("mean", curve.mean_mw, style.GREY, "-", 1.6)]
    if provisioned is not None:
        # Wide and pale, so that a limit at the same height is seen on it.
        lines.append(("provisioned", provisioned, style.ORANGE, "-", 5.0))
    if low == high:
        lines.append(("limit", high, style.LIMIT, "--", 2.2))
    else:
        lines.append(("highest limit", high, style.LIMIT, "--", 2.2))
        lines.append(("lowest limit", low, style.LIMIT, ":", 2.2))
    for name, power, colour, dash, width in sorted(lines, key=lambda line: -line[1]):
        axes.axhline(
            power / scale,
            color=colour,
            linestyle=dash,
            linewidth=width,
            zorder=2.0 + 1.0 / width,
            label=f"{name}\n{megawatts(power)}",
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=1.0)


def _answer(curve: Curve, provisioned: float | None) -> str:
    text = (
        f"Half of the time {megawatts(curve.exceeded_for(0.5))} or more, "
        f"for 5 % of it {megawatts(curve.exceeded_for(0.05))} or more, "
        f"at most {megawatts(float(curve.power_mw[0]))}"
    )
    if provisioned:
        used = f"{percent(curve.mean_mw / provisioned)} of the {megawatts(provisioned)}"
        text += f"; the mean is {used} provisioned"
    return text
