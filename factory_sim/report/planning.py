"""A plan in the terminal and as JSON: the best candidates, and what became of all the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan
from typing import Any

import pandas as pd

from factory_sim.experiments.planning.prospects import counted
from factory_sim.experiments.planning.run import Planned, file_of
from factory_sim.experiments.planning.table import (
    CARBON,
    COST,
    ENERGY,
    GOODPUT,
    INTERACTIVITY,
    OBJECTIVES,
)
from factory_sim.report.layout import COLUMNS, Block, Entry, Table, width
from factory_sim.report.sweep import records
from factory_sim.report.text import duration, megawatts, number, percent

_HEADS: Mapping[str, str] = {
    GOODPUT: "goodput/s/MW",
    COST: "USD/Mtok",
    ENERGY: "J/token",
    INTERACTIVITY: "/s/user",
    CARBON: "gCO2/Mtok",
}
_FIGURES = (COST, ENERGY, INTERACTIVITY, CARBON)
_SOUGHT: Mapping[str, str] = {
    "goodput": "The most goodput per MW",
    "energy": "The fewest joules a token",
    "cost": "The cheapest tokens",
    "carbon": "The cleanest tokens",
}
_MOST = 16


def blocks(planned: Planned) -> Iterator[Block]:
    """Yield what a terminal shows: the ranked candidates, then how the others were left behind."""
    rows = planned.table
    site = f"of a site with {megawatts(planned.limit_mw)}"
    yield f"{_SOUGHT[planned.objective]} {site}, every promise kept"
    run = rows[rows["rank"].notna()]
    yield Table(_rows(run.head(_MOST)))
    if len(run) > _MOST:
        yield f"  ... and {len(run) - _MOST} more that were run"
    best = run.iloc[0]
    if not isnan(float(best.get(GOODPUT, float("nan")))):
        yield Entry("best", _best(planned, best))
    else:
        yield Entry("best", "none: no candidate keeps the promises at any traffic")
    yield Entry("looked at", _looked(planned))
    untried = rows[rows["status"] == "not tried"]
    if len(untried):
        yield Entry("not tried", _untried(planned, untried, best))
    yield Entry("not searched", _not_searched(rows))
    for _, row in rows[rows["status"] == "failed"].iterrows():
        yield Entry("failed", f"{row['candidate']}: {row['cause']}")
    yield Entry("rounds", _rounds(planned))
    yield Entry("every scenario", str(planned.folder / "candidates"))


def document(planned: Planned) -> dict[str, Any]:
    """Return it as plain data; what is not there is left out."""
    return {
        "objective": planned.objective,
        "grid_limit_mw": planned.limit_mw,
        "replications": planned.replications,
        "statuses": {str(k): int(v) for k, v in planned.table["status"].value_counts().items()},
        "candidates": records(planned.table),
        "points": records(planned.points),
    }


def _rows(run: pd.DataFrame) -> list[list[str]]:
    """Return heading and cells, a column for each figure as long as a terminal has room."""
    names = [f"{row['rank']:.0f} {row['candidate']}" for _, row in run.iterrows()]
    columns = [["", *names], [_HEADS[GOODPUT], *map(_cell, run[GOODPUT])]]
    if run["half_width"].notna().any():
        shares = (run["half_width"] / run[GOODPUT]).astype(float)
        columns.append(["±", *("" if isnan(share) else percent(share) for share in shares)])
    rounds = ["round", *(_round(str(status)) for status in run["status"])]
    for name in _FIGURES:
        if name in run and run[name].notna().any():
            column = [_HEADS[name], *map(_cell, run[name])]
            if width([*columns, column, rounds]) <= COLUMNS:
                columns.append(column)
    return [list(row) for row in zip(*columns, rounds, strict=True)]


def _cell(value: float) -> str:
    return "-" if isnan(value) else number(value)


def _round(status: str) -> str:
    if status == "ranked":
        return "last"
    return status.rpartition(" ")[2] if status.startswith("beaten") else status


def _best(planned: Planned, best: pd.Series[Any]) -> str:
    goodput = float(best[GOODPUT]) * planned.limit_mw
    return (
        f"{best['candidate']}: {best['racks']:,.0f} racks, {best['gpus']:,.0f} GPUs, "
        f"{best['replicas']:,.0f} replicas with batches of at most {best['max_num_seqs']:,.0f}; "
        f"{number(goodput)} output tokens/s within every promise, {number(float(best['load']))} "
        f"times the traffic that is given; run candidates/{file_of(str(best['candidate']))}"
    )


def _looked(planned: Planned) -> str:
    statuses = planned.table["status"]
    refused = ", ".join(f"{kind} {count:,}" for kind, count in counted(planned.refused).items())
    parts = [f"{len(planned.table):,} candidates"]
    if refused:
        parts.append(f"{len(planned.refused):,} cannot be ({refused})")
    worse = int((statuses == "proved worse").sum())
    if worse:
        parts.append(
            f"{worse:,} proved worse, since a perfect system of their kind does less than the best "
            "here was seen to do"
        )
    parts.append(f"{int(planned.table['rank'].notna().sum()):,} run")
    return "; ".join(parts)


def _untried(planned: Planned, untried: pd.DataFrame, best: pd.Series[Any]) -> str:
    first = untried.iloc[0]
    told = f"{len(untried):,}, of which {first['candidate']} promises most"
    if planned.objective == "goodput":
        share = float(first[f"bound_{GOODPUT}"]) / float(best[f"bound_{GOODPUT}"])
        told += f": a bound {percent(share)} of that of the best"
    else:
        told += f"; bounds are of goodput and prove nothing of {OBJECTIVES[planned.objective][0]}"
    return (
        f"{told}. To run more: --simulate {int(planned.table['rank'].notna().sum()) + len(untried)}"
    )


def _not_searched(rows: pd.DataFrame) -> str:
    """Tell of what a plan leaves as the scenario has it."""
    pools = rows["prefill_share"].fillna(0.0) if "prefill_share" in rows else pd.Series([0.0])
    apart = [] if (pools > 0.0).any() else ["pools for prompts and decode apart (--prefill)"]
    return ", ".join([*apart, "engines, routers, drafts and caches: they are the scenario's"])


def _rounds(planned: Planned) -> str:
    lengths = [
        duration(float(own["duration_s"].iloc[0]))
        for _, own in planned.table[planned.table[GOODPUT].notna()].groupby("rounds")
    ]
    seeds = "1 seed" if planned.replications == 1 else f"{planned.replications} seeds"
    return (
        f"runs of {', '.join(lengths)}, the last with {seeds}; who was beaten before has the "
        "figures of its shorter runs"
    )
