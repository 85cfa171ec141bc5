"""A year in the terminal and as JSON: a line for each month, and how far off it may be."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Any

import pandas as pd

from factory_sim.experiments.year.check import CHECKED
from factory_sim.experiments.year.year import Year
from factory_sim.report.layout import COLUMNS, Block, Entry, Table
from factory_sim.report.plots.scale import power_scale
from factory_sim.report.sweep import records
from factory_sim.report.text import duration, megawatts, number, percent, with_unit

_CHECKED = {
    "output_tokens_per_s": "tokens/s",
    "ttft_ms.p99": "TTFT",
    "tpot_ms.p99": "TPOT",
}


def blocks(year: Year) -> Iterator[Block]:
    """Yield what a terminal shows of a year."""
    hours, start = year.hours, year.hours["start"].iloc[0]
    whole = _whole(year.months)
    step = duration(float(hours["seconds"].iloc[0]))
    yield f"{year.name}: {len(hours):,} steps of {step} from {start:%Y-%m-%d %H:%M} on"
    yield ""
    yield Table(_months(year.months, whole))
    yield ""
    yield from _told(year, whole)
    yield from _against_the_engine(year)
    yield Entry("tables, plots", str(year.folder))


def document(year: Year) -> dict[str, Any]:
    """Return a year as plain data; what is not there is left out."""
    return {
        "year": year.name,
        "growth": year.growth,
        "faster": year.faster,
        "months": records(year.months),
        "whole": _whole(year.months),
        "surface": {"runs": year.runs, "clocks": year.clocks},
        "median_errors": year.errors,
        "checks": records(year.checks),
        "failed": {str(hour): cause for hour, cause in year.failed.items()},
    }


def _whole(months: pd.DataFrame) -> dict[str, float]:
    """Return what all months come to."""
    sums = months.drop(columns=["month", "pue", "grid_power_mw.max"]).sum()
    whole = {str(name): float(value) for name, value in sums.items()}
    whole["pue"] = whole["site_energy_mwh"] / whole["it_energy_mwh"]
    whole["grid_power_mw.max"] = float(months["grid_power_mw.max"].max())
    return whole


def _months(months: pd.DataFrame, whole: dict[str, float]) -> list[list[str]]:
    """Return heading and cells; columns that no month has anything in are left out."""
    rows: list[dict[Any, Any]] = [*months.to_dict("records"), {"month": "whole", **whole}]
    tokens = [with_unit(row["output_tokens"], "") for row in rows]
    names = [f"{row['month']:<10}{made:>12}" for row, made in zip(rows, tokens, strict=True)]
    columns = [[f"{'month':<10}{'tokens':>12}", *names]]
    columns.append(["GWh", *(number(row["energy_mwh"] / 1e3) for row in rows)])
    columns.append(["PUE", *(f"{row['pue']:.3f}" for row in rows)])
    if "cost_usd" in months:
        columns.append(["USD", *(with_unit(row["cost_usd"], "") for row in rows)])
    if "carbon_t" in months:
        columns.append(["t CO2", *(f"{row['carbon_t']:,.0f}" for row in rows)])
    for head, name in (("missed", "slo_missed"), ("capped", "capped")):
        columns.append([head, *(_hours(row[f"hours_{name}"]) for row in rows)])
    if whole["turned_away"]:
        away = (percent(row["turned_away"] / row["requests"]) for row in rows)
        columns.append(["away", *away])
    if whole["water_l"]:
        columns.append(["m3", *(number(row["water_l"] / 1e3) for row in rows)])
    while sum(2 + max(map(len, column)) for column in columns) > COLUMNS:
        columns.pop()
    return [list(row) for row in zip(*columns, strict=True)]


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours else "-"


def _told(year: Year, whole: dict[str, float]) -> Iterator[Block]:
    hours = year.hours
    demand = f"{number(float(hours['asked_requests_per_s'].mean()))} requests/s in the mean, "
    demand += f"{number(float(hours['asked_requests_per_s'].max()))} at most"
    if year.growth:
        demand += f"; it grows by {percent(year.growth)} a year"
    yield Entry("demand", demand)
    if year.faster:
        told = f"{percent(year.faster)} faster a year: as much work in less time, at the same watts"
        yield Entry("software", told)
    yield Entry("output tokens", _tokens(whole))
    power = f"{megawatts(float(hours['grid_power_mw'].mean()))} at the meter in the mean, "
    yield Entry("power", f"{power}{megawatts(whole['grid_power_mw.max'])} at most")
    if "cost_usd" in whole:
        per = whole["cost_usd"] / whole["output_tokens"] * 1e6
        mean = whole["cost_usd"] / whole["energy_mwh"]
        told = f"{number(whole['cost_usd'])} USD, {number(mean)} USD/MWh in the mean"
        told += f"; {number(per)} USD for a million output tokens"
        yield Entry("energy", told)
    up = float(hours["replicas_up"].mean() / hours["replicas_up"].max())
    if up < 1.0:
        yield Entry("replicas up", f"{percent(up)} of {hours['replicas_up'].max():,.0f}")
    if whole["hours_capped"]:
        lowest = percent(float(hours["clock"].min()))
        told = f"clocks lowered for {whole['hours_capped']:,.0f} h, to {lowest} at the lowest"
        if whole["hours_over_limit"]:
            told += f"; for {whole['hours_over_limit']:,.0f} h even the lowest is over the limit"
        yield Entry("cap", told)
    if whole["hours_overloaded"]:
        told = f"{whole['hours_overloaded']:,.0f} h with more requests than can be served; what is "
        yield Entry("overload", f"{told}not served within its hour is turned away")


def _tokens(whole: dict[str, float]) -> str:
    joules = 3.6e9 * whole["energy_mwh"] / whole["output_tokens"]
    kept = whole["goodput_output_tokens"] / whole["output_tokens"]
    made = with_unit(whole["output_tokens"], "")
    return f"{made}, {percent(kept)} of them within every promise; {number(joules)} J each"


def _against_the_engine(year: Year) -> Iterator[Block]:
    """Yield the hours that the engine has played, and the median errors."""
    runs = f"{_many(year.runs, 'run')} of the engine, at {_many(len(year.clocks), 'clock')}"
    if len(year.clocks) > 1:
        runs += f", {percent(year.clocks[-1])} the lowest"
    yield Entry("surfaces", runs)
    for hour, cause in year.failed.items():
        yield Entry(f"hour {hour:,} failed", cause)
    if not len(year.checks):
        return
    yield ""
    yield "Hours that the engine has played (p99 in ms), and how many % the year is off"
    scale, unit = power_scale(float(year.checks["grid_power_mw.engine"].max()))
    heads = _CHECKED | {"grid_power_mw": unit}
    rows = [["hour", *(head for name in CHECKED for head in (heads[name], "off"))]]
    for row in year.checks.to_dict("records"):
        when = year.hours["start"].iloc[int(row["hour"])]
        cells = [f"{when:%Y-%m-%d %H:%M}{' busy' if row['busiest'] else ''}"]
        for name in CHECKED:
            engine, error = float(row[f"{name}.engine"]), 100.0 * float(row[f"{name}.error"])
            cells += (
                ["never", "-"] if isnan(engine) else [_short(engine, name, scale), f"{error:+.1f}"]
            )
        rows.append(cells)
    medians = [cell for name in CHECKED for cell in ("", f"{100.0 * year.errors[name]:.1f}")]
    rows.append(["median of the size", *medians])
    yield Table(rows)
    yield ""


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _short(value: float, name: str, scale: float) -> str:
    if name == "output_tokens_per_s":
        return with_unit(value, "")
    return number(value / scale, 4) if name == "grid_power_mw" else number(value)
