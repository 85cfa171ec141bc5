"""What a sweep came to: a row for each run, and the mean of each point with its interval."""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.task import Failed, Figures
from factory_sim.experiments.sweep.design import Point
from factory_sim.experiments.sweep.spec import Sweep
from factory_sim.metrics.statistics import interval
from factory_sim.units import in_unit, split

HALF_WIDTH = ".half_width"
"""Ending of the column beside the mean of a metric: half the width of its 95 % interval."""


LEDGERS = ("time_lost", "energy_mwh", "energy_use_mwh")
"""Keys of a summary whose parts add up to a whole: a part that is not there is 0."""


class Row(NamedTuple):
    """A run of a sweep. key: its name in the store, empty where it could not be described."""

    point: int
    replication: int
    key: str
    outcome: Figures | Failed


def frame(
    rows: Sequence[Row], points: Sequence[Point], metrics: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Return a row for each run, in order of point and replication. seed: of the scenario.

    Columns: point, replication, seed; the fields of the axes, `site.grid_limit [kW]` where they
    have a unit; status (done or failed), cause, run (its name in the store); the metrics, in the
    units of a summary. A figure that a run does not have is missing (NaN, or None of a text).
    """
    places = [row.point for row in rows]
    columns: dict[str, Any] = {
        "point": places,
        "replication": [row.replication for row in rows],
        "seed": [seed + row.replication for row in rows],
    }
    for path in points[0]:
        name, values = field_column(path, [point[path] for point in points])
        columns[name] = [values[place] for place in places]
    failed = [row.outcome.cause if isinstance(row.outcome, Failed) else "" for row in rows]
    columns["status"] = ["failed" if cause else "done" for cause in failed]
    columns["cause"] = failed
    columns["run"] = [row.key for row in rows]
    outcomes = [row.outcome for row in rows]
    known = _known(outcomes)
    for name in dict.fromkeys(name for metric in metrics for name in _within(metric, known)):
        columns[name] = _figure_column(name, outcomes)
    return pd.DataFrame(columns)


def means(runs: pd.DataFrame, fields: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row for each point: its fields, how many `runs` were done and `failed`, and the
    mean of each numeric metric with the half width of its 95 % interval over replications.

    fields, metrics: columns of `runs`. The half width is missing below two runs.
    """
    rows = []
    numeric = [name for name in metrics if pd.api.types.is_numeric_dtype(runs[name])]
    for point, own in runs.groupby("point", sort=True):
        done = own[own["status"] == "done"]
        row: dict[str, Any] = {"point": point}
        row |= {name: own[name].iloc[0] for name in fields}
        row |= {"runs": len(done), "failed": len(own) - len(done)}
        for name in numeric:
            values = done[name].dropna().to_numpy(dtype=np.float64)
            row[name], row[name + HALF_WIDTH] = interval(values)
        rows.append(row)
    return pd.DataFrame(rows)


def to_parquet(table: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a parquet file; the same table gives the same bytes."""
    file = io.BytesIO()
    table.to_parquet(file, engine="pyarrow", compression="zstd", index=False)
    return file.getvalue()


def field_column(path: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return name and values of the column of a field.

    Quantities become numbers in the unit of the first, which the name then has; what is neither
    number nor text becomes JSON.
    """
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        whole = all(isinstance(value, int) for value in values)
        return path, list(values) if whole else [float(value) for value in values]
    try:
        unit = split(values[0])[1] if isinstance(values[0], str) else ""
        if unit and all(isinstance(value, str) for value in values):
            return f"{path} [{unit}]", [in_unit(value, unit) for value in values]
    except ValueError:
        pass  # a text, such as the name of a policy
    return path, [value if isinstance(value, str) else json.dumps(value) for value in values]


def check_metrics(sweep: Sweep, outcomes: Sequence[Figures | Failed]) -> None:
    """Raise InputError for metrics that no run has, if there is a run at all."""
    asked = {}
    if "metrics" in sweep.model_fields_set:
        asked = {f"metrics.{index}": metric for index, metric in enumerate(sweep.metrics)}
    known = _known(outcomes)
    missing = {where: metric for where, metric in asked.items() if not _within(metric, known)}
    if sweep.stop is not None and sweep.stop.metric not in known:
        missing["stop.metric"] = sweep.stop.metric
    if known and missing:
        raise InputError(Problem(w, _no_such(metric, known)) for w, metric in missing.items())


def _no_such(metric: str, known: Sequence[str]) -> str:
    tops = [name.partition(".")[0] for name in known]
    close = difflib.get_close_matches(metric, [*known, *tops], n=1)
    guess = f"did you mean '{close[0]}'" if close else f"such as '{known[0]}'"
    return f"no run has a figure '{metric}'; {guess}? What is done is kept"


def _known(outcomes: Sequence[Figures | Failed]) -> list[str]:
    """Return the figures that runs have, in the order in which they come up."""
    done = [outcome for outcome in outcomes if not isinstance(outcome, Failed)]
    return list(dict.fromkeys(name for figures in done for name in figures))


def _within(metric: str, known: Sequence[str]) -> list[str]:
    """Return the figures that a metric stands for: itself, or all that it holds."""
    return [name for name in known if name == metric or name.startswith(f"{metric}.")]


def _figure_column(name: str, outcomes: Sequence[Figures | Failed]) -> list[Any]:
    """Return a figure of each run; None where it has none. What a ledger leaves out is 0."""
    ledger = name.rpartition(".")[0]
    adds_up = ledger.rpartition(".")[2] in LEDGERS
    found: list[Any] = []
    for outcome in outcomes:
        value = None if isinstance(outcome, Failed) else outcome.get(name)
        if value is None and adds_up and not isinstance(outcome, Failed):
            value = 0.0 if _within(ledger, list(outcome)) else None
        found.append(value)
    return found
