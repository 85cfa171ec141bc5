"""Does cooling keep up, and at what price? PUE, power by part, weather and temperatures."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from factory_sim.report.plots import style
from factory_sim.report.plots.scale import mean_mw, power_scale
from factory_sim.report.plots.time_axis import TimeAxis, window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import megawatts, number, percent

_PARTS = (
    ("air_movers", "air movers", style.PURPLE),
    ("coolant_pumps", "coolant pumps", style.GREEN),
    ("water_pumps", "water pumps", style.SKY),
    ("roof_fans", "roof fans", style.ORANGE),
    ("chillers", "chillers", style.BLUE),
)
_LEAST_SPAN_K = 4.0
"""A panel of temperatures spans no less, so that a still day looks still."""


def applies(run: SavedRun) -> bool:
    """Say whether a run has weather, and so a plant that answers to it."""
    return "dry_bulb_c" in run.timeseries


def draw(run: SavedRun) -> Figure:
    """Return four panels on one time axis: PUE, cooling by part, weather, temperatures."""
    figure = style.figure(12.0, 9.6)
    question = "Does cooling keep up, and at what price?"
    if not applies(run) or not len(run.timeseries):
        style.ask(figure, question)
        reason = "nothing was recorded" if applies(run) else "this run has no weather"
        style.nothing(figure.subplots(), reason)
        return figure
    style.ask(figure, question, _answer(run))
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(1, 1.5, 1, 1.5))
    pue, power, outside, inside = panels
    time = TimeAxis(run.timeseries)
    pue.plot(time.time, time.mean("pue"), color=style.BLACK)
    pue.set_ylabel("PUE")
    # No site has less than 1: from there the height is what the building adds.
    pue.set_ylim(1.0, max(1.1, 1.0 + 1.15 * (float(run.timeseries["pue"].max()) - 1.0)))
    _stack(power, time)
    _temperatures(
        outside,
        time,
        "outdoors (°C)",
        ("dry_bulb_c", "dry bulb", style.VERMILLION, "-"),
        ("wet_bulb_c", "wet bulb", style.SKY, "--"),
    )
    coolant = "coolant" if time.has("liquid_loop_c") else "inlet air"
    _temperatures(
        inside,
        time,
        "indoors (°C)",
        ("gpu_hottest_c", "hottest GPU", style.BLUE, "-"),
        ("coolant_hottest_c", f"hottest {coolant}\nof a rack", style.VERMILLION, "-"),
        ("liquid_loop_c", "coolant loop", style.GREEN, "--"),
        ("air_loop_c", "air loop", style.PURPLE, ":"),
    )
    inside.set_xlabel(f"{time.unit} (shaded: outside the measured window)")
    for axes in panels:
        time.finish(axes, window_of(run.summary))
    return figure


def _stack(axes: Axes, time: TimeAxis) -> None:
    parts = [
        (time.mean(f"{part}_mw"), label, colour)
        for part, label, colour in _PARTS
        if time.has(f"{part}_mw")
    ]
    below = 0.0 * time.time
    top = float(sum((mean for mean, _, _ in parts), below).max())
    scale, unit = power_scale(top)
    for mean, label, colour in parts:
        axes.fill_between(
            time.time, below / scale, (below + mean) / scale, color=colour, label=label, linewidth=0
        )
        below = below + mean
    axes.set_ylim(0.0, 1.08 * top / scale or 1.0)
    axes.set_ylabel(f"cooling ({unit})")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))


def _temperatures(
    axes: Axes, time: TimeAxis, label: str, *lines: tuple[str, str, str, str]
) -> None:
    for column, name, colour, dash in lines:
        if time.has(column):
            # Hardware minds the hottest moment of a bin, not its mean.
            values = time.highest(column) if "hottest" in column else time.mean(column)
            axes.plot(time.time, values, color=colour, linestyle=dash, linewidth=2.0, label=name)
    axes.set_ylabel(label)
    low, high = axes.get_ylim()
    room = max(0.1 * (high - low), _LEAST_SPAN_K - (high - low)) / 2
    axes.set_ylim(low - room, high + room)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _answer(run: SavedRun) -> str:
    summary = run.summary
    stopped = summary.get("outages", {}).get("heat", {}).get("replicas_stopped", 0)
    slowed = summary.get("time_lost", {}).get("thermally_throttled", 0.0)
    against = []
    if stopped:
        against.append(f"stopped {stopped:,} replica{'s' if stopped > 1 else ''}")
    if slowed:
        against.append(f"lowered clocks, at {percent(slowed)} of the GPU time")
    hottest = summary.get("temperature_c", {}).get("gpu_hottest_c")
    warm = "" if hottest is None else f"GPUs at most {number(hottest)} °C"
    verdict = f"No: heat {' and '.join(against)}" if against else "Yes"
    said = [verdict + (f", {warm}" if warm else "")]
    if "window_s" in summary and "energy_mwh" in summary:
        power = mean_mw(summary)
        cooling = sum(power.get(part, 0.0) for part, _, _ in _PARTS)
        share = cooling / sum(mw for part, mw in power.items() if part != "battery")
        price = f"cooling takes {megawatts(cooling)}, {percent(share)} of what the site uses"
        said.append(price + (f" (PUE {number(summary['pue'])})" if "pue" in summary else ""))
    return "; ".join(said)
