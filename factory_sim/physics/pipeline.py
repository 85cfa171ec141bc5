"""How long a step takes where layers are dealt out over stages, and what each stage holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from factory_sim.catalog.shapes import Model
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Chip, Host, Shard
from factory_sim.physics.step_time import Array, Chunk, Cost, Roofline, StepTime


class Stage(NamedTuple):
    """One stage: its layers as a model of their own, whether it embeds, and whether it is last."""

    model: Model
    first: bool
    last: bool

    @property
    def tables(self) -> int:
        """Return how many of embedding and output head it holds."""
        return self.first + self.last


def deal(layers: int, pp: int) -> list[int]:
    """Return the layers of each of `pp` stages, as vLLM deals them out.

    What does not divide goes one each to the stages before the last, from behind: the last has the
    output head (vllm/distributed/utils.py, get_pp_indices).
    """
    dealt = [layers // pp] * pp
    for number in range(layers % pp):
        dealt[-2 - number] += 1
    return dealt


def stages_of(model: Model, pp: int) -> list[Stage]:
    """Return the stages of a model.

    Dense layers of a sparse model come first, as far as they fit into the first stage, and are
    spread evenly where there are more; layers with a window and with linear attention are spread
    evenly.
    """
    dealt = deal(model.layers, pp)
    starts = [sum(dealt[:number]) for number in range(pp + 1)]
    found = []
    for number, layers in enumerate(dealt):
        start, end = starts[number], starts[number + 1]

        def of(many: int, start: int = start, end: int = end) -> int:
            return _evenly(many, model.layers, end) - _evenly(many, model.layers, start)

        changed: dict[str, object] = {"layers": layers}
        if model.moe is not None:
            dense = model.moe.dense_layers
            here = of(dense) if dense > dealt[0] else (dense if number == 0 else 0)
            changed["moe"] = model.moe.model_copy(update={"dense_layers": here})
        for name in ("window", "linear"):
            kind = getattr(model, name)
            if kind is not None:
                many = of(kind.layers)
                changed[name] = kind.model_copy(update={"layers": many}) if many else None
        found.append(Stage(model.model_copy(update=changed), number == 0, number == pp - 1))
    return found


def _evenly(many: int, of: int, until: int) -> int:
    """Return how many of `many` things, spread over `of` places, stand before place `until`."""
    return (2 * many * until + of) // (2 * of)


class StageRoofline(Roofline):
    """The roofline of one stage: its layers, what it sends on, and, of the last, the output head.

    A token's two residual vectors go to the GPU of the same rank in the next stage, a slice from
    each, and are gathered there (vLLM's send_tensor_dict). across: the next stage is in another
    scale-up domain.
    """

    def __init__(
        self,
        chip: Chip,
        shard: Shard,
        host: Host,
        clock: float,
        max_sequences: int,
        max_tokens: int,
        last: bool,
        across: bool,
    ) -> None:
        self._last, self._across = last, across
        super().__init__(chip, shard, host, clock, max_sequences, max_tokens)

    def _per_token(self, tokens: Array) -> list[Array]:
        total = super()._per_token(tokens)
        if self._last:
            return total
        shard = self._shard
        vectors = 2.0 * tokens * work.ACTIVATION_BYTES * shard.model.hidden
        parts = [self._send(tokens, vectors / shard.tp)]
        if shard.tp > 1:
            parts.append(self._gather(tokens, vectors, shard.tp))
        return [np.sum(terms, axis=0) for terms in zip(total, *parts, strict=True)]

    def _send(self, tokens: Array, sent: Array) -> list[Array]:
        return self._hops(tokens, sent, 1) if self._across else self._collective(tokens, sent)

    def _gather(self, tokens: Array, whole: Array, many: int) -> list[Array]:
        inside = min(many, self._chip.domain)
        terms = self._collective(tokens, whole * (inside - 1) / inside)
        domains = many // inside
        if domains > 1:
            far = self._hops(tokens, whole / inside * (domains - 1) / domains, domains - 1)
            terms = [near + more for near, more in zip(terms, far, strict=True)]
        return terms

    def _output_head(self, sampled: Array) -> list[Array]:
        terms = super()._output_head(sampled)
        return terms if self._last else [np.zeros_like(term) for term in terms]


class Passage(Cost):
    """The cost of a micro-batch's way through all stages. stages: seconds in each kind of them."""

    stages: tuple[float, ...]


class Stages:
    """The step time of a micro-batch on its way through the stages of a pipeline.

    stages: each kind of stage once (equal ones take equally long); counts: how many of each.
    """

    def __init__(self, stages: Sequence[StepTime], counts: Sequence[int]) -> None:
        self.stages, self.counts = tuple(stages), tuple(counts)
        self.window = max(stage.window for stage in stages)  # some stages may have none
        self.per_context: Cost = self._sum([stage.per_context for stage in stages])
        self.per_windowed: Cost = self._sum([stage.per_windowed for stage in stages])
        self._decodes: dict[int, Passage] = {}

    def decode(self, sequences: int) -> Cost:
        """See `StepTime.decode`; nobody takes no time."""
        found = self._decodes.get(sequences)
        if found is None:
            costs = [stage.decode(sequences) if sequences else Cost(0.0) for stage in self.stages]
            found = self._decodes[sequences] = self._sum(costs)
        return found

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`."""
        step = (sequences, context, windowed, chunks, sampled)
        return self._sum([stage.mixed(*step) for stage in self.stages])

    def _sum(self, costs: Sequence[Cost]) -> Passage:
        found = Passage._make(
            sum(count * term for count, term in zip(self.counts, terms, strict=True))
            for terms in zip(*costs, strict=True)
        )
        found.stages = tuple(cost.duration_s for cost in costs)
        return found


class Rotation:
    """The step time of a pipeline of full, equal micro-batches, as a `StepTime` of one of them.

    The slowest stage at the most sequences sets the pace: a round is its time, once for each of
    the `pp` micro-batches.
    """

    def __init__(self, stages: Stages, most: int) -> None:
        pp = sum(stages.counts)

        def pace(stage: StepTime) -> tuple[float, float]:
            return stage.decode(most).duration_s, stage.per_context.duration_s

        self._slowest, self._pp = max(stages.stages, key=pace), pp
        self.window = stages.window
        self.per_context = self._times(self._slowest.per_context)
        self.per_windowed = self._times(self._slowest.per_windowed)

    def decode(self, sequences: int) -> Cost:
        """See `StepTime.decode`."""
        return self._times(self._slowest.decode(sequences))

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`."""
        return self._times(self._slowest.mixed(sequences, context, windowed, chunks, sampled))

    def _times(self, cost: Cost) -> Cost:
        return Cost._make(self._pp * term for term in cost)
