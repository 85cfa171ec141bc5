"""What does a million output tokens cost? By component, with the price they sell for."""

from __future__ import annotations

from matplotlib.figure import Figure

from factory_sim.report.money import COMPONENTS
from factory_sim.report.plots import style
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import number, percent

COLOURS = {"electricity": style.ORANGE, "demand": style.ORANGE}


def applies(run: SavedRun) -> bool:
    """Say whether a run knows what its tokens cost."""
    return bool(run.summary.get("cost_usd")) and "usd_per_million_output_tokens" in run.summary


def draw(run: SavedRun) -> Figure:
    """Return a bar for each component, the dearest first."""
    summary, question = run.summary, "What does a million output tokens cost?"
    if not applies(run):
        figure = style.figure(12.0, 4.0)
        style.ask(figure, question)
        style.nothing(figure.subplots(), "this run has no costs")
        return figure
    each, parts = summary["usd_per_million_output_tokens"], parts_of(run)
    names = list(parts)
    figure = style.figure(12.0, 1.9 + 0.55 * max(len(names), 4))
    axes = figure.subplots()
    bars = axes.barh(
        [COMPONENTS[name] for name in names],
        [parts[name] for name in names],
        color=[COLOURS.get(name, style.BLUE) for name in names],
    )
    axes.bar_label(
        bars,
        [f"{number(parts[name])} ({percent(parts[name] / each)})" for name in names],
        padding=5,
    )
    axes.invert_yaxis()
    low, high = min(0.0, *parts.values()), max(parts.values())
    axes.set_xlim(1.15 * low, 1.18 * high)
    axes.set_xlabel("USD per million output tokens, prompts included in the cost of the answer")
    axes.grid(axis="y", visible=False)
    style.ask(figure, question, answer(run))
    return figure


def parts_of(run: SavedRun) -> dict[str, float]:
    """Return USD per million output tokens by component, the dearest first."""
    whole, each = run.summary["cost_usd"], run.summary["usd_per_million_output_tokens"]
    parts = {name: usd / whole * each for name, usd in run.summary["costs_usd"].items() if usd}
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def answer(run: SavedRun) -> str:
    summary = run.summary
    each = number(summary["usd_per_million_output_tokens"])
    text = f"{each} USD by the output token"
    if "usd_per_million_total_tokens" in summary:
        text += f", {number(summary['usd_per_million_total_tokens'])} by the token in or out"
    if "breakeven_utilisation" in summary:
        text += f"; sales pay for it at {percent(summary['breakeven_utilisation'])} of this load"
    return text
