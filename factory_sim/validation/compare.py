"""Simulated held against measured: the error of every figure, and how large errors are in general.

Like a survey's closing error: each sounding beside the chart's, and at the end how far the two
lie apart in half of all places, and in nine of ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from factory_sim.catalog.names import plain
from factory_sim.validation.case import METRICS
from factory_sim.validation.runner import Outcome


class Row(NamedTuple):
    """One figure of a case: measured, and as simulated."""

    case: str
    gpu: str
    metric: str
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """Return simulated over measured, less one."""
        return self.simulated / self.measured - 1.0


class Spread(NamedTuple):
    """How large errors are, whatever their sign: over `rows` of them, median and p90."""

    rows: int
    median: float
    p90: float


def rows_of(outcomes: Iterable[Outcome]) -> list[Row]:
    """Return every figure that was both measured and simulated, in the order of the cases."""
    return [
        Row(o.case.id, plain(o.case.gpu), name, measured, o.simulated[name])
        for o in outcomes
        for name, measured in o.case.measured.items()
        if name in o.simulated
    ]


def reason_of(outcome: Outcome) -> str:
    """Return why a case was not compared, or not in every metric; empty if it was."""
    absent = [name for name in outcome.case.measured if name not in outcome.simulated]
    if outcome.reason or not absent:
        return outcome.reason
    return f"the simulated requests have no {', '.join(absent)}"


def spread_of(errors: Iterable[float]) -> Spread:
    """Return how large errors are; ValueError without one."""
    sizes = np.abs(np.fromiter(errors, dtype=float))
    if not len(sizes):
        raise ValueError("no errors")
    median, p90 = np.percentile(sizes, (50.0, 90.0))
    return Spread(len(sizes), float(median), float(p90))


def by_metric(rows: Sequence[Row]) -> dict[str, Spread]:
    """Return how large the errors of each metric are, in the order of METRICS."""
    found = {name: [row.error for row in rows if row.metric == name] for name in METRICS}
    return {name: spread_of(errors) for name, errors in found.items() if errors}


def by_gpu(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the figures of each GPU, by its name in alphabetical order."""
    return {gpu: [r for r in rows if r.gpu == gpu] for gpu in sorted({r.gpu for r in rows})}


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return cases and summary as plain data (DESIGN: validation case); errors are shares.

    A case holds `metrics` or, where it cannot be run, its `reason`; a case that lacks some
    metrics holds both. The same outcomes give the same data.
    """
    rows = rows_of(outcomes)
    return {
        "cases": [_entry(outcome) for outcome in outcomes],
        "summary": {
            "cases": len(outcomes),
            "not_run": sum(not outcome.simulated for outcome in outcomes),
            "metrics": _metrics(rows),
            "gpus": {
                gpu: _said(spread_of(row.error for row in own)) | {"metrics": _metrics(own)}
                for gpu, own in by_gpu(rows).items()
            },
        },
    }


def _entry(outcome: Outcome) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": outcome.case.id}
    if outcome.simulated:
        entry["metrics"] = {
            row.metric: {
                "measured": row.measured,
                "simulated": row.simulated,
                "error": row.error,
            }
            for row in rows_of([outcome])
        }
    reason = reason_of(outcome)
    return entry | ({"reason": reason} if reason else {})


def _metrics(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: _said(spread) for name, spread in by_metric(rows).items()}


def _said(spread: Spread) -> dict[str, Any]:
    return {
        "rows": spread.rows,
        "median_absolute_error": spread.median,
        "p90_absolute_error": spread.p90,
    }
