"""How long a step takes where attention is data-parallel: a rank's own part, and what all share.

With attention-DP every rank of `tp` GPUs attends to sequences of its own, and routed experts are
dealt out over the GPUs of all ranks. So a step is the slowest rank's own part and, together, the
experts' work on the tokens of all ranks with the two collectives around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from factory_sim.physics import arithmetic as work
from factory_sim.physics.speculation import DraftedCost, HeadRoofline, Verification
from factory_sim.physics.step_time import Array, Chunk, Cost, Roofline, StepTime


class RankTime(StepTime, Protocol):
    """The step time of one rank without what all ranks do together."""

    def together(self, decoding: int, prompt: int, sampled: int) -> Cost:
        """Return what all ranks do together in a step.

        decoding: sequences that decode, in all of them; prompt: tokens of prompts; sampled:
        sequences that emit something at its end.
        """


class RankRoofline(Roofline):
    """The roofline of a rank: as that of a whole replica, but for routed experts."""

    def __init__(self, *roofline: Any) -> None:
        super().__init__(*roofline)
        self._together: dict[int, Cost] = {}

    def together(self, decoding: int, prompt: int, sampled: int) -> Cost:
        """See `RankTime.together`: nothing where the model, as a dense draft, has no experts."""
        if self._shard.busiest is None:
            return Cost(0.0)
        tokens = decoding * self._queries + prompt
        found = self._together.get(tokens)
        if found is None:
            terms = self._routed(np.array([float(tokens)]))
            found = self._together[tokens] = Cost._make(float(term[0]) for term in terms)
        return found

    def _routed(self, tokens: Array) -> list[Array]:
        """Return the Cost terms of routed experts, and of tokens on their way to and from them."""
        shard, model = self._shard, self._shard.model
        routed, moe, gpus = shard.busiest, work.moe_layers(model), shard.gpus
        assert routed is not None and model.moe is not None
        columns = 3.0 * model.moe.active * model.moe.intermediate / gpus * shard.imbalance
        # Every GPU takes in a copy of each token of other GPUs that chose one of its experts or
        # slices: 1 - (1 - 1/ep)^k of all where k experts are chosen evenly.
        chosen = min(1.0, (1.0 - (1.0 - 1.0 / shard.ep) ** model.moe.active) * shard.imbalance)
        copies = tokens * chosen * (gpus - 1) / gpus
        # Tokens go as the experts multiply them, in 8 bits at the least (DeepEP's dispatch in fp8).
        bytes_out = min(work.ACTIVATION_BYTES, max(1.0, self._chip.operand_bytes))
        there = self._exchange(tokens, copies, bytes_out)
        back = self._exchange(tokens, copies, work.ACTIVATION_BYTES)
        parts = (self._experts(routed, tokens), self._elementwise(tokens * columns), there, back)
        return [moe * np.sum(terms, axis=0) for terms in zip(*parts, strict=True)]

    def _exchange(self, tokens: Array, copies: Array, bytes_each: float) -> list[Array]:
        """Return the Cost terms of taking in `copies` vectors from other GPUs of the replica.

        Where these stand in several scale-up domains, a token crosses to another one once, if any
        expert there is chosen, to the GPU of the same number, which hands it on inside (DeepEP's
        internode kernels); both at once, so that the longer counts.
        """
        hidden, gpus, inside = self._shard.model.hidden, self._shard.gpus, self._chip.domain
        near = self._collective(tokens, copies * hidden * bytes_each)
        if gpus <= inside:
            return near
        moe, domains = self._shard.model.moe, gpus // inside
        assert moe is not None
        spread = min(domains, self._shard.ep)  # of one expert's slices, each domain has some
        chosen = 1.0 if spread < domains else 1.0 - (1.0 - 1.0 / domains) ** moe.active
        crossing = tokens * (domains - 1) / domains * chosen / inside
        far = self._hops(tokens, crossing * hidden * bytes_each, domains - 1)
        return far if far[0].max() > near[0].max() else near


class RankVerification(Verification, RankRoofline):
    """The roofline of a rank that verifies drafts."""


class RankHead(HeadRoofline, RankRoofline):
    """The roofline of a rank of layers that draft from the model's last hidden state."""


class Lockstep:
    """The step time of `ranks` ranks that all carry the same, as a `StepTime` of one of them."""

    def __init__(self, rank: RankTime, ranks: int) -> None:
        self._rank, self._ranks = rank, ranks
        self.window = rank.window
        self.per_context, self.per_windowed = rank.per_context, rank.per_windowed

    def decode(self, sequences: int) -> Cost:
        """See `StepTime.decode`."""
        all_of_them = self._ranks * sequences
        return plus(self._rank.decode(sequences), self._rank.together(all_of_them, 0, all_of_them))

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`."""
        own = self._rank.mixed(sequences, context, windowed, chunks, sampled)
        work = (sequences, sum(chunk.length for chunk in chunks), sampled)
        return plus(own, self._rank.together(*(self._ranks * part for part in work)))


def rank_time(step_time: StepTime) -> RankTime:
    """Return a step time as that of a rank."""
    assert hasattr(step_time, "together"), "ranks need a step time that knows what they share"
    return step_time  # type: ignore[return-value]


def plus(one: Cost, other: Cost) -> Cost:
    """Return the cost of both, one after the other."""
    total = Cost._make(a + b for a, b in zip(one, other, strict=True))
    drafting_s = one.drafting_s + other.drafting_s
    if not drafting_s:
        return total
    both = DraftedCost(*total)
    both.drafting_s = drafting_s
    return both
