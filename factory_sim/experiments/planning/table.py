"""A plan as tables: a row for each candidate, and the points of those that were run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from factory_sim.experiments.front import best_of_all
from factory_sim.experiments.planning.prospects import Prospect, Refused
from factory_sim.experiments.runs.task import Figures
from factory_sim.experiments.sizing.carried import Carried
from factory_sim.metrics.statistics import interval

GOODPUT = "goodput_output_tokens_per_s_per_mw"
INTERACTIVITY = "interactivity_tokens_per_s_per_user"
ENERGY = "energy_per_output_token_j"
COST = "usd_per_million_output_tokens"
CARBON = "gco2_per_million_output_tokens"

OBJECTIVES: Mapping[str, tuple[str, bool]] = {
    "goodput": (GOODPUT, True),
    "energy": (ENERGY, False),
    "cost": (COST, False),
    "carbon": (CARBON, False),
}
"""What may be sought: by name, the figure, and whether more of it is better."""

FIGURES = (INTERACTIVITY, ENERGY, COST, CARBON)
"""Figures beside goodput, of those that a run has."""


@dataclass
class Tried:
    """A candidate that was run. rounds: how many it took part in; duration_s: of the runs of its
    last; found: what came of that, by seed; below: duration, load and figures of runs at less
    traffic than it carries that kept their promises; cause: why it failed, if so."""

    prospect: Prospect
    rounds: int = 0
    duration_s: float = 0.0
    found: list[Carried] = field(default_factory=list)
    below: list[tuple[float, float, Figures]] = field(default_factory=list)
    cause: str = ""

    @property
    def carries(self) -> bool:
        """Tell whether it keeps its promises at some traffic, whatever the seed."""
        return bool(self.found) and all(own.held is not None for own in self.found)

    def values(self, figure: str, limit_mw: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return a figure at the most traffic, by seed; NaN where a run has none."""
        if figure == GOODPUT:
            return np.array([own.goodput_output_tokens_per_s / limit_mw for own in self.found])
        values = (own.figure(figure) for own in self.found)
        return np.array([nan if value is None else value for value in values])

    def score(self, objective: str, limit_mw: float) -> float:
        """Return what it is ranked by, more being better; minus infinity if it carries nothing."""
        if not self.carries:
            return -np.inf
        figure, more = OBJECTIVES[objective]
        value = float(self.values(figure, limit_mw).mean())
        return value if more else -value


def table_of(
    ranked: Sequence[Tried],
    others: Sequence[tuple[Prospect, str]],
    refused: Sequence[Refused],
    limit_mw: float,
    finals: int,
) -> pd.DataFrame:
    """Return a row for each candidate: those that were run by rank, then the others by bound.

    others: with their status. finals: the rounds that one has gone through in the end.
    """
    rows = [_tried_row(place, own, limit_mw, finals) for place, own in enumerate(ranked, 1)]
    rows += [_named(each) | {"status": status} for each, status in others]
    for row, prospect in zip(
        rows, [*(t.prospect for t in ranked), *(p for p, _ in others)], strict=True
    ):
        row[f"bound_{GOODPUT}"] = prospect.output_tokens_per_s / limit_mw
    for each in refused:
        own = each.candidate
        rows.append(
            {
                "candidate": own.name,
                "system": own.system,
                "precision": own.precision,
                "parallelism": own.spread,
                "status": f"refused: {each.kind}",
                "cause": each.why,
            }
        )
    return pd.DataFrame(rows)


def _named(prospect: Prospect) -> dict[str, Any]:
    own = prospect.candidate
    return {
        "candidate": own.name,
        "system": own.system,
        "precision": own.precision,
        "parallelism": own.spread,
        "max_num_seqs": own.batch,
        "clock": own.clock,
        "prefill_share": own.prompts,
        "racks": prospect.racks,
        "gpus": prospect.gpus,
        "replicas": prospect.replicas,
    }


def _tried_row(place: int, own: Tried, limit_mw: float, finals: int) -> dict[str, Any]:
    row: dict[str, Any] = {"rank": place} | _named(own.prospect)
    row["status"] = "ranked" if own.rounds == finals else f"beaten in round {own.rounds}"
    if own.cause:
        row |= {"status": "failed", "cause": own.cause}
    elif not own.carries:
        row["status"] = "carries nothing"
    if not own.carries:
        return row | dict.fromkeys(("load", GOODPUT, "half_width", "rounds"), nan)
    goodput, half_width = interval(own.values(GOODPUT, limit_mw))
    load = float(np.mean([each.load for each in own.found]))
    row |= {"load": load, GOODPUT: goodput, "half_width": half_width}
    row |= {"rounds": own.rounds, "duration_s": own.duration_s}
    row |= {figure: float(own.values(figure, limit_mw).mean()) for figure in FIGURES}
    return row


def points_of(ranked: Sequence[Tried], limit_mw: float) -> pd.DataFrame:
    """Return a row for each run that kept its promises, of every candidate's last round.

    Columns: candidate, system, load, duration_s, the figures; of each figure but interactivity
    whether the run is on the front: no other of the longest gives as much interactivity and more
    of what is wanted.
    """
    points = pd.DataFrame([row for own in ranked for row in _points(own, limit_mw)])
    for objective, (figure, more) in OBJECTIVES.items():
        if figure in points:
            sign = 1.0 if more else -1.0
            wanted = np.column_stack((points[INTERACTIVITY], sign * points[figure]))
            wanted[points["duration_s"] < points["duration_s"].max()] = nan
            points[f"front_{objective}"] = best_of_all(wanted)
    return points


def _points(own: Tried, limit_mw: float) -> Iterator[dict[str, Any]]:
    kept = [rung for each in own.found for rung in each.looked if rung.held]
    runs = [(own.duration_s, rung.load, rung.figures) for rung in kept]
    for duration_s, load, figures in [*own.below, *runs]:
        if INTERACTIVITY in figures:
            who = {
                "candidate": own.prospect.candidate.name,
                "system": own.prospect.candidate.system,
            }
            goodput = float(figures["goodput_output_tokens_per_s"]) / limit_mw
            others = {name: float(figures[name]) for name in FIGURES if name in figures}
            yield who | {"load": load, "duration_s": duration_s, GOODPUT: goodput} | others
