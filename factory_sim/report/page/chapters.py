"""What a report says of a run, in the order in which a planner asks: first what came of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from factory_sim.report.causes import CAUSES, words
from factory_sim.report.folder import PlotWarning
from factory_sim.report.layout import Block
from factory_sim.report.page.drawing import picture
from factory_sim.report.page.picture import Picture
from factory_sim.report.plots import plots_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.summary import LATENCIES, promises_of, sections
from factory_sim.report.text import duration, megawatts, number, percent

Figures = Mapping[str, Any]

CHAPTERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Latency": (
        ("Latency in", "Promises", "Requests", "By class", "Services", "Users by region"),
        ("latency", "services", "regions"),
    ),
    "Throughput and power": (
        ("Tokens per second", "Power", "Where the watts", "Sites", "Building", "All buildings"),
        ("power", "energy", "flow", "one_line", "cooling", "load_duration"),
    ),
    "Where time went": (
        (
            *("Use of the", "Stations", "OEE", "Where the GPU", "Pools", "Links"),
            *("Autoscaling", "Training", "Failures"),
        ),
        ("gpu_time", "waterfall", "replicas"),
    ),
    "Money": (("Money",), ("money",)),
    "How sure": (("How sure", "What this rests on"), ()),
}
"""Which headings of a summary a chapter has, and which plots, by how their names begin."""

REST = "More"


class Tile(NamedTuple):
    """A figure that everybody asks for. note: what it is held against."""

    label: str
    value: str
    note: str = ""


class Verdict(NamedTuple):
    """A promise, or what binds. good: None where there is nothing to keep."""

    text: str
    good: bool | None = None


class Part(NamedTuple):
    """Blocks under a heading."""

    heading: str
    blocks: list[Block]


class Chapter(NamedTuple):
    """Parts and pictures under a heading."""

    heading: str
    parts: list[Part]
    pictures: list[Picture]


def tiles(summary: Figures) -> Iterator[Tile]:
    """Yield the figures at the head of a page, those that a run has."""
    if "output_tokens_per_s" in summary:
        kept = summary.get("goodput_output_tokens_per_s")
        note = "" if kept is None else f"{number(kept)} of them within every promise"
        yield Tile("output tokens/s", number(summary["output_tokens_per_s"]), note)
    for key, label in (("ttft", "time to first token"), ("tpot", "time per output token")):
        if f"{key}_ms" in summary:
            spread = summary[f"{key}_ms"]
            note = f"{duration(spread['p50'] / 1e3)} in the median"
            yield Tile(f"{label}, p99", duration(spread["p99"] / 1e3), note)
    if "grid_power_mw" in summary:
        limit = summary.get("grid_limit_mw")
        note = "mean" if limit is None else f"mean, of {megawatts(limit)} allowed"
        yield Tile("at the meter", megawatts(summary["grid_power_mw"]["mean"]), note)
    if "output_tokens_per_s_per_utility_mw" in summary:
        per_mw = number(summary["output_tokens_per_s_per_utility_mw"])
        yield Tile("output tokens/s per MW", per_mw, "of utility power drawn")
    if "usd_per_million_output_tokens" in summary:
        cost = summary["usd_per_million_output_tokens"]
        yield Tile("USD a million output tokens", number(cost), "all costs")
    elif "energy_usd_per_million_output_tokens" in summary:
        cost = summary["energy_usd_per_million_output_tokens"]
        yield Tile("USD a million output tokens", number(cost), "energy only")
    if "oee" in summary:
        yield Tile("OEE", percent(summary["oee"]["oee"]), "availability x performance x quality")


def verdicts(summary: Figures) -> Iterator[Verdict]:
    """Yield whether promises are kept, whether the cap is, and what binds."""
    for name, promise in promises_of(summary).items():
        for key, label in LATENCIES.items():
            part = promise.get(key)
            if not isinstance(part, Mapping) or ("value_ms" not in part and part["met"]):
                continue
            limit, at = duration(part["limit_ms"] / 1e3), f"p{promise['percentile']:g}"
            value = part.get("value_ms")
            found = "too many were never answered" if value is None else duration(value / 1e3)
            kept = "kept" if part["met"] else "broken"
            text = f"{name}: {label}, {at} {found}, limit {limit}: {kept}"
            yield Verdict(text, bool(part["met"]))
    if "cap_overshoot_s" in summary:
        over = summary["cap_overshoot_s"]
        told = f"exceeded for {duration(over)}" if over else "never exceeded"
        yield Verdict(f"power cap: {told}", not over)
    if "bottleneck" in summary:
        cause = summary["bottleneck"]
        meaning = f": {CAUSES[cause].meaning}" if cause in CAUSES else ""
        yield Verdict(f"what binds: {words(cause)}{meaning}")


def chapters(run: SavedRun) -> list[Chapter]:
    """Return the chapters of a run that have something to say."""
    told = dict(sections(run.summary, run.record))
    drawn = list(_pictures(run))
    found = []
    for heading, (headings, plots) in CHAPTERS.items():
        parts = [Part(name, told.pop(name)) for name in list(told) if name.startswith(headings)]
        pictures = [each for each in drawn if each.name.startswith(plots)]
        drawn = [each for each in drawn if each not in pictures]
        if parts or pictures:
            found.append(Chapter(heading, parts, pictures))
    if told or drawn:
        found.append(Chapter(REST, [Part(*each) for each in told.items()], drawn))
    return found


def _pictures(run: SavedRun) -> Iterator[Picture]:
    """Yield the plots of a run; one that cannot be drawn is a `PlotWarning`."""
    for name, draw in plots_of(run).items():
        try:
            yield picture(name, partial(draw, run))
        except Exception as error:  # whatever went wrong inside a plotting library
            warnings.warn(f"plot '{name}' is missing: {error}", PlotWarning, stacklevel=2)
