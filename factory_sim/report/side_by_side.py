"""Scenarios side by side in the terminal: what differs, how surely, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from factory_sim.experiments.compare import GROUPS
from factory_sim.report.causes import words
from factory_sim.report.layout import Block, Entry, Table, rendered
from factory_sim.report.sweep import LABELS
from factory_sim.report.text import number, percent

_HEADINGS = {
    "figures": "Figures",
    "time_lost": "Where the GPU-seconds went",
    "power_mw": "Where the watts went, kW",
    "energy_per_output_token_j": "Where the joules of an output token went",
}
_MOST = 8
_LABEL_COLUMNS = 34


def lines(compared: pd.DataFrame, replications: int) -> Iterator[str]:
    """Yield what a terminal shows: see `blocks`."""
    return rendered(blocks(compared, replications))


def blocks(compared: pd.DataFrame, replications: int) -> Iterator[Block]:
    """Yield every scenario beside the first; of ledgers what differs most, largest first."""
    names = list(dict.fromkeys(compared["scenario"]))
    base = compared[compared["scenario"] == names[0]]
    for name in names[1:]:
        own = compared[compared["scenario"] == name]
        yield f"{name} beside {names[0]}: {replications} runs each, with the same seeds"
        for group in GROUPS:
            rows = list(_rows(base[base["group"] == group], own[own["group"] == group]))
            if rows:
                yield ""
                yield _HEADINGS[group]
                yield Table([["".ljust(_LABEL_COLUMNS), *_COLUMNS], *rows])
        yield ""
    yield Entry("±", "half of the 95 % interval of the difference, run by run")
    yield Entry("~", "no clear difference: the interval holds 0")


_COLUMNS = ("first", "this", "difference", "±")


def _rows(base: pd.DataFrame, own: pd.DataFrame) -> Iterator[list[str]]:
    """Yield the figures of a group of one scenario, beside those of the first."""
    joined = own.set_index("figure").join(base.set_index("figure")["mean"].rename("first"))
    group = str(own["group"].iloc[0]) if len(own) else ""
    if group != "figures":
        joined = joined[(joined["first"] != 0.0) | (joined["mean"] != 0.0)]
        joined = joined.sort_values("difference", key=abs, ascending=False, kind="stable")
        joined = joined.head(_MOST)
    for figure, row in joined.dropna(subset=["mean", "first"]).iterrows():
        yield _cells(group, str(figure), *(float(row[name]) for name in _FIELDS))


_FIELDS = ("first", "mean", "difference", "difference_half_width")


def _cells(
    group: str, figure: str, first: float, mean: float, difference: float, half_width: float
) -> list[str]:
    """Return what it is, both values, and the difference with half of its interval.

    A difference of a figure is relative to the first; those of a ledger add up as they are.
    """
    scale = 1e3 if group == "power_mw" else 1.0

    def said(value: float) -> str:
        return percent(value) if group == "time_lost" else number(scale * value, 4)

    def change(value: float) -> str:
        if group == "figures" and first:
            return f"{100.0 * value / abs(first):+.1f} %"
        if group == "time_lost":
            return f"{100.0 * value:+.1f} %"
        size = max(abs(first), abs(mean)) or 1.0
        value = round(value / size, 5) * size  # beyond that it is how numbers are kept
        return ("-" if value < 0.0 else "+") + number(scale * abs(value))

    label = words(figure) if group == "time_lost" else LABELS.get(figure, figure).replace("_", " ")
    told = change(difference) if abs(difference) > half_width else "~"
    return [label, said(first), said(mean), told, change(half_width).lstrip("+")]
