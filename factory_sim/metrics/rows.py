"""Answers from a table with a row per request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

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


class Rows:
    """`Answers` of a table as `request_table` makes it. terms: what the run says of them."""

    def __init__(self, table: pd.DataFrame, terms: Terms) -> None:
        self._table, self._terms = table, terms

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
                wanted = table[column].isin(names)
                table = table if wanted.all() else table[wanted]
        return Rows(table, self._terms)

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
        wanted = self._among(which)
        there = {name: of for name, of in _COLUMNS.items() if of in self._table}
        columns = {name: self._table[of].to_numpy()[wanted] for name, of in there.items()}
        found = {name: int(column.sum(dtype=np.int64)) for name, column in columns.items()}
        for name, of in (("reasoned", "reasoning"), ("pictured", "images")):
            if of in columns:
                found[name] = int(np.count_nonzero(columns[of] > 0))
        return Sums(int(np.count_nonzero(wanted)), **found)

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
        counts = cells(np.ones(len(values)))
        means = {name: Cells(each, counts[name]) for name, each in cells(values).items()}
        return Found(
            figures,
            half_widths(
                means,
                lambda limit: cells((values <= limit).astype(float)),
                figures,
                lambda share: float(np.quantile(values, share)),
            ),
        )

    def good(self) -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return who got what was promised, and their output tokens, by pod and batch."""
        wanted = self._among("good")
        cells = self._cells(wanted)
        tokens = self._table["output_tokens"].to_numpy()[wanted]
        requests, output = cells(np.ones(len(tokens))), cells(tokens)
        return {name: (each, output[name]) for name, each in requests.items()}

    def kept(self, latency: str, limit_s: float, percentile: float) -> Kept:
        """Return whether a percentile of a latency was within a limit."""
        own = self._part("measured", [f"{latency}_ms", "outcome", "output_tokens"])
        values, completed = own[f"{latency}_ms"], own["outcome"] == "completed"
        if latency == "tpot":
            asked = ~(completed & (own["output_tokens"] == 1))
            values, completed = values[asked], completed[asked]
        waited = values.where(completed, np.inf).to_numpy()
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

    def _cells(
        self, wanted: NDArray[np.bool_]
    ) -> Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """Return what sums values of the wanted rows by deployment, pod and batch of time."""
        table, pods = self._table, self._terms.pods
        batches = self._terms.batch_of(table["arrival_s"].to_numpy()[wanted])
        column = table["deployment"].cat
        codes, places = column.codes.to_numpy()[wanted], {}
        for code, name in enumerate(column.categories):
            if (of := codes == code).any():
                ends = np.cumsum(pods.get(name, (1,)))
                pod = np.zeros(int(of.sum()), np.int64)
                if len(ends) > 1:
                    replicas = table["replica"].to_numpy()[wanted][of]
                    pod = np.searchsorted(ends, replicas, side="right")
                places[str(name)] = (of, pod * BATCHES + batches[of], len(ends))

        def cells(values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            return {
                name: np.bincount(place, values[of], many * BATCHES)
                .astype(np.float64)
                .reshape(many, BATCHES)
                for name, (of, place, many) in places.items()
            }

        return cells

    def _part(self, which: Which, columns: list[str]) -> pd.DataFrame:
        return self._table[columns][self._among(which)]

    def _among(self, which: Which) -> NDArray[np.bool_]:
        """Return of every row whether it is among these."""
        table = self._table
        if which == "all":
            return np.ones(len(table), np.bool_)
        wanted = table["measured"]
        if which == "admitted":
            wanted = wanted & table["admitted_s"].notna()
        elif which == "done":
            wanted = wanted & (table["outcome"] == "completed")
        elif which == "good":
            wanted = wanted & table["slo_met"]
        return wanted.to_numpy()
