"""A sweep of one or two fields: a curve, or a map."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from factory_sim.app import runner
from factory_sim.app.charts import many
from factory_sim.app.fields import Field, sections
from factory_sim.app.results import Result
from factory_sim.app.show import chart, table
from factory_sim.app.state import Checked, Session
from factory_sim.catalog import load_catalog
from factory_sim.experiments.sweep.table import HALF_WIDTH
from factory_sim.report.sweep import LABELS
from factory_sim.report.text import number
from factory_sim.units import split

PLACE = "sweep"


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show what moves, run it, and draw what came of it."""
    fields = {field.path: field for field in movable(session)}
    if not fields or not found.key:
        st.info("Nothing can be moved until the scenario is in order.")
        return
    paths = list(fields)
    first = st.selectbox("Field that moves", paths, format_func=lambda p: _named(fields[p]))
    axes = {first: _axis(session, fields[first], "first", 5)}
    others = ["", *(path for path in paths if path != first)]
    second = st.selectbox(
        "Second field", others, format_func=lambda p: _named(fields[p]) if p else "none: a curve"
    )
    if second:
        axes[second] = _axis(session, fields[second], "second", 4)
    full = st.checkbox("Every point in full (slower)", help="Otherwise a sample of each is run.")
    ask = {"scenario": found.given, "axes": axes, "full": full}
    table_ = runner.many(session, PLACE, "sweep", ask, "Run the sweep")
    if table_ is not None:
        _draw(table_, list(axes) if len(axes) == 2 else [first])


def movable(session: Session) -> list[Field]:
    """Return the fields that a sweep may move: numbers, and words of which there are a few."""
    found = []
    for section in sections(session.draft, load_catalog()):
        for field in section.fields:
            if field.path == "seed":
                continue
            if field.choices or _number(session.draft.text(field.path)):
                found.append(field)
    return found


def _number(text: str) -> bool:
    try:
        split(text)
    except ValueError:
        return False
    return True


def _named(field: Field) -> str:
    return f"{field.label}: {field.path}"


def _axis(session: Session, field: Field, name: str, steps: int) -> Any:
    """Show what a field takes along an axis, and return it as a sweep's file says it."""
    if field.choices:
        return st.multiselect(f"{field.label}: values", field.choices, key=f"values {field.path}")
    value, unit = split(session.draft.text(field.path))
    ends = st.columns(3)
    low = ends[0].text_input(
        "From", f"{value / 2:g} {unit}".strip(), key=f"{name} low {field.path}"
    )
    high = ends[1].text_input(
        "To", f"{value * 1.5:g} {unit}".strip(), key=f"{name} high {field.path}"
    )
    count = ends[2].number_input("Steps", 2, 12, steps, key=f"{name} steps {field.path}")
    return {"from": _plain(low), "to": _plain(high), "steps": int(count)}


def _plain(text: str) -> Any:
    """Return a number without unit as a number, as a sweep's file has it."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _draw(points: pd.DataFrame, paths: list[str]) -> None:
    columns = list(points.columns)
    axes = [next(c for c in columns if c == p or c.startswith(f"{p} [")) for p in paths]
    start = columns.index("failed") + 1
    metrics = [c for c in columns[start:] if not c.endswith(HALF_WIDTH)]
    metrics = [m for m in metrics if points[m].notna().any()]
    metric = st.selectbox("Figure", metrics, format_func=lambda m: LABELS.get(m, m))
    if len(axes) == 1:
        figure = many.curve(points, axes[0], metric)
    else:
        figure = many.heat_map(points, axes, metric)
    known = points[points[metric].notna()].sort_values(metric)
    ends = [
        f"{number(float(row[metric]))} at {', '.join(str(row[axis]) for axis in axes)}"
        for _, row in known.iloc[[0, -1]].iterrows()
    ]
    chart(figure, f"From {ends[0]} to {ends[1]}.", "sweep")
    rows = [[*axes, LABELS.get(metric, metric)]]
    rows += [
        [*(said_of(row[axis]) for axis in axes), "failed" if row["failed"] else number(row[metric])]
        for _, row in points.iterrows()
    ]
    with st.expander("Every point in figures"):
        table(rows)


def said_of(value: Any) -> str:
    """Return the value of a field as a cell of a table."""
    return value if isinstance(value, str) else f"{value:,.4g}"
