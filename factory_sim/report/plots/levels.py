"""The levels of a site's power chain, from the utility feed to the GPUs: what each carried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from factory_sim.report.plots.scale import mean_mw
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import duration, megawatts, percent

_STAGES = {"transformer": "transformer", "ups": "UPS", "pdu": "PDU"}
_COOLING = ("air_movers", "coolant_pumps", "water_pumps", "roof_fans", "chillers", "building")
"""What a transformer feeds beside the racks."""


@dataclass(frozen=True)
class Level:
    """A level of the chain: what it carried, and what it may.

    made_of: its blocks in words. most_mw: its highest load, where one is known. rating_mw: what it
    may deliver, where that is limited; installed_mw: with what stands by. words: its load in a
    sentence. fullest: its highest load over what it may carry. notes: how it fared at its limit;
    binds: whether that limit held work back. branch: off the chain, beside it.
    """

    name: str
    made_of: str
    mean_mw: float
    words: str
    most_mw: float = 0.0
    rating_mw: float = 0.0
    installed_mw: float = 0.0
    fullest: float = 0.0
    notes: str = ""
    binds: bool = False
    branch: bool = False


def levels_of(run: SavedRun) -> Iterator[Level]:
    """Yield the levels of a run that has a power chain, the feed first."""
    summary, chain = run.summary, run.summary["power_chain"]
    yield _meter(run)
    yield from _own_sources(summary)
    beside = _beside(summary)
    if "transformer" not in chain and beside is not None:
        yield beside
    for name in chain:
        yield _stage(name, chain[name], summary)
        if name == "transformer" and beside is not None:
            yield beside
    yield _racks(run)
    yield _gpus(run)


def _meter(run: SavedRun) -> Level:
    summary, series = run.summary, run.timeseries
    mean, most = summary["power_mw"]["grid"], summary["grid_power_mw"]["max"]
    low = high = summary["grid_limit_mw"]
    fullest = most / high
    if len(series):
        limit = series["grid_limit_mw"]
        low, high = float(limit.min()), float(limit.max())
        # A limit that moves is compared with the power of its own time.
        fullest = float((series["grid_power_mw"] / limit).max())
    words = f"mean {megawatts(mean)}, highest {megawatts(most)}"
    words += (
        f" ({percent(fullest)}) of {megawatts(high)}"
        if low == high
        else f", limit {megawatts(low)} to {megawatts(high)}: at most {percent(fullest)} of it"
    )
    notes = _over(summary, ["meter"], 1, "")
    if not notes and summary.get("cap_overshoot_s"):
        notes = [f"over its limit for {duration(summary['cap_overshoot_s'])}"]
    notes += _held(summary, ["meter"])
    return Level(
        "grid meter",
        "utility feed",
        mean,
        words,
        most,
        rating_mw=high,
        installed_mw=high,
        fullest=fullest,
        notes="; ".join(notes),
        binds=summary.get("binding_limit") == "meter",
    )


def _own_sources(summary: Mapping[str, Any]) -> Iterator[Level]:
    """Yield what the site has beside its meter, on its own side of it."""
    generated = summary.get("generation_mw", 0.0)
    if generated:
        yield Level(
            "generation", "of the site", generated, f"gives {megawatts(generated)}", branch=True
        )
    battery = mean_mw(summary).get("battery", 0.0)
    if battery:
        does = "takes" if battery > 0 else "gives"
        words = f"{does} {megawatts(abs(battery))} on balance"
        yield Level("battery", "at the meter", abs(battery), words, branch=True)


def _stage(name: str, use: Mapping[str, Any], summary: Mapping[str, Any]) -> Level:
    blocks, fullest = use["blocks"], use["highest_load"]
    mean, rating, stranded = use["mean_mw"], use["rating_mw"], use["stranded_mw"]
    # How full the fullest of several blocks was says nothing of their sum.
    most = fullest * rating if blocks == 1 else 0.0
    words = f"mean {megawatts(mean)}"
    words += (
        f", highest {megawatts(most)} ({percent(fullest)}) of {megawatts(rating)}"
        if blocks == 1
        else f" of {megawatts(rating)}, fullest block at {percent(fullest)}"
    )
    if stranded:
        words += f"; {megawatts(stranded)} stand by"
    own = [level for level in summary.get("limits", {}) if level.startswith(f"{name}-")]
    notes = _over(summary, own, blocks, "blocks") + _held(summary, own)
    return Level(
        _STAGES.get(name, name),
        f"{blocks:,} block{'s' if blocks > 1 else ''}, {use['redundancy']}",
        mean,
        words,
        most,
        rating_mw=rating,
        installed_mw=use["installed_mw"],
        fullest=fullest,
        notes="; ".join(notes),
        binds=summary.get("binding_limit") in own,
    )


def _racks(run: SavedRun) -> Level:
    summary, racks = run.summary, run.record.get("racks", 0)
    mean, most = summary["power_mw"]["it"], _highest_mw(run, "it_power_mw")
    rating = summary["provisioned"]["it_mw"]
    limits = summary.get("limits", {})
    stages = tuple(f"{stage}-" for stage in summary["power_chain"])
    own = [level for level in limits if level != "meter" and not level.startswith(stages)]
    fullest = max(
        (limits[feed]["highest_mw"] / limits[feed]["limit_mw"] for feed in own), default=0
    )
    words = f"mean {megawatts(mean)}, highest {megawatts(most)}, {megawatts(rating)} provisioned"
    if own:
        words += f"; fullest feed at {percent(fullest)}"
    notes = _over(summary, own, racks or len(own), "feeds") + _held(summary, own)
    return Level(
        "racks",
        f"{racks:,} rack{'s' if racks > 1 else ''}" if racks else "all IT",
        mean,
        words,
        most,
        rating_mw=rating,
        installed_mw=rating,
        fullest=fullest,
        notes="; ".join(notes),
        binds=summary.get("binding_limit") in own,
    )


def _gpus(run: SavedRun) -> Level:
    mean, most = run.summary["power_mw"]["gpu"], _highest_mw(run, "gpu_power_mw")
    words = f"mean {megawatts(mean)}, highest {megawatts(most)}"
    return Level("GPUs", f"{run.summary['gpus']:,} boards", mean, words, most)


def _beside(summary: Mapping[str, Any]) -> Level | None:
    """Return what is fed beside the racks, unless that is nothing."""
    power = mean_mw(summary)
    mean = sum(power.get(part, 0.0) for part in _COOLING)
    if not mean:
        return None
    return Level("cooling", "and the building", mean, f"mean {megawatts(mean)}", branch=True)


def _highest_mw(run: SavedRun, column: str) -> float:
    mean = run.summary["power_mw"][column.partition("_")[0]]
    return float(run.timeseries[column].max()) if len(run.timeseries) else float(mean)


def _over(summary: Mapping[str, Any], levels: list[str], count: int, kind: str) -> list[str]:
    """Return how many of some levels were over their limits, and the longest of them."""
    limits = summary.get("limits", {})
    over = {name: limits[name]["overshoot_s"] for name in levels if name in limits}
    worst = max(over, key=lambda name: over[name], default="")
    if not worst or not over[worst]:
        return []
    if count == 1:
        return [f"over its limit for {duration(over[worst])}"]
    number = sum(seconds > 0 for seconds in over.values())
    longest = f"longest {worst} for {duration(over[worst])}"
    return [f"{number:,} of {count:,} {kind} over their limit, {longest}"]


def _held(summary: Mapping[str, Any], levels: list[str]) -> list[str]:
    """Return for how long the limit that binds held work back, if it is one of these levels."""
    binding = summary.get("binding_limit")
    if binding not in levels:
        return []
    held_s = summary.get("limits", {}).get(binding, {}).get("held_back_s")
    name = "its limit" if binding == "meter" else f"the limit of {binding}"
    return [f"{name} held work back" + (f" for {duration(held_s)}" if held_s else "")]
