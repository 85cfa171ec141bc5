"""How long a step takes where contexts are shared out: every GPU keeps a part of each.

Prompts go round a ring (Liu et al., 2023, Ring Attention): a GPU computes its share of a chunk's
tokens, and the keys and values of the others pass by while it attends. Decoding, each attends with
all queries to its own part of the context, and the parts of the answer are added up (Bhatia et al.,
2025, Helix Parallelism; vLLM's decode context parallelism). Weights are those of tensor
parallelism, the same in each of the `cp` groups, which compute decoded tokens alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from factory_sim.physics import arithmetic as work
from factory_sim.physics.rank_time import plus
from factory_sim.physics.step_time import Chunk, Cost, PrefillAttention, Roofline


@dataclass(frozen=True, slots=True)
class RingAttention(PrefillAttention):
    """Attention of prompt chunks of which each of `groups` GPUs computes a share of the tokens.

    Shares are taken to be equally long and to see equally much (zigzag order), and prompts to be
    filled up to a multiple of them. per_pair_s: of a GPU's share. ring_per_token_s: what a token's
    keys and values take on their way past all GPUs; ring_s: what that takes without bytes.
    """

    groups: int
    ring_per_token_s: float
    ring_s: float

    def chunk(self, start: int, length: int) -> tuple[float, float]:
        """See `PrefillAttention.chunk`; `length` is that of a share."""
        return PrefillAttention.chunk(self, start, length * self.groups)

    def passing_s(self, start: int, length: int) -> float:
        """Return how long keys and values are on their way round."""
        context = start + length * self.groups
        if self.window is not None:
            context = int(min(context, length * self.groups + self.window))
        return self.ring_s + self.ring_per_token_s * context


class ContextRoofline(Roofline):
    """The roofline of a GPU that keeps one of `shard.cp` parts of every context."""

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`."""
        cp = self._shard.cp
        shares = [Chunk(start, -(-length // cp)) for start, length in chunks]
        cost = super().mixed(sequences, context, windowed, shares, sampled)
        late_s = late_at_reference_s = 0.0
        for start, length in shares:
            for attention in self._attentions:
                assert isinstance(attention, RingAttention)
                computing_s, moving_s = attention.chunk(start, length)
                passing_s = attention.passing_s(start, length)
                attending_s = max(computing_s / self._clock, moving_s * self._stall)
                late_s += max(0.0, passing_s - attending_s)
                late_at_reference_s += max(0.0, passing_s - max(computing_s, moving_s))
        late = Cost(late_s, network_s=late_at_reference_s, busy_memory_s=late_at_reference_s)
        return plus(plus(cost, late), self._merge(sequences))

    def _decode_cost(self, n: int) -> Cost:
        return plus(super()._decode_cost(n), self._merge(n))

    def _merge(self, sequences: int) -> Cost:
        """Return what adding up the parts of all decoded sequences costs, in all layers."""
        shard, model = self._shard, self._shard.model
        width = model.mla.kv_lora if model.mla is not None else model.head_dim
        whole = sequences * model.heads / shard.tp * width * work.ACTIVATION_BYTES
        terms = self._all_reduce(np.array([sequences]), np.array([whole]), shard.cp, shard.tp)
        return Cost._make(model.attention_layers * float(term[0]) for term in terms)

    def _prefill_attention(self, layers: int, window: float | None) -> RingAttention:
        chip, shard = self._chip, self._shard
        cp = shard.cp
        flops = work.prefill_flops_per_pair_layer(shard.model, shard.tp) * layers / cp
        moved = shard.kv_bytes_per_token_layer * cp * layers  # all of them pass by
        far = shard.tp * cp > chip.domain
        link, hop_s = (chip.scaleout, chip.hop_s) if far else (chip.link, chip.allreduce_latency_s)
        return RingAttention(
            window,
            flops / (chip.flops_bf16 * chip.attention_compute),
            moved / (chip.bandwidth * chip.kv_memory),
            cp,
            moved * (cp - 1) / cp / (link * chip.network),
            layers * (cp - 1) * hop_s,
        )
