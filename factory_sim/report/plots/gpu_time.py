"""Where did the GPU-seconds go? The share of each cause, and the largest loss among them."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from factory_sim.report.causes import CAUSES, words
from factory_sim.report.plots import style
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import percent

_COLOURS = {
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
    causes = [
        *(cause for cause in CAUSES if cause in shares),
        *(cause for cause in shares if cause not in CAUSES),
    ]
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
        color=[_COLOURS.get(cause, style.PALE) for cause in causes],
    )
    axes.bar_label(bars, [percent(shares[cause]) for cause in causes], padding=5)
    for label, cause in zip(axes.get_yticklabels(), causes, strict=True):
        label.set_fontweight("bold" if cause == loss else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.1 * max(max(shares.values()), 0.01))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_xlabel("share of all GPU-seconds of the measured window")
    axes.grid(axis="y", visible=False)
    answer = "" if loss is None else f"Largest loss: {words(loss)}"
    if loss in CAUSES:
        answer += f" ({CAUSES[loss].meaning})"
    style.ask(figure, "Where did the GPU-seconds go?", answer)
    return figure
