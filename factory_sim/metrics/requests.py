"""One row per request: raw times turned into the latencies people know.

TTFT, TPOT and end-to-end latency as in `vllm bench serve`, as the client sees them: TTFT is
sending to first token, TPOT is (e2e - ttft) / (output tokens - 1). TTFO is sending to the first
token of the answer, after those of reasoning (AIPerf's time to first output token).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from factory_sim.metrics.statistics import BATCHES
from factory_sim.metrics.trips import Trips

OUTCOMES = ("completed", "timed_out", "rejected", "unfinished")

AT_ONCE = 8192
"""Requests whose columns are made at a time."""


class Promise(NamedTuple):
    """The latency limits of a deployment, seconds; infinity where nothing is promised."""

    ttft_s: float
    tpot_s: float
    e2e_s: float
    ttfo_s: float = np.inf


class Tier(NamedTuple):
    """What the requests of one workload are promised. name: of their class.

    promise: None where it is that of the deployment that answers. percentile: of requests that the
    promise is for.
    """

    name: str
    promise: Promise | None
    percentile: float


class Tariff(NamedTuple):
    """What completed requests of one workload pay: USD for a token of the prompt, for one of it
    that was found in the prefix cache, and for one of the answer. within_slo: only those that got
    what they were promised pay."""

    input_usd: float = 0.0
    cached_usd: float = 0.0
    output_usd: float = 0.0
    within_slo: bool = False

    def usd(self, prompt: int, cached: int, output: int) -> float:
        """Return what so many tokens cost, the cached ones being some of the prompts'."""
        prompts = self.input_usd * (prompt - cached) + self.cached_usd * cached
        return prompts + self.output_usd * output


class Terms(NamedTuple):
    """What a run says of its requests, whoever they are.

    streams: names of the workloads by stream number; back_s: seconds from replica to client of
    each. warmup_s: who is sent earlier is not measured. promises: by deployment. disaggregated:
    deployments with a pool that computes prompts; if there are any, transfers are told of.
    encoding: those with a pool that encodes images, of which it is told likewise. tiers: by stream
    number, where workloads have classes; tenants: by number, where they have tenants. reasoning:
    whether any request reasons before it answers; images: whether any prompt has images.
    timeouts_s: how long clients of each stream wait; an answer that they do not see by then is
    timed out. end_s: when arrivals stop. pods: of each deployment that has some, the replicas of
    each.
    """

    streams: Sequence[str]
    back_s: Sequence[float]
    warmup_s: float
    promises: Mapping[str, Promise]
    disaggregated: Collection[str] = ()
    encoding: Collection[str] = ()
    tiers: Sequence[Tier] = ()
    tenants: Sequence[str] = ()
    reasoning: bool = False
    images: bool = False
    timeouts_s: Sequence[float] = ()
    end_s: float = np.inf
    pods: Mapping[str, Sequence[int]] = {}

    def batch_of(self, sent_s: np.ndarray) -> np.ndarray:
        """Return the batch of time of each request; -1 for those that are not measured."""
        share = sent_s - self.warmup_s
        early = share < 0.0
        share /= self.end_s - self.warmup_s
        share *= BATCHES
        batches: np.ndarray = np.minimum(share, BATCHES - 1, out=share).astype(np.int64)
        batches[early] = -1
        return batches

    @property
    def classes(self) -> list[str]:
        """Return the names of all classes, in the order in which workloads name them."""
        return list(dict.fromkeys(tier.name for tier in self.tiers))

    def promised(self, deployment: str) -> list[Promise]:
        """Return what a deployment promises the requests of each stream."""
        own = self.promises.get(deployment, Promise(np.inf, np.inf, np.inf))
        return [tier.promise or own for tier in self.tiers] or [own] * len(self.streams)


def of_streams(values: Sequence[float] | np.ndarray, streams: np.ndarray) -> np.ndarray:
    """Return float64[n], to be read only: of each request what its stream has of `values`."""
    if min(values) == max(values):  # as in most runs
        return np.broadcast_to(np.float64(values[0]), len(streams))
    found: np.ndarray = np.asarray(values)[streams]
    return found


class Seen(NamedTuple):
    """What clients saw of requests: rows (of those who waited too long: timed out), when they sent
    them, and latencies in seconds, NaN for none; ttfo_s where any reason. met: completed, within
    every limit of what was promised, by the class or the deployment."""

    rows: np.ndarray
    sent_s: np.ndarray
    ttft_s: np.ndarray
    tpot_s: np.ndarray
    e2e_s: np.ndarray
    ttfo_s: np.ndarray | None
    met: np.ndarray


def seen(
    rows: np.ndarray,
    terms: Terms,
    deployment: str,
    sent_s: np.ndarray,
    first_late_s: np.ndarray,
    last_late_s: np.ndarray,
) -> Seen:
    """Return what clients saw of a deployment's rows (the gateway's, structured).

    first_late_s, last_late_s: from making the first and the last token to its being seen.
    """
    if min(terms.timeouts_s, default=np.inf) < np.inf:
        waited_s = of_streams(terms.timeouts_s, rows["stream"])
        rows = _without_the_late(rows, sent_s + waited_s - last_late_s)
    done = rows["outcome"] == 0
    ttft, tpot, e2e = _latencies(rows, done, sent_s, first_late_s, last_late_s)
    limits = np.array(terms.promised(deployment))
    alike = (limits == limits[0]).all()
    ttft_s, tpot_s, e2e_s, ttfo_s = limits[0] if alike else limits[rows["stream"]].T
    met = done & (ttft <= ttft_s) & (e2e <= e2e_s)
    met &= ~(tpot > tpot_s)  # who got one token has none, and nothing to wait for
    ttfo = None
    if terms.reasoning:
        ttfo = _seen_to_answer_s(rows, first_late_s, last_late_s) - sent_s
        met &= ttfo <= ttfo_s
    return Seen(rows, sent_s, ttft, tpot, e2e, ttfo, met)


class _Part(NamedTuple):
    """Rows that one deployment ended, by its place among all; their trips, where there are any."""

    deployment: int
    rows: np.ndarray
    own: np.ndarray | None
    numbers: np.ndarray

    def pieces(self) -> Iterator[_Part]:
        """Yield it in pieces that a processor's cache holds: one at least, if an empty one."""
        for first in range(0, max(len(self.rows), 1), AT_ONCE):
            piece = slice(first, first + AT_ONCE)
            own = None if self.own is None else self.own[piece]
            yield _Part(self.deployment, self.rows[piece], own, self.numbers[piece])


def request_table(
    raw: Mapping[str, Sequence[np.ndarray]],
    terms: Terms,
    trips: Trips | None = None,
    numbers: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Return the requests of one run, one row each, in the order they were made.

    raw: per deployment, the gateway's structured rows, in one array or several. A latency that a
    request never had is NaN. trips: where front doors sent requests; one that asked several
    deployments is a row of the last. numbers: of each deployment's requests, where those of its
    rows are not in one sequence with all others.
    """
    names = list(raw)
    parts = list(_parts(raw, trips, numbers))
    places = _places(np.concatenate([part.numbers for part in parts]))
    columns: dict[str, np.ndarray] = {}
    first = 0
    for part in parts:
        for piece in part.pieces():
            last = first + len(piece.rows)
            for name, values in _columns(piece, names[part.deployment], terms, trips).items():
                if name not in columns:
                    columns[name] = np.empty(len(places), values.dtype)
                columns[name][places[first:last]] = values
            first = last
    called = {
        "workload": terms.streams,
        "class": terms.classes,
        "tenant": terms.tenants,
        "deployment": names,
        "region": trips.regions if trips is not None else (),
        "outcome": OUTCOMES,
    }
    found = {
        name: _named(values, called[name]) if name in called else values
        for name, values in columns.items()
    }
    return pd.DataFrame(found, copy=False)


def _parts(
    raw: Mapping[str, Sequence[np.ndarray]],
    trips: Trips | None,
    numbers: Mapping[str, np.ndarray] | None,
) -> Iterator[_Part]:
    for place, (deployment, arrays) in enumerate(raw.items()):
        first = 0
        for rows in arrays:
            if trips is not None:
                rows, own = trips.of(rows, place)
                yield _Part(place, rows, own, rows["number"])
            elif numbers is not None:
                last = first + len(rows)
                yield _Part(place, rows, None, numbers[deployment][first:last])
                first = last
            else:
                yield _Part(place, rows, None, rows["number"])


def _places(numbers: np.ndarray) -> np.ndarray:
    """Return the place of each number in their order; of equal ones the first comes first."""
    many = len(numbers)
    if many and numbers.max() - numbers.min() == many - 1:
        places: np.ndarray = numbers - numbers.min()
        if np.bincount(places, minlength=many).max() == 1:  # each once, so nothing to sort
            return places
    places = np.empty(many, np.int64)
    places[np.argsort(numbers, kind="stable")] = np.arange(many)
    return places


def _columns(
    part: _Part, deployment: str, terms: Terms, trips: Trips | None
) -> dict[str, np.ndarray]:
    """Return the columns of some requests; of what has names, their numbers."""
    rows, own = part.rows, part.own
    if own is None:
        first_late = last_late = of_streams(terms.back_s, rows["stream"])
        sent_s = rows["arrival_s"]
    else:
        first_late, last_late = own["first_late_s"], own["last_late_s"]
        sent_s = own["sent_s"]
    told = seen(rows, terms, deployment, sent_s, first_late, last_late)
    rows, stream = told.rows, told.rows["stream"]
    found = {"request_id": part.numbers, "workload": stream}
    if terms.tiers:
        names_of = terms.classes
        found["class"] = np.array([names_of.index(tier.name) for tier in terms.tiers])[stream]
    if terms.tenants:
        found["tenant"] = rows["tenant"]
    found["deployment"] = np.full(len(rows), part.deployment, np.int32)
    if trips is not None and own is not None:
        found |= _travelled(trips, rows, own)
    found |= {
        "replica": rows["replica"],
        "archetype": rows["archetype"],
        "arrival_s": sent_s,
        "admitted_s": rows["admitted_s"],
        "ttft_ms": told.ttft_s * 1e3,
    }
    if told.ttfo_s is not None:
        found["ttfo_ms"] = told.ttfo_s * 1e3
    found |= {"tpot_ms": told.tpot_s * 1e3, "e2e_ms": told.e2e_s * 1e3}
    if terms.disaggregated:
        found["prefill_replica"] = rows["prefill_replica"]
        found["transfer_ms"] = rows["transfer_s"] * 1e3
    if terms.encoding:
        found["encode_replica"] = rows["encode_replica"]
        found["encoding_ms"] = rows["encoding_s"] * 1e3
    found["prompt_tokens"] = rows["prompt"]
    if terms.images:
        found["images"] = rows["images"]
    found["output_tokens"] = rows["emitted"]
    if told.ttfo_s is not None:
        found["reasoning_tokens"] = np.minimum(rows["reasoning"], rows["emitted"])
    return found | {
        "cached_tokens": rows["cached"],
        "preemptions": rows["preemptions"],
        "retries": rows["retries"],
        "outcome": rows["outcome"],
        "slo_met": told.met,
        "measured": sent_s >= terms.warmup_s,
    }


def _latencies(
    rows: np.ndarray,
    done: np.ndarray,
    sent_s: np.ndarray,
    first_late_s: np.ndarray,
    last_late_s: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return TTFT, TPOT and end-to-end latency in seconds, from sending to seeing; NaN for none.

    done: who was completed. first_late_s, last_late_s: from making the first and the last token to
    its being seen.
    """
    ttft = rows["first_token_s"] + first_late_s
    ttft -= sent_s
    e2e = rows["end_s"] + last_late_s
    e2e -= sent_s
    e2e[~done] = np.nan
    more = rows["emitted"] - 1.0
    more[more <= 0.0] = np.nan
    tpot = e2e - ttft
    tpot /= more
    return ttft, tpot, e2e


def _without_the_late(rows: np.ndarray, until_s: np.ndarray) -> np.ndarray:
    """Return the rows with those timed out that were completed too late for their clients.

    until_s: when each had to be completed to be seen in time.
    """
    late = (rows["outcome"] == 0) & (rows["end_s"] > until_s + 1e-9)
    if late.any():
        rows = rows.copy()
        rows["outcome"][late] = OUTCOMES.index("timed_out")
    return rows


def _seen_to_answer_s(
    rows: np.ndarray, first_late_s: np.ndarray, last_late_s: np.ndarray
) -> np.ndarray:
    """Return when users see the first token of the answer, after what was reasoned.

    Its lateness lies between that of the first token and that of the last, by when it was made.
    """
    first_s, begun_s = rows["first_token_s"], rows["answer_s"]
    thinks = rows["reasoning"] > 0
    whole_s = np.where(rows["outcome"] == 0, rows["end_s"] - first_s, np.nan)
    share = np.divide(begun_s - first_s, whole_s, out=np.zeros(len(rows)), where=whole_s > 0.0)
    late_s = first_late_s + np.nan_to_num(share * (last_late_s - first_late_s))
    seen_s: np.ndarray = np.where(thinks, begun_s + late_s, first_s + first_late_s)
    return seen_s


def _travelled(trips: Trips, rows: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    """Return the columns of what lies between users and deployments, and of who else was asked."""
    found: dict[str, Any] = {}
    if trips.several:
        found |= {"deployments_asked": own["asked"], "earlier_tokens": own["earlier"]}
    if trips.regions:
        done, soon = rows["outcome"] == 0, np.zeros(len(rows))
        at_server = _latencies(rows, done, rows["arrival_s"], soon, soon)
        found["region"] = own["region"]
        for name, values in zip(("ttft", "tpot", "e2e"), at_server, strict=True):
            found[f"server_{name}_ms"] = values * 1e3
        found["longest_gap_ms"] = own["longest_gap_s"] * 1e3
    if trips.cascades:
        found["escalation_refused"] = own["stands"]
    if trips.uploads:
        found["upload_ms"] = own["upload_s"] * 1e3
    return found


def _named(codes: np.ndarray, names: Sequence[str]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes.astype(np.int64), categories=pd.Index(list(names)))
