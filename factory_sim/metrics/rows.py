"""Answers from a table with a row per request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from factory_sim.metrics.answers import Found, Kept, Sums, Which
from factory_sim.metrics.requests import Tariff
from factory_sim.metrics.statistics import describe, half_widths

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
    """`Answers` of a table as `request_table` makes it."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

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
        return Rows(table)

    def by(self, column: Literal["workload", "class", "tenant"]) -> Iterator[tuple[str, Rows]]:
        """Yield the requests of each workload, class or tenant that sent any."""
        for name, own in self._table.groupby(column, sort=column != "workload", observed=True):
            yield str(name), Rows(own)

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
        values = self._table[latency].to_numpy()[self._among("measured")]
        values = values[~np.isnan(values)]
        return Found(describe(values), half_widths(values)) if len(values) else None

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
