"""Answers from a table with a row per request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from factory_sim.metrics.answers import Found, Kept, Sums, Which
from factory_sim.metrics.requests import Tariff, Terms
from factory_sim.metrics.statistics import BATCHES, Cells, describe, half_widths

_COLUMNS = {
    "prompt": "prompt_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "reasoning": "reasoning_tokens",
    "images": "images",
    "earlier": "earlier_tokens",
}

_COLUMNS_PAID = ("prompt_tokens", "cached_tokens", "output_tokens")


class _Cells:
    """Adds up values of some requests by deployment, pod and batch of time.

    place: the cell of each request; spans: the cells of each deployment, pod by pod.
    """

    def __init__(self, place: NDArray[np.int64], spans: Mapping[str, slice]) -> None:
        self._place, self._many = place, max(span.stop for span in spans.values())
        self._counts = np.bincount(place, minlength=self._many)
        self._spans = {name: span for name, span in spans.items() if self._counts[span].any()}

    def counts(self) -> dict[str, NDArray[np.float64]]:
        """Return how many requests there are: of each deployment that has any, [pods, batches]."""
        return self._split(self._counts)

    def sums(self, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the sums of values, one of each request."""
        return self._split(np.bincount(self._place, values, self._many))

    def within(
        self, values: NDArray[np.float64], limits: Sequence[float]
    ) -> list[dict[str, NDArray[np.float64]]]:
        """Return how many values are at most as large as each of the limits, which ascend."""
        apart = len(limits) + 1
        place = self._place * apart
        for limit in limits:
            place += values > limit
        below = np.bincount(place, minlength=self._many * apart).reshape(-1, apart).cumsum(axis=1)
        return [self._split(below[:, number]) for number in range(len(limits))]

    def _split(self, cells: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        return {
            name: cells[span].astype(np.float64).reshape(-1, BATCHES)
            for name, span in self._spans.items()
        }


class Rows:
    """`Answers` of a table as `request_table` makes it. terms: what the run says of them."""

    def __init__(self, table: pd.DataFrame, terms: Terms) -> None:
        self._table, self._terms = table, terms
        self._sums: dict[Which, Sums] = {}
        self._places: tuple[NDArray[np.int64], dict[str, slice]] | None = None

    @property
    def deployments(self) -> Collection[str]:
        """Return the deployments that answered any of them."""
        return set(self._table["deployment"].unique())

    @property
    def workloads(self) -> Collection[str]:
        """Return the workloads that they are of."""
        return set(self._table["workload"].unique())

    def has(self, column: str) -> bool:
        """Tell whether the table has such a column."""
        return column in self._table

    def of(
        self,
        deployments: Collection[str] | None = None,
        workloads: Collection[str] | None = None,
    ) -> Rows:
        """Return the part that some deployments answered, or that is of some workloads."""
        table = self._table
        for column, names in (("deployment", deployments), ("workload", workloads)):
            if names is not None:
                named = table[column].cat
                wanted = named.categories.isin(list(names))
                if not wanted.all() and not (among := wanted[named.codes]).all():
                    table = table[among]
        return self if table is self._table else Rows(table, self._terms)

    def by(self, column: Literal["workload", "class", "tenant"]) -> Iterator[tuple[str, Rows]]:
        """Yield the requests of each workload, class or tenant that sent any."""
        for name, own in self._table.groupby(column, sort=column != "workload", observed=True):
            yield str(name), Rows(own, self._terms)

    def outcomes(self) -> Mapping[str, int]:
        """Return how many ended in each way, of the whole run."""
        counts = self._table["outcome"].value_counts()
        return {str(outcome): int(count) for outcome, count in counts.items()}

    def sums(self, which: Which) -> Sums:
        """Return how many there are, and their tokens."""
        if which not in self._sums:
            wanted = self._among(which)
            there = {name: of for name, of in _COLUMNS.items() if of in self._table}
            columns = {name: self._table[of].to_numpy()[wanted] for name, of in there.items()}
            found = {name: int(column.sum(dtype=np.int64)) for name, column in columns.items()}
            for name, of in (("reasoned", "reasoning"), ("pictured", "images")):
                if of in columns:
                    found[name] = int(np.count_nonzero(columns[of] > 0))
            self._sums[which] = Sums(int(np.count_nonzero(wanted)), **found)
        return self._sums[which]

    def spread(self, latency: str) -> Found | None:
        """Return how a latency spreads; None where no request had it."""
        if latency not in self._table:
            return None
        column = self._table[latency].to_numpy()
        wanted = self._among("measured") & ~np.isnan(column)
        values = column[wanted]
        if not len(values):
            return None
        cells, figures = self._cells(wanted), describe(values)
        counts, sums = cells.counts(), cells.sums(values)
        return Found(
            figures,
            half_widths(
                {name: Cells(sums[name], counts[name]) for name in counts},
                lambda limits: cells.within(values, limits),
                figures,
                lambda shares: np.quantile(values, shares),
            ),
        )

    def good(self) -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return who got what was promised, and their output tokens, by pod and batch."""
        wanted = self._among("good")
        cells = self._cells(wanted)
        output = cells.sums(self._table["output_tokens"].to_numpy()[wanted])
        return {name: (each, output[name]) for name, each in cells.counts().items()}

    def kept(self, latency: str, limit_s: float, percentile: float) -> Kept:
        """Return whether a percentile of a latency was within a limit."""
        asked = self._among("measured")
        done = self._done()
        if latency == "tpot":
            asked = asked & ~(done & (self._table["output_tokens"].to_numpy() == 1))
        waited = np.where(done, self._table[f"{latency}_ms"].to_numpy(), np.inf)[asked]
        if not len(waited):
            return Kept(True, None)
        value = float(np.quantile(waited, percentile / 100, method="higher"))
        return Kept(value <= limit_s * 1e3, value if value < np.inf else None)

    def dollars(self, tariffs: Mapping[str, Tariff], scales: Mapping[str, float]) -> float:
        """Return what the completed paid."""
        columns = ["deployment", "workload", "slo_met", *_COLUMNS_PAID]
        done, found = self._part("done", columns), 0.0
        for workload, tariff in tariffs.items():
            payers = (done["workload"] == workload) & (done["slo_met"] | (not tariff.within_slo))
            for deployment, paid in done[payers].groupby("deployment", observed=True):
                tokens = (paid[name].sum() for name in _COLUMNS_PAID)
                found += scales[str(deployment)] * tariff.usd(*map(int, tokens))
        return found

    def _cells(self, wanted: NDArray[np.bool_]) -> _Cells:
        """Return what adds up values of the wanted rows, all of them measured, by cell."""
        if self._places is None:
            table, pods = self._table, self._terms.pods
            named = table["deployment"].cat
            codes, names = named.codes.to_numpy(), [str(name) for name in named.categories]
            first = np.cumsum([0] + [BATCHES * len(pods.get(name, (1,))) for name in names])
            place = self._terms.batch_of(table["arrival_s"].to_numpy())
            place += first[codes]
            for code, name in enumerate(names):
                if len(own := pods.get(name, (1,))) > 1:
                    of = codes == code
                    replicas = table["replica"].to_numpy()[of]
                    place[of] += BATCHES * np.searchsorted(np.cumsum(own), replicas, side="right")
            spans = zip(first[:-1].tolist(), first[1:].tolist(), strict=True)
            self._places = place, dict(zip(names, (slice(*span) for span in spans), strict=True))
        place, spans_of = self._places
        return _Cells(place[wanted], spans_of)

    def _part(self, which: Which, columns: list[str]) -> pd.DataFrame:
        return self._table[columns][self._among(which)]

    def _among(self, which: Which) -> NDArray[np.bool_]:
        """Return of every row whether it is among these."""
        table = self._table
        if which == "all":
            return np.ones(len(table), np.bool_)
        wanted: NDArray[np.bool_] = table["measured"].to_numpy()
        if which == "admitted":
            wanted = wanted & ~np.isnan(table["admitted_s"].to_numpy())
        elif which == "done":
            wanted = wanted & self._done()
        elif which == "good":
            wanted = wanted & table["slo_met"].to_numpy()
        return wanted

    def _done(self) -> NDArray[np.bool_]:
        done: NDArray[np.bool_] = (self._table["outcome"] == "completed").to_numpy()
        return done
