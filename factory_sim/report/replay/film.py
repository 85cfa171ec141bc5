"""A film of one batch: a page that plays who waits, whose prompt is computed, who is answered."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from factory_sim.errors import InputError, Problem
from factory_sim.report.replay.stays import COLUMNS, stays
from factory_sim.report.saved import SavedRun

MOST = 5_000
"""Requests of a film, beyond which nobody sees any of them."""


def film(
    run: SavedRun, deployment: str | None, replica: int, start_s: float, end_s: float = np.inf
) -> str:
    """Return the page of the batch of one replica from start_s on: one file, with its script.

    deployment: the first of the run without. Raises InputError for a replica that had nothing to do
    then, or too much for a film.
    """
    rows = stays(run, start_s, end_s)
    names = list(dict.fromkeys(rows["deployment"].astype(str)))
    name = names[0] if deployment is None else deployment
    own = rows[(rows["deployment"].astype(str) == name) & (rows["replica"] == replica)]
    if not len(own):
        there = _there(rows, name) if name in names else f"deployments then: {', '.join(names)}"
        option = "--replica" if name in names else "--deployment"
        said = f"nothing of {name} was at replica {replica} then; {there}"
        raise InputError(Problem(option, said))
    if len(own) > MOST:
        said = f"{len(own):,} requests are more than a film shows ({MOST:,}); ask for less time"
        raise InputError(Problem("--for", said))
    last_s = min(end_s, float(own["end_s"].max()))
    data = {
        "start": start_s,
        "end": last_s,
        "lanes": int(own["lane"].max()) + 1,
        # Of each request: number, came, admitted, first token, end, lane, prompt, output.
        "requests": [_request(row) for row in own.to_dict("records")],
    }
    title = f"{run.scenario.get('name', 'run')}: the batch of {name}, replica {replica}"
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return _template().render(title=title, data=text)  # of numbers alone: nothing to escape


def _request(row: Mapping[Hashable, Any]) -> list[float]:
    times = (round(row[name], 6) for name in COLUMNS)
    return [row["request_id"], *times, row["lane"], row["prompt_tokens"], row["output_tokens"]]


def _there(rows: pd.DataFrame, name: str) -> str:
    numbers = sorted(set(rows.loc[rows["deployment"].astype(str) == name, "replica"]))
    return f"it had replicas {numbers[0]} to {numbers[-1]}"


@cache
def _template() -> jinja2.Template:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("factory_sim.report.replay", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return found.get_template("film.html.j2")
