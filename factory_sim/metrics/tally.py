"""Answers without a row per request: cells of exact sums, and a sketch of each latency.

A tally at the door: a stroke for every guest in the column that fits, and no guest book.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import prod
from operator import methodcaller
from typing import Literal, NamedTuple

import numpy as np

from factory_sim.metrics.answers import Found, Kept, Sums, Which
from factory_sim.metrics.requests import OUTCOMES, Seen, Tariff, Terms, of_streams, seen
from factory_sim.metrics.spread import ERROR, Spread, keys_of
from factory_sim.metrics.statistics import BATCHES, Cells, Floats, half_widths

AT_ONCE = 32_768
"""Rows taken in one go, about: of fewer, NumPy's calls would cost each more; of more, what is
worked out of them would be in no processor's cache."""

_DONE = OUTCOMES.index("completed")


class Key(NamedTuple):
    """What the requests of a cell have in common. pod, stream, tenant: numbers; outcome: in
    `OUTCOMES`; batch: of time, -1 where sent before the end of the warm-up; met: got what was
    promised; admitted: into a batch of the engine."""

    deployment: str
    pod: int
    stream: int
    tenant: int
    outcome: int
    batch: int
    met: bool
    admitted: bool

    @property
    def measured(self) -> bool:
        """Tell whether they were sent after the warm-up."""
        return self.batch >= 0

    def within(self, which: Which) -> bool:
        """Tell whether its requests are among these."""
        if which == "all":
            return True
        if which == "admitted":
            return self.measured and self.admitted
        if which == "done":
            return self.measured and self.outcome == _DONE
        return self.measured and (which == "measured" or self.met)


class Cell:
    """Requests that have everything in `Key` in common: sums, and the spread of each latency.

    in_time: by latency, how many of these were within what was promised.
    """

    def __init__(self) -> None:
        self.sums = Sums()
        self.spreads: dict[str, Spread] = {}
        self.in_time: dict[str, int] = {}

    def merge(self, other: Cell) -> None:
        """Add the requests of another cell, which stays as it is."""
        self.sums = _plus(self.sums, other.sums)
        for name, spread in other.spreads.items():
            self.spreads.setdefault(name, Spread()).merge(spread)
        for name, many in other.in_time.items():
            self.in_time[name] = self.in_time.get(name, 0) + many


class Tally:
    """`Answers` of requests that were counted as they left.

    terms: what the run says of them. pod: whose requests it counts. Counts and sums are exact;
    percentiles are within `spread.ERROR`.
    """

    def __init__(self, terms: Terms, cells: Mapping[Key, Cell] | None = None, pod: int = 0) -> None:
        self._terms, self._pod = terms, pod
        self._cells = dict(cells or {})

    # -- counting ----------------------------------------------------------------------

    def add(self, deployment: str, rows: np.ndarray) -> None:
        """Count requests that have left a deployment, by their rows (the gateway's)."""
        pieces = round(len(rows) / AT_ONCE) or min(len(rows), 1)
        for part in np.array_split(rows, pieces) if pieces else ():
            late_s = of_streams(self._terms.back_s, part["stream"])
            told = seen(part, self._terms, deployment, part["arrival_s"].copy(), late_s, late_s)
            self._count(deployment, told)

    def merge(self, other: Tally) -> None:
        """Add what another has counted of the same run, which stays as it is."""
        for key, cell in other._cells.items():
            self._cells.setdefault(key, Cell()).merge(cell)

    def _count(self, deployment: str, told: Seen) -> None:
        rows, terms = told.rows, self._terms
        columns = {
            "prompt": rows["prompt"],
            "output": rows["emitted"],
            "cached": rows["cached"],
        }
        if terms.reasoning:
            columns["reasoning"] = np.minimum(rows["reasoning"], rows["emitted"])
            columns["reasoned"] = columns["reasoning"] > 0
        if terms.images:
            columns["images"] = rows["images"]
            columns["pictured"] = rows["images"] > 0
        tenants = max(1, len(terms.tenants))
        code = _coded(
            (rows["stream"], len(terms.streams)),
            (rows["tenant"] if terms.tenants else None, tenants),
            (rows["outcome"], len(OUTCOMES)),
            (terms.batch_of(told.sent_s) + 1, BATCHES + 1),
            (told.met, 2),
            (~np.isnan(rows["admitted_s"]), 2),
        )
        order, codes, starts = _grouped(code)
        ends = [*starts[1:].tolist(), len(rows)]
        sums = {
            name: np.add.reduceat(column[order].astype(np.int64), starts).tolist()
            for name, column in columns.items()
        }
        sorted_ms = {name: values[order] for name, values in self._latencies(told).items()}
        bins = {name: keys_of(values) for name, values in sorted_ms.items()}
        for place, (number, start, end) in enumerate(
            zip(codes.tolist(), starts.tolist(), ends, strict=True)
        ):
            key = _key(deployment, self._pod, number, tenants)
            cell = self._cells.setdefault(key, Cell())
            own = {name: values[place] for name, values in sums.items()}
            cell.sums = _plus(cell.sums, Sums(end - start, **own))
            if key.measured:
                limits = self._limits_ms(key)
                for name, values in sorted_ms.items():
                    own_ms, keys = values[start:end], bins[name][start:end]
                    _spread(cell, name, own_ms, keys, limits.get(name))

    def _latencies(self, told: Seen) -> dict[str, np.ndarray]:
        """Return the latencies, in ms, that any request of the run may have."""
        found = {"ttft_ms": told.ttft_s, "tpot_ms": told.tpot_s, "e2e_ms": told.e2e_s}
        if told.ttfo_s is not None:
            found["ttfo_ms"] = told.ttfo_s
        if self._terms.disaggregated:
            found["transfer_ms"] = told.rows["transfer_s"]
        if self._terms.encoding:
            found["encoding_ms"] = told.rows["encoding_s"]
        return {name: seconds * 1e3 for name, seconds in found.items()}

    def _limits_ms(self, key: Key) -> dict[str, float]:
        """Return what was promised to the requests of a cell, by latency."""
        promise = self._terms.promised(key.deployment)[key.stream]
        limits = zip(("ttft_ms", "tpot_ms", "e2e_ms", "ttfo_ms"), promise, strict=True)
        return {name: limit_s * 1e3 for name, limit_s in limits if limit_s < np.inf}

    # -- `Answers` ---------------------------------------------------------------------

    @property
    def deployments(self) -> Collection[str]:
        """Return the deployments that answered any of them."""
        return {key.deployment for key in self._cells}

    @property
    def workloads(self) -> Collection[str]:
        """Return the workloads that they are of."""
        return {self._terms.streams[key.stream] for key in self._cells}

    def has(self, column: str) -> bool:
        """Tell whether a table of these requests would have such a column."""
        terms = self._terms
        there = {"tenant": bool(terms.tenants), "reasoning_tokens": terms.reasoning}
        return there[column]

    def of(
        self,
        deployments: Collection[str] | None = None,
        workloads: Collection[str] | None = None,
    ) -> Tally:
        """Return the part that some deployments answered, or that is of some workloads."""
        streams = self._terms.streams
        return Tally(
            self._terms,
            {
                key: cell
                for key, cell in self._cells.items()
                if (deployments is None or key.deployment in deployments)
                and (workloads is None or streams[key.stream] in workloads)
            },
        )

    def by(self, column: Literal["workload", "class", "tenant"]) -> Iterator[tuple[str, Tally]]:
        """Yield the requests of each workload, class or tenant that sent any."""
        terms = self._terms
        names: Sequence[str] = terms.streams
        if column == "tenant":
            names = terms.tenants
        elif column == "class":
            names = terms.classes
        for number, name in enumerate(names):
            own = {}
            for key, cell in self._cells.items():
                of = key.tenant if column == "tenant" else key.stream
                if (terms.tiers[of].name == name) if column == "class" else of == number:
                    own[key] = cell
            if own:
                yield name, Tally(terms, own)

    def outcomes(self) -> Mapping[str, int]:
        """Return how many ended in each way, of the whole run."""
        found = dict.fromkeys(OUTCOMES, 0)
        for key, cell in self._cells.items():
            found[OUTCOMES[key.outcome]] += cell.sums.requests
        return found

    def sums(self, which: Which) -> Sums:
        """Return how many there are, and their tokens."""
        found = Sums()
        for cell in self._among(which):
            found = _plus(found, cell.sums)
        return found

    def spread(self, latency: str) -> Found | None:
        """Return how a latency spreads; None where no request had it."""
        whole = self._whole(latency, "measured")
        if not whole.count:
            return None
        spreads = [
            (key, cell.spreads[latency])
            for key, cell in self._cells.items()
            if key.measured and latency in cell.spreads
        ]

        def cells(value: Callable[[Spread], float]) -> dict[str, Floats]:
            return self._by_pod((key, value(spread)) for key, spread in spreads)

        counts, sums = cells(lambda spread: spread.count), cells(lambda spread: spread.sum)
        figures = whole.describe()
        widths = half_widths(
            {name: Cells(sums[name], counts[name]) for name in counts},
            lambda limits: [cells(methodcaller("within", limit)) for limit in limits],
            figures,
            lambda shares: [whole.quantile(share) for share in shares],
        )
        # The ends of a percentile's interval are values of the sketch too.
        off = {name: 0.0 if name == "mean" else ERROR * figures[name] for name in widths}
        return Found(figures, {name: width + off[name] for name, width in widths.items()})

    def good(self) -> Mapping[str, tuple[Floats, Floats]]:
        """Return who got what was promised, and their output tokens, by pod and batch."""
        good = [(key, cell.sums) for key, cell in self._cells.items() if key.within("good")]
        requests = self._by_pod((key, float(sums.requests)) for key, sums in good)
        output = self._by_pod((key, float(sums.output)) for key, sums in good)
        return {name: (each, output[name]) for name, each in requests.items()}

    def kept(self, latency: str, limit_s: float, percentile: float) -> Kept:
        """Return whether a percentile of a latency was within a limit, which must be the one that
        was promised: this is counted exactly, while the percentile itself is of the sketch."""
        name = f"{latency}_ms"
        limits = (self._limits_ms(key)[name] for key in self._cells if key.measured)
        assert all(limit == limit_s * 1e3 for limit in limits)
        done, asked = self._whole(name, "done"), self.sums("measured").requests
        if latency == "tpot":
            asked -= self.sums("done").requests - done.count
        if not asked:
            return Kept(True, None)
        rank = int(np.ceil((asked - 1) * (percentile / 100)))
        met = sum(cell.in_time.get(name, 0) for cell in self._among("done")) > rank
        if rank >= done.count:
            return Kept(met, None)
        # Rounded by the sketch it may fall on the wrong side of the limit.
        bound = min if met else max
        return Kept(met, bound(done.at_rank(rank), limit_s * 1e3))

    def dollars(self, tariffs: Mapping[str, Tariff], scales: Mapping[str, float]) -> float:
        """Return what the completed paid."""
        found = 0.0
        for key, cell in self._cells.items():
            tariff = tariffs.get(self._terms.streams[key.stream], Tariff())
            if key.within("done") and (key.met or not tariff.within_slo):
                sums = cell.sums
                found += scales[key.deployment] * tariff.usd(sums.prompt, sums.cached, sums.output)
        return found

    def _by_pod(self, values: Iterable[tuple[Key, float]]) -> dict[str, Floats]:
        """Return sums of values of cells by deployment, pod and batch of time."""
        found: dict[str, Floats] = {}
        for key, value in values:
            if key.deployment not in found:
                many = len(self._terms.pods.get(key.deployment, (1,)))
                found[key.deployment] = np.zeros((many, BATCHES))
            found[key.deployment][key.pod, key.batch] += value
        return found

    def _among(self, which: Which) -> list[Cell]:
        return [cell for key, cell in self._cells.items() if key.within(which)]

    def _whole(self, latency: str, which: Which) -> Spread:
        """Return the spread of a latency over some of the requests."""
        found = Spread()
        for cell in self._among(which):
            if latency in cell.spreads:
                found.merge(cell.spreads[latency])
        return found


def _coded(*parts: tuple[np.ndarray | None, int]) -> np.ndarray:
    """Return one number for several, of which each is below so many; None for 0 of all.

    In as few bits as hold them all: NumPy sorts numbers of up to 16 without comparing any.
    """
    kind = np.min_scalar_type(prod(many for _, many in parts) - 1)
    code = np.zeros(1, kind)
    for part, many in parts:
        if many > 1:
            code = code * kind.type(many)
            if part is not None:
                code = code + part.astype(kind)
    return code


def _grouped(code: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray, np.ndarray]:
    """Return an order in which equal codes are side by side, else as they were; each of them, and
    where it begins."""
    if (code == code[0]).all():
        return slice(None), code[:1], np.zeros(1, np.int64)
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return order, ordered[starts], starts


def _key(deployment: str, pod: int, code: int, tenants: int) -> Key:
    """Return what a number of a cell stands for."""
    parts = []
    for many in (2, 2, BATCHES + 1, len(OUTCOMES), tenants):
        code, part = divmod(code, many)
        parts.append(part)
    admitted, met, batch, outcome, tenant = parts
    return Key(deployment, pod, code, tenant, outcome, batch - 1, bool(met), bool(admitted))


def _spread(
    cell: Cell, name: str, values: np.ndarray, keys: np.ndarray, limit_ms: float | None
) -> None:
    """Add latencies in ms, NaN where a request had none, to a cell. keys: their bins."""
    none = np.isnan(values)
    if none.any():
        values, keys = values[~none], keys[~none]
    if len(values):
        cell.spreads.setdefault(name, Spread()).add(values, keys)
    if limit_ms is not None:
        cell.in_time[name] = cell.in_time.get(name, 0) + int(np.count_nonzero(values <= limit_ms))


def _plus(one: Sums, other: Sums) -> Sums:
    return Sums(*map(sum, zip(one, other, strict=True)))
