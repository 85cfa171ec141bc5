"""The micro-batches of one replica whose layers are dealt out over stages: a pipeline.

Like laundry in a house with one washer, one dryer and one iron: each load passes all three, and
while one is ironed the next dries. Every micro-batch has its own queue, scheduler and share of the
KV cache, as the virtual engines of vLLM V0; there are as many as stages. They set out one after
the other, and each comes round again when its tokens are known and everybody has had a turn.

A round, in which every micro-batch takes one step, lasts as long as the longest of two things: the
busiest stage, which works on one micro-batch after the other, and the slowest micro-batch, which
passes one stage after the other,

    round = max(max over stages (sum over micro-batches t),
                max over micro-batches (sum over stages t)).

That is the period of a first-in-first-out pipeline where stages differ by a factor that is the same
for all micro-batches (docs/model.md has the proof). All rounds are taken to begin together: by how
much micro-batches are apart is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.ranks import RankedLedger, RankedStretch, Ranks
from factory_sim.factory.engine.stretch import Stretch
from factory_sim.physics.pipeline import Passage, Stages
from factory_sim.physics.step_time import Cost


class PipelineLedger(RankedLedger):
    """The ledgers of all micro-batches.

    Each passes all stages, so that the mean over them of the time spent on one is the mean over
    GPUs of the time at work; the rest of a round a GPU waits.
    """

    __slots__ = ()

    waits: ClassVar[str] = "stage_wait_s"


class Turn(Stretch):
    """The stretch of one micro-batch, whose steps last a round.

    own: (first_s, growth_s) of its way through the stages; in the rest of a round the GPUs rest.
    """

    __slots__ = ("own",)

    def __init__(self, like: Stretch) -> None:
        super().__init__(like.step_time, like.power)
        self.own = (0.0, 0.0)

    def energy_j(self, steps: float) -> float:
        """Return the joules of the first `steps` rounds, on each GPU: at work, then at rest."""
        last = self.first_s, self.growth_s
        self.first_s, self.growth_s = self.own
        working_j = super().energy_j(steps) if self.sequences else 0.0
        self.first_s, self.growth_s = last
        half = (steps - 1) / 2
        resting_s = last[0] - self.own[0] + (last[1] - self.own[1]) * half
        return working_j + steps * resting_s * self.power.idle_w


class PipelinedStretch(RankedStretch):
    """The rounds that all micro-batches are in: until one comes, goes or changes the pace."""

    __slots__ = ()

    def _shared(self) -> Cost:
        return Cost(0.0)

    def _paces(self) -> list[tuple[float, float]]:
        first: list[float] = []
        growth: list[float] = []
        for rank in self.ranks:
            stretch = rank.stretch
            cost = stretch.cost
            if not stretch.sequences:
                continue
            assert isinstance(cost, Passage), "a pipeline needs the step times of its stages"
            if not first:
                first, growth = [0.0] * len(cost.stages), [0.0] * len(cost.stages)
            for index, stage_s in enumerate(cost.stages):
                first[index] += stage_s
            if stretch.mixed:
                continue
            model = stretch.step_time
            assert isinstance(model, Stages)
            for index, stage in enumerate(model.stages):
                far, near = stage.per_context.duration_s, stage.per_windowed.duration_s
                first[index] += far * stretch.context + near * stretch.windowed
                growth[index] += far * stretch.tokens + near * stretch.filling
        return [*self.own, *zip(first, growth, strict=True)]

    def _keep_pace(self, stretch: Stretch) -> None:
        assert isinstance(stretch, Turn)
        stretch.own = stretch.first_s, stretch.growth_s
        stretch.first_s, stretch.growth_s = self.first_s, self.growth_s


class Pipeline(Ranks):
    """The batch of a replica that is a pipeline. batches: micro-batches, all alike.

    A request goes to the one with the fewest requests, the first of equals (vLLM V0).
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        super().__init__(batches)
        for batch in self.ranks:
            batch.stretch = Turn(batch.stretch)
        self.ledger = PipelineLedger(batch.ledger for batch in self.ranks)
        self.stretch = PipelinedStretch(self.ranks)

    def _choose(self) -> Batch:
        return min(self.ranks, key=lambda each: len(each.waiting) + len(each.running))


def in_turns(pp: int, batch: Callable[[], Batch]) -> Pipeline:
    """Return the batch of a replica with `pp` stages."""
    return Pipeline(batch() for _ in range(pp))
