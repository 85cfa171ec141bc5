"""The hardware a replica runs on, as the plain numbers that the equations need."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from sys import maxsize

from factory_sim.catalog.shapes import Model
from factory_sim.physics import arithmetic as work


@dataclass(frozen=True, slots=True)
class Chip:
    """One accelerator: peaks (flop/s, bytes/s) and the shares of them that kernels reach.

    The shares hold at the reference clock, which is the clock of a prefill at the board's
    power limit. per_layer_s is the launch overhead of one layer, moe_per_layer_s what routing
    adds to it; the all-reduce costs its latency plus bytes over link * network. memory_clock: the
    share of time bound by memory that follows the core clock: caches and address units do.
    operand_bytes: of a number as weights are multiplied here, unpacked if need be.
    narrow_draw, expert_draw, cache_draw: what moving a byte draws over one of plain 16-bit weights:
    of narrower weights, of routed experts (times the former), of the KV cache in decoding.
    scan_per_layer_s: computing that a layer of Mamba-2 adds to a step with prompt chunks.
    domain: GPUs that share the link, where a replica has more; between such domains each sends over
    its NIC (scaleout), and a hop takes hop_s.
    """

    flops: float
    flops_bf16: float
    bandwidth: float
    link: float
    gemm_compute: float
    expert_compute: float
    gemm_memory: float
    attention_compute: float
    kv_memory: float
    elementwise_memory: float
    per_layer_s: float
    moe_per_layer_s: float
    expert_spread: float
    allreduce_latency_s: float
    network: float
    memory_clock: float
    operand_bytes: float
    domain: int = maxsize
    scaleout: float = inf
    hop_s: float = 0.0
    narrow_draw: float = 1.0
    expert_draw: float = 1.0
    cache_draw: float = 1.0
    scan_per_layer_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a model that one GPU of a replica holds, and the bytes of its numbers.

    tp: GPUs that share attention and dense layers. dp: ranks of so many GPUs, each with attention
    for its own sequences. ep: groups of GPUs among which routed experts are dealt out (1: each GPU
    holds a slice of every expert). redundant: copies of experts beside the model's own. imbalance:
    work of the busiest GPU of them over the mean. tables: of embedding and output head, how many
    are held here (None: what the model has). cp: groups of such GPUs, each with a part of every
    context.
    """

    model: Model
    tp: int
    ep: int
    bytes_per_weight: float
    bytes_per_kv: float
    dp: int = 1
    redundant: int = 0
    imbalance: float = 1.0
    tables: int | None = None
    cp: int = 1

    @property
    def gpus(self) -> int:
        """Return the GPUs that share routed experts."""
        return self.tp * self.dp

    @property
    def experts(self) -> work.Experts | None:
        """Return the routed experts of a layer on this GPU; None for a dense model."""
        return work.experts(self.model, self.gpus, self.ep, self.redundant)

    @property
    def busiest(self) -> work.Experts | None:
        """Return the routed experts of a layer on the GPU with most to do, for which all wait."""
        held, much = self.experts, self.imbalance
        if held is None:
            return None
        share, active = held.token_share * much, min(held.active * much, held.experts)
        return held._replace(token_share=share, active=active)

    @property
    def bytes_per_other(self) -> float:
        """Return the bytes of a weight outside the routed experts."""
        only = self.model.quantised == "experts" and self.bytes_per_weight < 1.0
        return work.BYTES_PER_WEIGHT["bf16"] if only else self.bytes_per_weight

    @property
    def kv_bytes_per_token_layer(self) -> float:
        """Return the bytes that one token keeps in one layer's KV cache on this GPU: its part."""
        return work.kv_bytes_per_token_layer(self.model, self.tp, self.bytes_per_kv) / self.cp

    @property
    def weight_bytes(self) -> float:
        """Return the bytes of weights on this GPU: layers as quantised, embeddings in bf16."""
        held = self.experts
        other = work.shared_weights(self.model, self.tp)
        routed = 0.0
        if held is not None:
            routed = held.resident * held.weights_each * work.moe_layers(self.model)
        layers = routed * self.bytes_per_weight + other * self.bytes_per_other
        tables = work.embedding_weights(self.model, self.tp)
        if self.tables is not None:
            tables = self.tables * self.model.vocab * self.model.hidden / self.tp
        return layers + tables * work.BYTES_PER_WEIGHT["bf16"]


@dataclass(frozen=True, slots=True)
class Host:
    """What the serving engine costs on the host, in seconds.

    Per step, per running sequence in it, per request (tokenise, HTTP, detokenise), and per
    layer of a step with prompt chunks, whose kernels are launched one by one. launches_ahead:
    no CUDA graphs, so the host launches every kernel, while the GPU is busy with earlier ones.
    """

    per_step_s: float
    per_sequence_s: float
    per_request_s: float
    eager_per_layer_s: float = 0.0
    launches_ahead: bool = False
