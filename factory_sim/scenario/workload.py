"""A workload: who sends requests to a deployment, when, and how long they are.

chat: {deployment: chat, arrivals: {process: poisson, rate: 150 /s}, lengths: azure-conv-2023}
code: {deployment: chat, arrivals: {process: trace, path: code.csv, speedup: 2}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    field_validator,
    model_validator,
)

from factory_sim.frozen import Frozen
from factory_sim.scenario.signal import Constant, Signal
from factory_sim.scenario.signal_forms import OrPlain, signal_of
from factory_sim.units import (
    NonNegativeSeconds,
    PerSecond,
    PositivePerSecond,
    PositiveSeconds,
    Share,
    parse,
)

NonNegativePerSecond = Annotated[PerSecond, Field(ge=0)]
Weight = Annotated[Share, Field(ge=0)]
if TYPE_CHECKING:
    WeightSignal: TypeAlias = Signal
else:
    WeightSignal = signal_of(Weight)
ProperShare = Annotated[Share, Field(ge=0, le=1)]

ARCHETYPES: Mapping[str, str] = {
    "chat": "azure-conv-2023",
    "code": "azure-code-2023",
    "summarise": "arxiv-summarization",
    "agent": "mooncake-toolagent",
    "batch": "alibaba-batch-generation",
}
"""Lengths of the archetypes that need none in a mix: those with published measurements."""


# Lengths, in tokens.


class Fixed(Frozen):
    """Always the same number of tokens. A plain integer in a file means this."""

    fixed: Annotated[int, Field(ge=0, strict=True)]


class Range(Frozen):
    """Whole numbers from `low` to `high`, both included."""

    low: Annotated[int, Field(ge=0, strict=True)]
    high: Annotated[int, Field(ge=0, strict=True)]

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.high < self.low:
            raise ValueError(f"high ({self.high}) must be at least low ({self.low})")
        return self


class Uniform(Frozen):
    """Every whole number in a range equally likely."""

    uniform: Range


class Spread(Frozen):
    """A lognormal: its median or its mean, and its sigma (of the logarithm) or its p99.

    max: longer draws count as `max`, as an engine's token limit cuts them.
    """

    median: Annotated[float, Field(gt=0)] | None = None
    mean: Annotated[float, Field(gt=0)] | None = None
    sigma: Annotated[float, Field(ge=0)] | None = None
    p99: Annotated[float, Field(gt=0)] | None = None
    max: Annotated[int, Field(ge=1, strict=True)] | None = None

    @model_validator(mode="after")
    def _determined(self) -> Spread:
        if (self.median is None) == (self.mean is None):
            raise ValueError("give either median or mean, for example {median: 300, sigma: 0.9}")
        if (self.sigma is None) == (self.p99 is None):
            raise ValueError("give either sigma or p99, for example {median: 300, p99: 2000}")
        self.log_parameters()
        return self

    def log_parameters(self) -> tuple[float, float]:
        """Return mean and standard deviation of the logarithm of the length."""
        z99 = 2.3263478740408408
        if self.median is not None:
            mu = math.log(self.median)
            if self.sigma is not None:
                return mu, self.sigma
            assert self.p99 is not None
            if self.p99 < self.median:
                raise ValueError(f"p99 ({self.p99:g}) lies below the median ({self.median:g})")
            return mu, (math.log(self.p99) - mu) / z99
        assert self.mean is not None
        if self.sigma is not None:
            return math.log(self.mean) - self.sigma**2 / 2.0, self.sigma
        assert self.p99 is not None
        # log p99 = log mean - sigma^2/2 + z sigma: the smaller root is the less extreme lognormal.
        gap = math.log(self.p99 / self.mean)
        inside = z99**2 - 2.0 * gap
        if gap < 0 or inside < 0:
            most = self.mean * math.exp(z99**2 / 2.0)
            raise ValueError(
                f"no lognormal of mean {self.mean:g} has p99 {self.p99:g}; it can lie between "
                f"{self.mean:g} and {most:.4g}"
            )
        sigma = z99 - math.sqrt(inside)
        return math.log(self.mean) - sigma**2 / 2.0, sigma


class Lognormal(Frozen):
    """A lognormal, rounded to whole tokens, at least one."""

    lognormal: Spread


class Quantiles(Frozen):
    """Points [share, tokens] of the quantile function from share 0 to 1, straight between them."""

    quantiles: Annotated[
        list[tuple[ProperShare, Annotated[float, Field(ge=0)]]], Field(min_length=2)
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Quantiles:
        shares = [share for share, _ in self.quantiles]
        tokens = [count for _, count in self.quantiles]
        if shares[0] != 0.0 or shares[-1] != 1.0:
            raise ValueError("the points must run from share 0 (shortest) to share 1 (longest)")
        if sorted(set(shares)) != shares or sorted(tokens) != tokens:
            raise ValueError("shares must increase and tokens must not decrease along the points")
        return self


_FORMS = {"fixed": Fixed, "uniform": Uniform, "lognormal": Lognormal, "quantiles": Quantiles}


def _form_of(given: Any) -> str | None:
    if isinstance(given, tuple(_FORMS.values())):
        return type(given).__name__
    found = [f.__name__ for key, f in _FORMS.items() if isinstance(given, Mapping) and key in given]
    return found[0] if found else None


def _plain_is_fixed(given: Any) -> Any:
    if isinstance(given, int) and not isinstance(given, bool):
        return {"fixed": given}
    return given


Length = Annotated[
    Annotated[Fixed, Tag("Fixed")]
    | Annotated[Uniform, Tag("Uniform")]
    | Annotated[Lognormal, Tag("Lognormal")]
    | Annotated[Quantiles, Tag("Quantiles")],
    Discriminator(
        _form_of,
        custom_error_type="length_form",
        custom_error_message="is no length; write a whole number of tokens, or a mapping with one "
        f"of the keys {', '.join(_FORMS)}",
    ),
    BeforeValidator(_plain_is_fixed),
    OrPlain(TypeAdapter(int)),
]


class Lengths(Frozen):
    """Prompt and output lengths, and how they hang together.

    rank_correlation: Spearman's, made by a Gaussian copula.
    """

    prompt: Length
    output: Length
    rank_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.0

    @model_validator(mode="after")
    def _at_least_one(self) -> Lengths:
        for name, length in (("prompt", self.prompt), ("output", self.output)):
            if _shortest(length) < 1:
                raise ValueError(f"{name} can be {_shortest(length):g} tokens; the least is 1")
        return self


class MeasuredLengths(Lengths):
    """Lengths of the catalogue: `n` requests of a published trace."""

    title: str
    kind: Literal["measured", "datasheet", "calibrated", "estimate"]
    source: str
    licence: str = ""
    n: Annotated[int, Field(ge=1)] | None = None
    note: str = ""


def _shortest(length: Length) -> float:
    if isinstance(length, Fixed):
        return length.fixed
    if isinstance(length, Uniform):
        return length.uniform.low
    if isinstance(length, Quantiles):
        return float(length.quantiles[0][1])
    return 1.0


class Columns(Frozen):
    """Which columns (or keys) of a file hold what. Times count in `time_unit`.

    time_unit: a unit of time such as `ms`, or `timestamp` for dates such as
    2023-11-16 18:15:46.6805900. hashes: a list of what the prompt's blocks hold, one hash for
    every `hash_tokens` tokens from the first on, each saying what came before as well.
    """

    prompt: str
    output: str
    arrival: str | None = None
    cached: str | None = None
    session: str | None = None
    hashes: str | None = None
    hash_tokens: Annotated[int, Field(ge=1, strict=True)] | None = None
    time_unit: str = "s"

    @field_validator("time_unit")
    @classmethod
    def _is_a_time(cls, unit: str) -> str:
        if unit != "timestamp":
            try:
                parse(f"1 {unit}", "s", "1 ms")
            except ValueError:
                raise ValueError(
                    f"{unit!r} is no unit of time; write for example 'ms', or 'timestamp' for dates"
                ) from None
        return unit

    @model_validator(mode="after")
    def _hashes_are_whole(self) -> Columns:
        if (self.hashes is None) != (self.hash_tokens is None):
            raise ValueError(
                "hashes and hash_tokens belong together: the column, and the prompt tokens that "
                "each of its hashes covers, for example {hashes: hash_ids, hash_tokens: 512}"
            )
        if self.hashes is not None and self.cached is not None:
            raise ValueError(
                "cached says what is found in a prefix cache, and hashes let the run find out; "
                "name one of the two"
            )
        return self


TraceFormat = Literal[
    "auto", "azure", "factory", "mooncake", "burstgpt", "sharegpt", "csv", "jsonl"
]


class TraceFile(Frozen):
    """A file of recorded requests.

    format: `auto` tells by the header or the first record; `csv` and `jsonl` need `columns`.
    allow_malformed: share of rows that may be unusable; they are skipped and reported.
    """

    path: str
    format: TraceFormat = "auto"
    columns: Columns | None = None
    allow_malformed: ProperShare = 0.0

    @model_validator(mode="after")
    def _mapped(self) -> TraceFile:
        if self.format in ("csv", "jsonl") and self.columns is None:
            raise ValueError(
                f"format {self.format} needs columns, for example "
                "{arrival: time, prompt: input_tokens, output: output_tokens, time_unit: ms}"
            )
        if self.format not in ("csv", "jsonl", "auto") and self.columns is not None:
            raise ValueError(
                f"format {self.format} has known columns; drop columns, or write format: csv"
            )
        return self


class LengthsFromTrace(Frozen):
    """Prompt and output of a recorded request drawn at random, with replacement."""

    trace: TraceFile


def _lengths_form(given: Any) -> str | None:
    if isinstance(given, str):
        return "str"
    if isinstance(given, LengthsFromTrace) or (isinstance(given, Mapping) and "trace" in given):
        return "LengthsFromTrace"
    return "Lengths" if isinstance(given, Lengths | Mapping) else None


LengthsSpec = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[Lengths, Tag("Lengths")]
    | Annotated[LengthsFromTrace, Tag("LengthsFromTrace")],
    Discriminator(
        _lengths_form,
        custom_error_type="lengths_form",
        custom_error_message="must be a name of the catalogue such as azure-conv-2023, or a "
        "mapping such as {prompt: 1000, output: 200}",
    ),
]
"""A name of the catalogue, a distribution, or a file to draw from."""


# Arrivals.


class _Open(Frozen):
    """Clients that send without waiting for answers.

    shape: multiplies the rate over time. requests: stop after so many.
    """

    shape: WeightSignal | None = None
    requests: Annotated[int, Field(ge=1)] | None = None


class ConstantArrivals(_Open):
    """Evenly spaced requests, the first at time 0."""

    process: Literal["constant"]
    rate: PositivePerSecond


class PoissonArrivals(_Open):
    """Independent requests: exponential gaps."""

    process: Literal["poisson"]
    rate: PositivePerSecond


class GammaArrivals(_Open):
    """Gamma gaps. burstiness: their shape, as in `vllm bench serve`; 1 is Poisson, less burstier.

    The coefficient of variation of the gaps is 1 / sqrt(burstiness).
    """

    process: Literal["gamma"]
    rate: PositivePerSecond
    burstiness: Annotated[float, Field(gt=0)]


class BurstState(Frozen):
    """One state of a Markov-modulated process: its rate, and how long it lasts on average."""

    rate: NonNegativePerSecond
    mean_duration: PositiveSeconds


class MmppArrivals(_Open):
    """Markov-modulated Poisson: exponential stays, then any other state, all equally likely.

    The first state is drawn by the share of time each one holds.
    """

    process: Literal["mmpp"]
    states: Annotated[list[BurstState], Field(min_length=2)]


class Stage(Frozen):
    """A rate held for a while."""

    rate: NonNegativePerSecond
    duration: PositiveSeconds


class StagedArrivals(_Open):
    """Stages one after another, Poisson or evenly spaced within; arrivals end with the last."""

    process: Literal["stages"]
    stages: Annotated[list[Stage], Field(min_length=1)]
    evenly_spaced: bool = False


class ClosedArrivals(Frozen):
    """`concurrency` clients, each sending again `think_time` after its last answer.

    thinking: every pause the same, or exponential with mean `think_time`. requests: stop after
    so many in all.
    """

    process: Literal["closed"]
    concurrency: Annotated[int, Field(ge=1)]
    think_time: NonNegativeSeconds = 0.0
    thinking: Literal["fixed", "exponential"] = "fixed"
    requests: Annotated[int, Field(ge=1)] | None = None


class OfflineArrivals(Frozen):
    """A batch: every request is there at time 0."""

    process: Literal["offline"]
    requests: Annotated[int, Field(ge=1)]


class TraceArrivals(TraceFile):
    """Recorded requests at their recorded times (the first at time 0), and ways to scale them.

    superpose: so many copies, each but the first rotated within the trace's span by a seeded
    offset. thin: keep this share, by session (by request where there is none). speedup: divides
    times. loop: start again when the trace ends. requests: stop after so many.
    """

    process: Literal["trace"]
    superpose: Annotated[int, Field(ge=1)] = 1
    thin: Annotated[Share, Field(gt=0, le=1)] = 1.0
    speedup: Annotated[float, Field(gt=0)] = 1.0
    loop: bool = False
    requests: Annotated[int, Field(ge=1)] | None = None


OpenArrivals = ConstantArrivals | PoissonArrivals | GammaArrivals | MmppArrivals | StagedArrivals

Arrivals = Annotated[
    ConstantArrivals
    | PoissonArrivals
    | GammaArrivals
    | MmppArrivals
    | StagedArrivals
    | ClosedArrivals
    | OfflineArrivals
    | TraceArrivals,
    Field(discriminator="process"),
]


# The workload.


class Archetype(Frozen):
    """A kind of request in a mix. weight: its share beside the others' weights, over time."""

    weight: WeightSignal
    lengths: LengthsSpec | None = None
    cached: Length = Fixed(fixed=0)


class WorkloadSpec(Frozen):
    """One stream of requests to one deployment.

    lengths, or mix (each request is of one archetype, drawn by the weights at its arrival);
    neither with a trace, which has its own. cached: prompt tokens that hit a prefix cache,
    drawn apart and at most the prompt less one. round_trip: network time, half before and half
    after. timeout: a request not finished by then is abandoned by its client.
    """

    deployment: str
    arrivals: Arrivals
    lengths: LengthsSpec | None = None
    mix: Annotated[dict[str, Archetype], Field(min_length=1)] | None = None
    cached: Length | None = None
    round_trip: NonNegativeSeconds = 0.0
    timeout: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _one_source_of_lengths(self) -> WorkloadSpec:
        given = [name for name in ("lengths", "mix") if getattr(self, name) is not None]
        if isinstance(self.arrivals, TraceArrivals):
            if given:
                raise ValueError(
                    f"the lengths come from the trace {self.arrivals.path}; drop {given[0]}, or "
                    "take arrivals from a process such as poisson"
                )
        elif len(given) != 1:
            both = "gives both lengths and mix; keep one" if given else "gives neither; add one"
            raise ValueError(f"needs either lengths or mix, but {both}")
        return self

    @model_validator(mode="after")
    def _mix_is_complete(self) -> WorkloadSpec:
        mix = self.mix or {}
        for name, archetype in mix.items():
            if archetype.lengths is None and name not in ARCHETYPES:
                raise ValueError(
                    f"mix.{name} needs lengths; only {', '.join(ARCHETYPES)} have built-in ones"
                )
            drifts = not isinstance(archetype.weight, Constant)
            if drifts and isinstance(self.arrivals, ClosedArrivals):
                raise ValueError(
                    f"mix.{name}.weight drifts, but a closed loop draws its mix at fixed weights"
                )
        if mix and self.cached is not None:
            raise ValueError("cached belongs to the archetypes of a mix; write mix.NAME.cached")
        return self
