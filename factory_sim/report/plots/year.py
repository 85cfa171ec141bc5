"""The plots of a year, each with its question: months, load duration, PUE, and broken promises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from factory_sim.experiments.year.year import Year
from factory_sim.report.plots import style
from factory_sim.report.plots.scale import power_scale
from factory_sim.report.text import megawatts, number, percent, with_unit

Floats = NDArray[np.float64]


def plots_of(year: Year) -> dict[str, Callable[[], Figure]]:
    """Return the plots by their names."""
    draws: dict[str, Callable[[Year], Figure]] = {
        "months": _months,
        "load_duration": _load_duration,
        "pue": _pue,
        "promises": _promises,
    }
    return {name: partial(draw, year) for name, draw in draws.items()}


def _months(year: Year) -> Figure:
    """Draw tokens and energy of each month."""
    months = year.months
    figure = style.figure(11.0, 7.0)
    above, below = figure.subplots(2, 1, sharex=True)
    places = np.arange(float(len(months)))
    kept = months["goodput_output_tokens"].to_numpy()
    made = months["output_tokens"].to_numpy()
    _stack(above, places, {"within their promise": (kept, style.BLUE),
                           "beyond it": (made - kept, style.VERMILLION)})  # fmt: skip
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, "")))
    above.set_ylabel("output tokens")
    gpus, it, site = (months[f"{name}_energy_mwh"].to_numpy() for name in ("gpu", "it", "site"))
    parts = {
        "GPUs": (gpus, style.GREEN),
        "other IT": (it - gpus, style.SKY),
        "building": (site - it, style.ORANGE),
    }
    _stack(below, places, parts)
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value * 1e6, "Wh")))
    below.set_ylabel("energy")
    below.set_xticks(places, list(months["month"]), rotation=45 if len(months) > 8 else 0)
    per = 3.6e9 * months["energy_mwh"] / months["output_tokens"]
    low, high = (months["month"].iloc[int(at)] for at in (per.argmin(), per.argmax()))
    answer = f"{number(float(per.min()))} J at the meter for an output token in {low}, the best "
    answer += f"month; {number(float(per.max()))} J in {high}"
    style.ask(figure, "What does each month make, and of how much energy?", f"{answer}.")
    return figure


def _stack(axes: Axes, places: Floats, parts: dict[str, tuple[Floats, str]]) -> None:
    foot = np.zeros(len(places))
    for name, (heights, colour) in parts.items():
        axes.bar(places, heights, bottom=foot, color=colour, label=name, width=0.7)
        foot = foot + heights
    axes.grid(axis="x", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)


def _load_duration(year: Year) -> Figure:
    """Draw the meter's power from the highest down, with what became of it beneath."""
    hours = year.hours.sort_values("grid_power_mw", ascending=False, kind="stable")
    meter = hours["grid_power_mw"].to_numpy()
    limit = hours["grid_limit_mw"].to_numpy()
    figure = style.figure(11.0, 6.0)
    axes = figure.subplots()
    scale, unit = power_scale(float(max(meter[0], limit.max())))
    share = 100.0 * np.arange(len(hours) + 1) / len(hours)
    curves = (
        ("meter", meter, style.ORANGE),
        ("all IT", np.sort(hours["it_power_mw"])[::-1], style.SKY),
        ("GPUs", np.sort(hours["gpu_power_mw"])[::-1], style.GREEN),
    )
    for name, curve, colour in curves:
        axes.stairs(curve / scale, share, baseline=None, color=colour, linewidth=2.4)
        axes.annotate(name, (50.0, curve[len(curve) // 2] / scale), xytext=(0, 5),
                      textcoords="offset points", color=colour, fontweight="bold")  # fmt: skip
    lines = {float(limit.max()): ("limit", "--"), float(limit.min()): ("lowest limit", ":")}
    for watts, (name, dash) in lines.items():
        axes.axhline(watts / scale, color=style.LIMIT, linestyle=dash, label=name)
    axes.legend(loc="lower right")
    axes.set_xlim(0.0, 100.0)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel(f"mean power of an hour ({unit})")
    axes.set_xlabel("share of the year in which it is that or more")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    used = percent(float(meter.mean() / limit.mean()))
    answer = f"At most {megawatts(float(meter[0]))}, for half of the year "
    answer += f"{megawatts(float(np.median(meter)))} or more; the mean is {used} of the mean limit"
    style.ask(figure, "For how long does the site draw how much?", f"{answer}.")
    return figure


def _pue(year: Year) -> Figure:
    """Draw the PUE by day and hour of the day."""
    hours = year.hours
    figure = style.figure(11.0, 5.5)
    axes = figure.subplots()
    days, grid = by_day(hours, hours["pue"])
    mesh = axes.pcolormesh(*_edges(days, grid), grid.T, cmap="cividis", rasterized=True)
    figure.colorbar(mesh, ax=axes).set_label("PUE")
    _calendar(axes)
    worst = hours.iloc[int(hours["pue"].argmax())]
    mean = float(hours["site_power_mw"].sum() / hours["it_power_mw"].sum())
    answer = f"{mean:.3f} over the year; at worst {worst['pue']:.2f}, on {worst['start']:%Y-%m-%d} "
    answer += f"at {worst['start']:%H:%M} with {worst['dry_bulb_c']:.0f} °C outside"
    style.ask(figure, "When does the building take most on top of IT?", f"{answer}.")
    return figure


_KEPT, _SLOWED, _MISSED, _AWAY = range(4)
_STATES = {
    "clocks at the top, promises kept": "#E4E4E4",
    "clocks lowered for the limit, promises kept": style.SKY,
    "a promise missed": style.ORANGE,
    "requests turned away": style.VERMILLION,
}


def _promises(year: Year) -> Figure:
    """Draw by day and hour of the day whether clocks were lowered and promises missed."""
    hours = year.hours
    state = np.full(len(hours), _KEPT)
    state[hours["capped"]] = _SLOWED
    state[hours["slo_missed"]] = _MISSED
    state[hours["overloaded"]] = _AWAY
    figure = style.figure(11.0, 5.5)
    axes = figure.subplots()
    days, grid = by_day(hours, pd.Series(state, hours.index), "max")
    colours = ListedColormap(list(_STATES.values()))
    mesh = axes.pcolormesh(*_edges(days, grid), grid.T, cmap=colours, rasterized=True)
    mesh.set_clim(-0.5, len(_STATES) - 0.5)
    _calendar(axes)
    patches = [Patch(color=colour, label=name) for name, colour in _STATES.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=2)
    share = percent(float(hours["slo_missed"].mean()))
    slowed = percent(float(hours["capped"].mean()))
    answer = f"In {share} of all hours a promise is missed; in {slowed} clocks are lowered"
    style.ask(figure, "When are promises missed?", f"{answer}.")
    return figure


def by_day(
    hours: pd.DataFrame, values: pd.Series[Any], how: Literal["mean", "max"] = "mean"
) -> tuple[list[Any], Floats]:
    """Return the days, and float[day, hour of the day] of some values; NaN where there is none."""
    starts = hours["start"]
    table = pd.DataFrame(
        {"day": [at.date() for at in starts], "hour": [at.hour for at in starts], "value": values}
    )
    pivot = table.pivot_table(index="day", columns="hour", values="value", aggfunc=how)
    pivot = pivot.reindex(columns=range(24))
    return list(pivot.index), pivot.to_numpy(dtype=float)


def _edges(days: list[Any], grid: Floats) -> tuple[Floats, Floats]:
    first = float(date2num(days[0]))  # type: ignore[no-untyped-call]
    return first + np.arange(len(grid) + 1.0), np.arange(25.0)


def _calendar(axes: Axes) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.set_yticks(range(0, 25, 6), [f"{hour:02}:00" for hour in range(0, 25, 6)])
    axes.set_ylabel("time of day")
    axes.grid(False)
