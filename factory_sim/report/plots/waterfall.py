"""Where did the GPU-hours, and the megawatts, go? From all there were down to useful tokens.

A waterfall: the first bar is all that came in, each next one what a loss took, and the last what is
left. Bars stand side by side from left to right, one row each, so that labels have room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from factory_sim.report.losses import BRANCHES, LOSSES
from factory_sim.report.plots import style
from factory_sim.report.plots.scale import power_scale
from factory_sim.report.plots.time_axis import window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import number, percent

COLOURS = {
    "without demand": style.PALE,
    "availability": style.PURPLE,
    "performance": style.ORANGE,
    "quality": style.VERMILLION,
    "building": style.SKY,
    "IT": style.GREEN,
}


class Step(NamedTuple):
    """A loss: its name, how much it took, and the group it belongs to."""

    name: str
    amount: float
    group: str


def hours_apply(run: SavedRun) -> bool:
    """Say whether a run knows the losses of its GPU time."""
    return bool(run.summary.get("oee_losses")) and window_of(run.summary) is not None


def draw_hours(run: SavedRun) -> Figure:
    """Return the waterfall of GPU-hours of all deployments."""
    question = "Where did the GPU-hours go?"
    if not hours_apply(run):
        return _empty(question)
    steps, useful = hours_of(run)
    return _draw(
        question, hours_answer(run), "all GPU-hours", steps, useful, "GPU-hours of the window"
    )


def hours_of(run: SavedRun) -> tuple[list[Step], float]:
    """Return what each loss took of all GPU-hours, and what made useful tokens."""
    shares, gpu_h = run.summary["oee_losses"], _gpu_hours(run)
    steps = [
        Step(LOSSES[name], gpu_h * shares[name], group)
        for group in ("without demand", "availability", "performance", "quality")
        for name in BRANCHES[group]
        if name in shares
    ]
    return steps, gpu_h * shares.get("useful", 0.0)


def hours_answer(run: SavedRun) -> str:
    """Say how much of all GPU-hours made useful tokens."""
    left = percent(run.summary["oee_losses"].get("useful", 0.0))
    text = f"{left} made useful tokens at the best pace"
    if "oee" in run.summary:
        text += f"; OEE, without time without demand, is {percent(run.summary['oee']['oee'])}"
    return text


def _gpu_hours(run: SavedRun) -> float:
    window = run.summary["window_s"]
    gpus = sum(part["gpus"] for part in run.summary["deployments"].values())
    return float(gpus * (window["end"] - window["start"]) / 3600.0)


def megawatts_apply(run: SavedRun) -> bool:
    """Say whether a run knows what its energy was for, and what became of its tokens."""
    return hours_apply(run) and bool(run.summary.get("energy_use_mwh"))


def draw_megawatts(run: SavedRun) -> Figure:
    """Return the waterfall of mean watts, from what came in to what GPUs drew for useful tokens."""
    question = "Where did the megawatts go?"
    if not megawatts_apply(run):
        return _empty(question)
    summary = run.summary
    hours = (summary["window_s"]["end"] - summary["window_s"]["start"]) / 3600.0
    uses = {name: mwh / hours for name, mwh in summary["energy_use_mwh"].items()}
    scale, unit = power_scale(sum(uses.values()))
    uses = {name: mw / scale for name, mw in uses.items()}
    outside = {
        "battery": ("battery", "building"),
        "losses": ("losses of the chain", "building"),
        "cooling": ("cooling", "building"),
        "building": ("rest of the building", "building"),
        "hosts": ("hosts, fans, switches", "IT"),
        "training": ("training jobs", "IT"),
        "idle": ("GPUs without a step", "without demand"),
    }
    steps = [
        Step(*outside[name][:1], uses[name], outside[name][1]) for name in outside if name in uses
    ]
    work = sum(uses.get(name, 0.0) for name in ("prefill", "decode", "communication"))
    lost = {name: summary["oee_losses"].get(name, 0.0) for name in BRANCHES["quality"]}
    made = summary["oee_losses"].get("useful", 0.0) + sum(lost.values())
    steps += [Step(LOSSES[n], work * part / made, "quality") for n, part in lost.items() if part]
    useful = work * summary["oee_losses"].get("useful", 0.0) / made
    text = f"{percent(useful / sum(uses.values()))} of it was drawn by GPUs for useful tokens"
    return _draw(
        question, text, "all that came in", steps, useful, f"mean power of the window ({unit})"
    )


def _empty(question: str) -> Figure:
    figure = style.figure(12.0, 4.5)
    style.ask(figure, question)
    style.nothing(figure.subplots(), "this run kept no account of them")
    return figure


def _draw(
    question: str, answer: str, first: str, steps: Sequence[Step], useful: float, axis: str
) -> Figure:
    """Return the bars: what came in, each loss from where the last one ended, what is useful."""
    whole = useful + sum(step.amount for step in steps)
    rows = [(first, 0.0, whole, style.BLACK)]
    right = whole
    for step in steps:
        right -= step.amount
        rows.append((step.name, right, step.amount, COLOURS[step.group]))
    rows.append(("useful tokens", 0.0, useful, style.BLUE))
    figure = style.figure(12.0, 1.8 + 0.45 * max(len(rows), 6))
    axes = figure.subplots()
    names, lefts, widths, colours = zip(*rows, strict=True)
    bars = axes.barh(range(len(rows)), widths, left=lefts, color=colours)
    axes.set_yticks(range(len(rows)), names)
    for bar, (_, left, width, _) in zip(bars, rows, strict=True):
        text = f"{number(width)} ({percent(width / whole)})" if whole else ""
        middle = bar.get_y() + bar.get_height() / 2.0
        axes.annotate(
            text, (max(left, 0.0) + width, middle), (6, 0), textcoords="offset points", va="center"
        )
    axes.invert_yaxis()
    low = min(0.0, *lefts)
    axes.set_xlim(
        low, 1.2 * max(whole, *(left + width for left, width in zip(lefts, widths, strict=True)))
    )
    axes.set_xlabel(axis)
    axes.grid(axis="y", visible=False)
    style.ask(figure, question, answer)
    return figure
