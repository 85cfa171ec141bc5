"""What a summary asks of requests, whether each has a row or they were only counted.

One question, two ways to know: the receptionist who leafs through the guest book, and the one who
made a tally at the door. What is asked is written once, in `summary`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

from factory_sim.metrics.requests import Tariff
from factory_sim.metrics.statistics import Floats

Which = Literal["all", "measured", "admitted", "done", "good"]
"""Requests of the whole run; those that arrived after the warm-up; of these those that got into a
batch, those that were completed, and those that got what they were promised."""

LATENCIES = (
    "ttft_ms",
    "ttfo_ms",
    "tpot_ms",
    "e2e_ms",
    "upload_ms",
    "transfer_ms",
    "encoding_ms",
)
"""Columns of the table of requests that the summary describes, where they are there."""


class Sums(NamedTuple):
    """How many requests, and their tokens. output: emitted, reasoning included; earlier: made for
    them by deployments asked before; reasoned, pictured: requests with reasoning and with images.
    """

    requests: int = 0
    prompt: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    reasoned: int = 0
    images: int = 0
    pictured: int = 0
    earlier: int = 0


class Found(NamedTuple):
    """How a latency spreads: mean, std and percentiles, and half widths of their 95 % intervals,
    empty where these cannot be known."""

    figures: dict[str, float]
    half_widths: dict[str, float]


class Kept(NamedTuple):
    """Whether a promise of a latency is kept, and the percentile that decides; None for never."""

    met: bool
    value_ms: float | None


class Answers(Protocol):
    """Requests of a run, or a part of them. Latencies are of those after the warm-up."""

    @property
    def deployments(self) -> Collection[str]:
        """Return the deployments that answered any of them."""

    @property
    def workloads(self) -> Collection[str]:
        """Return the workloads that they are of."""

    def has(self, column: str) -> bool:
        """Tell whether the table of requests has, or would have, such a column."""

    def of(
        self,
        deployments: Collection[str] | None = None,
        workloads: Collection[str] | None = None,
    ) -> Answers:
        """Return the part that some deployments answered, or that is of some workloads."""

    def by(self, column: Literal["workload", "class", "tenant"]) -> Iterator[tuple[str, Answers]]:
        """Yield the requests of each workload, class or tenant that sent any."""

    def outcomes(self) -> Mapping[str, int]:
        """Return how many ended in each way, of the whole run."""

    def sums(self, which: Which) -> Sums:
        """Return how many there are, and their tokens."""

    def spread(self, latency: str) -> Found | None:
        """Return how a latency of `LATENCIES` spreads; None where no request had it."""

    def good(self) -> Mapping[str, tuple[Floats, Floats]]:
        """Return who got what was promised, and their output tokens: of each deployment two arrays
        [pods, batches of time]."""

    def kept(self, latency: str, limit_s: float, percentile: float) -> Kept:
        """Return whether a percentile of ttft, tpot, e2e or ttfo was within a limit.

        A request without an answer counts as one that waited for ever; one of a single token has
        no TPOT. The percentile is the lowest rank at or above it (NumPy's `higher`).
        """

    def dollars(self, tariffs: Mapping[str, Tariff], scales: Mapping[str, float]) -> float:
        """Return what the completed paid. tariffs: by workload; who has none pays nothing.
        scales: for how many each request stands, by deployment."""
