"""Several sites in one run: each seen as a run of its own, and all of them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from factory_sim.report.building import building
from factory_sim.report.layout import Block, Table
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import duration, megawatts, number

Figures = Mapping[str, Any]
MOST_COLUMNS = 4
"""So many sites fit beside each other in 80 columns."""


def by_site(run: SavedRun) -> dict[str, SavedRun]:
    """Return what a run of several sites says of each, by name, as of a run of that site alone."""
    return {name: _seen(run, name, own) for name, own in run.summary.get("sites", {}).items()}


def _seen(run: SavedRun, name: str, summary: dict[str, Any]) -> SavedRun:
    begin = f"site/{name}."
    own = {c: c.removeprefix(begin) for c in map(str, run.timeseries) if c.startswith(begin)}
    series = run.timeseries[["time_s", *own]].rename(columns=own)
    record = run.record | run.record["sites"][name]
    return replace(run, summary=summary, timeseries=series, record=record)


def sites(summary: Figures) -> Iterator[Block]:
    """Yield a table of what each site drew and made, a few sites beside each other."""
    whole = summary.get("sites", {})
    names = list(whole)
    for first in range(0, len(names), MOST_COLUMNS):
        beside = names[first : first + MOST_COLUMNS]
        rows = [["", *beside]]
        for label, told in _ROWS.items():
            cells = [told(whole[name]) for name in beside]
            if any(cells):
                rows.append([label, *cells])
        yield Table(rows)


def buildings(summary: Figures) -> Iterator[tuple[str, Iterator[Block]]]:
    """Yield a heading and the lines of each site's building."""
    for name, own in summary.get("sites", {}).items():
        yield f"Building of {name}", building(own)


def _cap(site: Figures) -> str:
    lowest, highest = site["grid_limit_mw"], site.get("grid_limit_highest_mw")
    return megawatts(lowest) + (f" to {megawatts(highest)}" if highest else "")


def _of(key: str, told: Callable[[Any], str] = number) -> Callable[[Figures], str]:
    return lambda site: told(site[key]) if key in site else ""


_ROWS: dict[str, Callable[[Figures], str]] = {
    "GPUs": _of("gpus", str),
    "output tokens/s": _of("output_tokens_per_s"),
    "drawn at the meter": _of("grid_power_mw", lambda drawn: megawatts(drawn["mean"])),
    "highest": _of("grid_power_mw", lambda drawn: megawatts(drawn["max"])),
    "cap": _cap,
    "above the cap": _of("cap_overshoot_s", lambda over: duration(over) if over else "never"),
    "PUE": _of("pue", lambda pue: f"{pue:.3f}"),
    "J per output token": _of("energy_per_output_token_j"),
    "USD per 1M tokens": _of("energy_usd_per_million_output_tokens"),
    "g CO2 per 1M tokens": _of("gco2_per_million_output_tokens"),
    "clock in the mean": _of("clock", lambda clock: f"{100 * clock['mean']:.3g} %"),
}
"""What the table says of a site, and how; tokens are those of output, dollars the energy bill."""
