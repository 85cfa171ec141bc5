"""What does each level carry, and what could it? The power chain from the feed to the GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from factory_sim.report.plots import style
from factory_sim.report.plots.levels import Level, levels_of
from factory_sim.report.plots.scale import power_scale
from factory_sim.report.plots.time_axis import window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import percent

_ROW_IN = 0.98
_BOX_IN = 2.1
_TRUNK_IN = 0.55
_BARS_IN = 3.3
_BAR_HEIGHT_IN = 0.3


def applies(run: SavedRun) -> bool:
    """Say whether a run knows its power chain."""
    return bool(run.summary.get("power_chain")) and window_of(run.summary) is not None


def draw(run: SavedRun) -> Figure:
    """Return a box and a load bar for each level, the feed at the top."""
    question = "What does each level carry, and what could it?"
    if not applies(run):
        figure = style.figure(12.0, 6.0)
        style.ask(figure, question)
        style.nothing(figure.subplots(), "this run knows no power chain")
        return figure
    levels = list(levels_of(run))
    figure = style.figure(12.0, 1.8 + _ROW_IN * len(levels))
    style.ask(figure, question, _answer(run.summary, levels))
    board = style.board(figure)
    width, height = board.get_xlim()[1], board.get_ylim()[1]
    bottom = height - _ROW_IN * len(levels)
    place = (_BARS_IN / width, bottom / figure.get_figheight(), 8.4 / width)
    bars = figure.add_axes((*place, (height - bottom) / figure.get_figheight()))
    bars.set_ylim(bottom, height)
    scale, unit = power_scale(_top_mw(levels))
    bars.set_xlim(0.0, 1.04 * _top_mw(levels) / scale)
    bars.set_xlabel(f"power ({unit}): mean of the measured window, highest of the whole run")
    bars.set_yticks([])
    bars.spines["left"].set_visible(False)
    for index, level in enumerate(levels):
        middle = height - _ROW_IN * (index + 0.5)
        _box(board, level, middle)
        _bar(bars, level, middle, scale)
    _trunk(board, levels, height)
    figure.legend(handles=_legend(), loc="lower left", bbox_to_anchor=(place[0], 0.0), ncols=4)
    return figure


def _top_mw(levels: list[Level]) -> float:
    """Return where the power axis ends: a feed far larger than the site would flatten the rest."""
    meter, *rest = levels
    inner = max(max(level.installed_mw, level.most_mw, level.mean_mw) for level in rest)
    return max(min(meter.rating_mw, 1.5 * inner), inner, meter.most_mw)


def _box(board: Axes, level: Level, middle: float) -> None:
    left = 0.15 if not level.branch else _TRUNK_IN + 0.4
    edge = style.VERMILLION if level.binds else style.BLACK
    board.add_patch(
        Rectangle(
            (left, middle - 0.32),
            _BOX_IN,
            0.64,
            facecolor="white",
            edgecolor=edge,
            linewidth=2.6 if level.binds else 1.2,
            zorder=3,
        )
    )
    centre = left + _BOX_IN / 2
    for text, up, weight in ((level.name, 0.14, "bold"), (level.made_of, -0.13, "normal")):
        board.text(centre, middle + up, text, ha="center", va="center", fontweight=weight, zorder=4)


def _trunk(board: Axes, levels: list[Level], height: float) -> None:
    middles = [height - _ROW_IN * (index + 0.5) for index in range(len(levels))]
    board.plot([_TRUNK_IN] * 2, [middles[0], middles[-1]], color=style.BLACK, zorder=1)
    for level, middle in zip(levels, middles, strict=True):
        if level.branch:
            board.plot([_TRUNK_IN, _TRUNK_IN + 0.4], [middle] * 2, color=style.BLACK, zorder=1)


def _bar(axes: Axes, level: Level, middle: float, scale: float) -> None:
    low = middle - 0.17
    most = max(level.most_mw, level.mean_mw)
    spans = (
        (0.0, level.mean_mw, {"facecolor": style.BLUE}),
        (level.mean_mw, most, {"facecolor": style.SKY}),
        (level.rating_mw, level.installed_mw, _HATCHED),
        (0.0, level.rating_mw, _OUTLINED),
    )
    for start, end, look in spans:
        if end > start:
            at = (start / scale, low)
            axes.add_patch(Rectangle(at, (end - start) / scale, _BAR_HEIGHT_IN, **look))
    axes.annotate(
        level.words,
        (0.0, middle + 0.28),
        xytext=(2, 0),
        textcoords="offset points",
        va="center",
    )
    axes.annotate(
        level.notes,
        (0.0, middle - 0.31),
        xytext=(2, 0),
        textcoords="offset points",
        va="center",
        color=style.VERMILLION,
        fontsize=11,
    )


_HATCHED: dict[str, Any] = {
    "facecolor": "white",
    "edgecolor": style.GREY,
    "hatch": "////",
    "linewidth": 0.8,
}
_OUTLINED: dict[str, Any] = {"facecolor": "none", "edgecolor": style.BLACK, "linewidth": 1.4}


def _legend() -> list[Patch]:
    return [
        Patch(facecolor=style.BLUE, label="mean"),
        Patch(facecolor=style.SKY, label="highest"),
        Patch(label="limit or rating (racks: provisioned)", **_OUTLINED),
        Patch(label="stands by, stranded", **_HATCHED),
    ]


def _answer(summary: Mapping[str, Any], levels: list[Level]) -> str:
    binding = summary.get("binding_limit")
    held = (
        "No limit held work back"
        if binding is None
        else f"The limit of {'the meter' if binding == 'meter' else binding} held work back"
    )
    fullest = max(levels, key=lambda level: level.fullest)
    share = f"{percent(fullest.fullest)} of what it may carry"
    return f"{held}; the fullest level is the {fullest.name}, at most at {share}"
