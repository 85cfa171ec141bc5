"""Step time with speculative decoding: a draft of k tokens, and one step of the model over them.

Like an apprentice who writes the next lines in pencil and a master who reads them all at once and
inks those that are right: the master's time is the same for one line or for a few, as long as
reading the books on the shelf, and not the writing, is what takes it.

A step computes k + 1 tokens of each decoding sequence: products, collectives and output head on all
of them, attention with the products of k + 1 queries and the KV cache read once. Drafts are k
passes of something smaller, one token of each sequence in each (Leviathan, Kalman and Matias,
2023). So what a step costs rises with n (k + 1), and whether that is little or much comes out of
the roofline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory_sim.catalog.shapes import Model
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Host, Shard
from factory_sim.physics.step_time import Chunk, Cost, Roofline, StepTime


class DraftedCost(Cost):
    """The cost of a step with drafts: compute_s to host_s are those of the model itself.

    drafting_s: of the drafts, at the reference clock, whatever bounds them. The duration and the
    two busy times are of both.
    """

    drafting_s: float = 0.0

    def _replace(self, **changes: Any) -> DraftedCost:
        """Return the same with some of the terms replaced."""
        changed = super()._replace(**changes)
        changed.drafting_s = self.drafting_s
        return changed


def drafted(model: Cost, draft: Cost) -> DraftedCost:
    """Return the cost of a model's step and of the drafts before it."""
    cost = DraftedCost(model[0] + draft[0], *model[1:5], model[5] + draft[5], model[6] + draft[6])
    cost.drafting_s = sum(draft[1:5])
    return cost


class Verification(Roofline):
    """The roofline of a model that computes `drafts` tokens and one more of each sequence a step.

    The rest is as of a `Roofline`. Attention in a step with prompt chunks is that of decode steps,
    as everywhere.
    """

    def __init__(self, drafts: int, *roofline: Any) -> None:
        self._queries = 1 + drafts
        super().__init__(*roofline)

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """Return the cost of a step with prompt chunks; drafts are more tokens, all sampled."""
        plain = super().mixed(sequences, context, windowed, chunks, sampled)
        more = sequences * (self._queries - 1)
        if not more:
            return plain
        tokens = sequences + sum(chunk.length for chunk in chunks)
        return Cost(
            *map(
                sum,
                zip(
                    plain,
                    self._layers_of(tokens + more),
                    self._head_of(sampled + more),
                    (-term for term in self._layers_of(tokens)),
                    (-term for term in self._head_of(sampled)),
                    strict=True,
                ),
            )
        )


class HeadRoofline(Roofline):
    """The roofline of layers that draft from the model's own last hidden state.

    Each pass begins with a projection of that state and of the token's embedding, 2 h to h, in 16
    bits and whole on every GPU (DeepSeek-V3, section 2.2; EAGLE: Li et al., 2024). EAGLE-3 widens
    the layer's own projections instead, to about as much.
    """

    def _per_token(self, tokens: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        projection = self._gemm(
            projection_of(self._shard.model),
            tokens,
            work.BYTES_PER_WEIGHT["bf16"],
            self._chip.flops_bf16,
        )
        return [a + b for a, b in zip(super()._per_token(tokens), projection, strict=True)]


def projection_of(model: Model) -> work.Gemm:
    """Return the projection in front of layers that draft from a model's hidden state."""
    return work.Gemm(2 * model.hidden, model.hidden)


EAGLE3_VOCAB = 32_000
"""Tokens that an EAGLE-3 layer drafts from: the commonest (`draft_vocab_size` in the config.json of
https://huggingface.co/yuhuili/EAGLE3-LLaMA3.1-Instruct-8B and of others since)."""


def head_of(model: Model, vocab: int | None = None) -> Model:
    """Return a layer that drafts for a model from its hidden state, as a model of its own.

    It is like the model's last ones, but that it slides no window: it attends as those do that do
    not, as EAGLE-3's, which are Llama's layers. vocab: of an output head of its own; without, it
    shares the model's. Embeddings it always shares.
    """
    moe = model.moe and model.moe.model_copy(update={"dense_layers": 0})
    own = {"layers": 1, "mlp_layers": None, "moe": moe, "mtp_layers": 0, "window": None}
    return model.model_copy(update=own | ({"vocab": vocab} if vocab else {}))


def head_weight_bytes(shard: Shard, own_output: bool) -> float:
    """Return the bytes that such a layer adds on each GPU. own_output: has an output head."""
    model = shard.model
    own = projection_of(model).weights - work.embedding_weights(model, shard.tp)
    if own_output:
        own += model.vocab * model.hidden / shard.tp
    return shard.weight_bytes + own * work.BYTES_PER_WEIGHT["bf16"]


class Passes:
    """What the drafts of a step cost: `passes` of a smaller step, one after the other.

    one: the step time of a pass. The first of them, in a step with prompt chunks, computes these
    too, as the draft keeps a KV cache of its own; the others are of the sequences that emit a
    token, with the context of those that decoded.
    """

    def __init__(self, one: StepTime, passes: int) -> None:
        self._one, self._passes = one, passes
        self.per_context = times(passes, one.per_context)
        self.per_windowed = times(passes, one.per_windowed)

    def decode(self, sequences: int) -> Cost:
        """Return what the drafts of so many sequences cost, besides their context."""
        return times(self._passes, self._one.decode(sequences))

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """Return what drafts cost in a step with prompt chunks."""
        one = self._one
        first = one.mixed(sequences, context, windowed, chunks, sampled)
        if not sampled:
            return first
        seen = plus(times(context, one.per_context), times(windowed, one.per_windowed))
        return plus(first, times(self._passes - 1, plus(one.decode(sampled), seen)))

    def together(self, decoding: int, prompt: int, sampled: int) -> Cost:
        """Return what the ranks of data-parallel attention do together in the drafts of a step."""
        first = self._one.together(decoding, prompt, sampled)  # type: ignore[attr-defined]
        other = self._one.together(sampled, 0, sampled)  # type: ignore[attr-defined]
        return plus(first, times(self._passes - 1, other))


class Scaled:
    """A step time that is a share of another's: a draft of which no more is known."""

    def __init__(self, whole: StepTime, share: float) -> None:
        self._whole, self._share = whole, share
        self.window = whole.window
        self.per_context = times(share, whole.per_context)
        self.per_windowed = times(share, whole.per_windowed)

    def decode(self, sequences: int) -> Cost:
        """See `StepTime.decode`."""
        return times(self._share, self._whole.decode(sequences))

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`."""
        whole = self._whole.mixed(sequences, context, windowed, chunks, sampled)
        return times(self._share, whole)

    def together(self, decoding: int, prompt: int, sampled: int) -> Cost:
        """Return the share of what ranks do together, where the whole is a rank's."""
        whole = self._whole.together(decoding, prompt, sampled)  # type: ignore[attr-defined]
        return times(self._share, whole)


class Speculating:
    """The step time of a model with its drafts. drafts: what they cost (None: nothing).

    A draft that attends to a window, if any, has the model's.
    """

    def __init__(self, model: StepTime, drafts: Passes | None, max_sequences: int) -> None:
        self._model, self._drafts = model, drafts
        nothing = Cost(0.0)
        self.window = model.window
        self.per_context: Cost = drafted(
            model.per_context, drafts.per_context if drafts else nothing
        )
        self.per_windowed: Cost = drafted(
            model.per_windowed, drafts.per_windowed if drafts else nothing
        )
        self.decode = [
            drafted(model.decode(n), drafts.decode(n) if drafts else nothing)
            for n in range(max_sequences + 1)
        ].__getitem__

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`."""
        cost = self._model.mixed(sequences, context, windowed, chunks, sampled)
        if self._drafts is None:
            return cost
        return drafted(cost, self._drafts.mixed(sequences, context, windowed, chunks, sampled))

    def together(self, decoding: int, prompt: int, sampled: int) -> Cost:
        """Return what all ranks do together in a step, where the model is of one of them."""
        work = (decoding, prompt, sampled)
        cost = self._model.together(*work)  # type: ignore[attr-defined]
        return drafted(cost, self._drafts.together(*work)) if self._drafts else cost


def without_host() -> Host:
    """Return the host time of a draft's pass: none, as the engine schedules once a step."""
    return Host(0.0, 0.0, 0.0)


def times(share: float, cost: Cost) -> Cost:
    """Return a cost `share` times over."""
    return Cost._make(share * term for term in cost)


def plus(one: Cost, other: Cost) -> Cost:
    """Return the sum of two costs."""
    return Cost._make(map(sum, zip(one, other, strict=True)))
