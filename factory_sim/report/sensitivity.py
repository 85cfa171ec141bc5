"""A sensitivity in the terminal and as JSON: what moves goodput, ranked, and what else it moves."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Any

import pandas as pd

from factory_sim.experiments.sensitivity.levers import LEVERS
from factory_sim.experiments.sensitivity.run import GOODPUT, TRAFFIC, WORTH, Sensed
from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.sweep import records
from factory_sim.report.text import number, percent

_SHORT = {
    "ttft_ms.p99": "TTFT p99",
    "tpot_ms.p99": "TPOT p99",
    "energy_per_output_token_j": "J/token",
    "usd_per_million_output_tokens": "USD/Mtok",
    GOODPUT: "goodput/s",
}
_WHOLE = ("racks", "replicas", "requests")
_DIGITS_OF_INTEREST = 0.0005


def blocks(sensed: Sensed) -> Iterator[Block]:
    """Yield what a terminal shows: the largest gain first, then every lever."""
    base, levers = sensed.table.iloc[0], sensed.table.iloc[1:]
    if sensed.at_capacity:
        yield "What would move the most goodput that this site can give"
        column = f"capacity.{GOODPUT}"
        told = (
            f"{number(base[column])} output tokens/s within every promise, at "
            f"{number(base['capacity.load'])} times the traffic that is given"
        )
        yield Entry("as given", told)
        yield Entry("bottleneck", _bottleneck(levers, column, float(base[column])))
    else:
        yield "What would move latency and energy at the traffic that is given"
    yield from _megawatt(levers)
    yield Table(list(_rows(sensed)))
    if sensed.at_capacity:
        yield Entry(
            "goodput", "at the most traffic that keeps every promise; the rest at that given"
        )
    if sensed.replications > 1:
        yield Entry("±", "half of the 95 % interval of the change, over the same seeds")
    for _, row in levers[levers["contrary"]].iterrows():
        said = "surely less goodput, where more was expected: whatever lets more requests or racks"
        yield Entry(label(row), f"{said} share what there is slows each, and breaks promises")
    for name, why in sensed.left_out.items():
        yield Entry("left out", f"{name}: {why}")
    yield Entry("every scenario", str(sensed.folder / "points"))


def document(sensed: Sensed) -> dict[str, Any]:
    """Return it as plain data; what is not there is left out."""
    rows = records(sensed.table)
    return {
        "change": sensed.share,
        "replications": sensed.replications,
        "as_given": rows[0],
        "levers": rows[1:],
        "left_out": sensed.left_out,
    }


def label(row: pd.Series[Any]) -> str:
    """Return a lever and how far it was moved: `HBM bandwidth +10 %`."""
    before, after, unit = float(row["before"]), float(row["after"]), str(row["unit"])
    if unit in _WHOLE:
        return f"{row['title']} {after - before:+,.0f}"
    if unit == "K":
        return f"{row['title']} {after - before:+.0f} K"
    floor = 1.0 if unit == "PUE" else 0.0
    return f"{row['title']} {100.0 * ((after - floor) / (before - floor) - 1.0):+.3g} %"


def share(row: pd.Series[Any], base: pd.Series[Any], column: str) -> tuple[float, float]:
    """Return how a figure moves, and the half width of that, as shares of the one as given."""
    given = float(base.get(column, 0.0))
    if not given or column not in row:
        return float("nan"), float("nan")
    return tuple(float(row[f"{column}.{part}"]) / given for part in ("difference", "half_width"))  # type: ignore[return-value]


def _bottleneck(levers: pd.DataFrame, column: str, given: float) -> str:
    """Return what of the site moves goodput most for the better, if anything surely does."""
    levers = levers[[LEVERS[name].ours for name in levers["lever"]]]
    moved, sure = levers[f"{column}.difference"], levers[f"{column}.half_width"].fillna(0.0)
    gains = levers[(moved > sure) & (moved > given * _DIGITS_OF_INTEREST)]
    if gains.empty:
        return "none: nothing that was moved surely gives more"
    first = gains.iloc[0]
    per = float(first["capacity.tokens_per_s_per_unit"])
    more = percent(float(first[f"{column}.difference"]) / given)
    told = f"{label(first)} gives {more} more goodput"
    if first["unit"] in ("MW", "TB/s", "GB", "GB/s", "Tflop/s", *_WHOLE):
        one = str(first["unit"]).removesuffix("s") if first["unit"] in _WHOLE else first["unit"]
        told += f", {number(per)} output tokens/s for one more {one}"
    return told


def _megawatt(levers: pd.DataFrame) -> Iterator[Block]:
    """Yield what one more MW at the meter earns, where the site has costs and prices."""
    where = {
        f"capacity.{WORTH}": "at the most traffic that keeps every promise",
        f"traffic.{WORTH}": "at the traffic that is given",
    }
    for _, row in levers[levers["lever"] == "grid_limit"].iterrows():
        told = [
            f"{_yearly(float(row[column]), float(row[f'{column}.half_width']))} {at}"
            for column, at in where.items()
            if column in row
        ]
        if told:
            filled = "profit, after all costs of what it brings"
            yield Entry("one more MW", f"{', '.join(told)}: {filled}")


def _yearly(usd: float, half_width: float) -> str:
    """Return dollars of a year in millions, with their sign and interval."""
    sure = "" if isnan(half_width) else f" ± {number(half_width / 1e6)}"
    return f"{'-' if usd < 0.0 else '+'}{number(abs(usd) / 1e6)}{sure} MUSD a year"


def _rows(sensed: Sensed) -> Iterator[list[str]]:
    """Yield heading and cells: changes, as shares of the figures as given."""
    base, levers = sensed.table.iloc[0], sensed.table.iloc[1:]
    columns = [f"traffic.{name}" for name in TRAFFIC if name in _SHORT and name != GOODPUT]
    columns = [column for column in columns if column in sensed.table]
    if sensed.at_capacity:
        columns.insert(0, f"capacity.{GOODPUT}")
    spread = sensed.at_capacity and sensed.replications > 1
    heads = [_SHORT[column.partition(".")[2]] for column in columns]
    yield ["", *([*heads[:1], "±"] if spread else heads[:1]), *heads[1:]]
    for _, row in levers.iterrows():
        cells = [label(row)]
        for place, column in enumerate(columns):
            moved, half_width = share(row, base, column)
            cells.append(_signed(moved))
            if spread and place == 0:
                cells.append(_unsigned(half_width))
        yield cells


def _signed(value: float) -> str:
    if isnan(value):
        return "-"
    return "0 %" if abs(value) < _DIGITS_OF_INTEREST else f"{100.0 * value:+.1f} %"


def _unsigned(value: float) -> str:
    return "" if isnan(value) else f"{100.0 * value:.1f} %"
