"""Where did the GPU-seconds go? The share of each cause, and the largest loss among them."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from factory_sim.report.causes import CAUSES, words
from factory_sim.report.plots import style
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import percent

COLOURS = {
    "compute": style.BLUE,
    "memory": style.SKY,
    "communication": style.GREEN,
    "host": style.PURPLE,
    "power_throttled": style.VERMILLION,
    "thermally_throttled": style.ORANGE,
}


def draw(run: SavedRun) -> Figure:
    """Return one bar per cause, in the order of the summary."""
    shares = run.summary.get("time_lost", {})
    causes = ordered(shares)
    figure = style.figure(12.0, 1.8 + 0.55 * max(len(causes), 4))
    axes = figure.subplots()
    if not causes:
        style.ask(figure, "Where did the GPU-seconds go?")
        style.nothing(axes, "this run kept no account of them")
        return figure
    loss = run.summary.get("bottleneck")
    bars = axes.barh(
        [words(cause) for cause in causes],
        [shares[cause] for cause in causes],
        color=[COLOURS.get(cause, style.PALE) for cause in causes],
    )
    axes.bar_label(bars, [percent(shares[cause]) for cause in causes], padding=5)
    for label, cause in zip(axes.get_yticklabels(), causes, strict=True):
        label.set_fontweight("bold" if cause == loss else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.1 * max(max(shares.values()), 0.01))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_xlabel("share of all GPU-seconds of the measured window")
    axes.grid(axis="y", visible=False)
    style.ask(figure, "Where did the GPU-seconds go?", answer(run))
    return figure


def ordered(shares: Iterable[str]) -> list[str]:
    """Return the causes that there are in their order, those that are new here last."""
    known = list(shares)
    return [*(c for c in CAUSES if c in known), *(c for c in known if c not in CAUSES)]


def answer(run: SavedRun) -> str:
    """Say what the largest loss is, and what bounds the factory then."""
    loss = run.summary.get("bottleneck")
    if loss is None:
        return ""
    said = f"Largest loss: {words(loss)}"
    return f"{said} ({CAUSES[loss].meaning})" if loss in CAUSES else said
