"""Arrivals: when requests come, by chance, by plan, after answers or as recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from factory_sim.frozen import Frozen
from factory_sim.scenario.signal import Signal
from factory_sim.scenario.signal_forms import signal_of
from factory_sim.scenario.trace_file import TraceFile
from factory_sim.units import (
    NonNegativeSeconds,
    PerSecond,
    PositivePerSecond,
    PositiveSeconds,
    Share,
)

NonNegativePerSecond = Annotated[PerSecond, Field(ge=0)]
Weight = Annotated[Share, Field(ge=0)]
if TYPE_CHECKING:
    WeightSignal: TypeAlias = Signal
else:
    WeightSignal = signal_of(Weight)


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
