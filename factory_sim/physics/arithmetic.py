"""What one GPU has to do for one layer of a model: flops to compute and bytes to move.

A `Work` is the cost of an operator as a function of the T tokens in a step:
`flops = flops_per_token * T`, `bytes = bytes_fixed + bytes_per_token * T` (plus, for routed
experts, the weights of the experts that T tokens touch). Shapes follow the published
configuration of the model; equations follow the transformer's definition (Vaswani et al.,
2017) and, for mixture of experts, the expected number of distinct experts under uniform
routing, E/ep * (1 - (1 - k/E)^T).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory_sim.catalog.shapes import Linear, Model

ACTIVATION_BYTES = 2.0
"""Activations travel as 16-bit numbers whatever the weights are."""

BYTES_PER_WEIGHT = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    # Four bits and one 16-bit scale per 32 weights (compressed-tensors pack-quantized).
    "int4": 0.5 + 2 / 32,
    # Four bits and one 8-bit scale per 16 (nvfp4) or per 32 (mxfp4) weights:
    # NVIDIA TensorRT NVFP4 format; OCP Microscaling Formats specification v1.0.
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
}


class Gemm(NamedTuple):
    """A dense matrix product on one GPU: T x `inner` times `inner` x `outer`."""

    inner: float
    outer: float

    @property
    def weights(self) -> float:
        """Return the number of weights."""
        return self.inner * self.outer


class Experts(NamedTuple):
    """Routed experts of one layer on one GPU, under tensor or expert parallelism."""

    experts: float  # in the model, and copies of them
    active: float  # chosen per token
    resident: float  # held by this GPU
    weights_each: float  # of one expert, as held by this GPU
    token_share: float  # of all (token, expert) pairs that this GPU computes
    inner: float
    outer: float

    def touched(
        self, tokens: NDArray[np.float64] | float, spread: float = 1.0
    ) -> NDArray[np.float64] | float:
        """Return the expected number of resident experts that `tokens` tokens reach.

        spread: tokens of real text choose alike; those after the first count by this share.
        """
        tokens = np.asarray(tokens, dtype=float)
        apart = np.minimum(tokens, 1.0) + spread * np.maximum(tokens - 1.0, 0.0)
        return self.resident * (1.0 - (1.0 - self.active / self.experts) ** apart)


def attention_gemms(model: Model, tp: int) -> list[Gemm]:
    """Return the projections of one attention layer on one of `tp` GPUs."""
    return [*_attention_gemms(model, tp), *_indexer_gemms(model)]


def _indexer_gemms(model: Model) -> list[Gemm]:
    """Return the projections of an indexer's queries, and of its key and the weights of its heads.

    Every GPU of tensor parallelism computes all of it, as vLLM's does (ReplicatedLinear).
    """
    if model.sparse is None:
        return []
    query = model.mla.q_lora if model.mla and model.mla.q_lora else model.hidden
    return [
        Gemm(query, model.sparse.heads * model.sparse.dim),
        Gemm(model.hidden, model.sparse.dim + model.sparse.heads),
    ]


def _attention_gemms(model: Model, tp: int) -> list[Gemm]:
    heads = model.heads / tp
    if model.mla is not None:
        mla = model.mla
        query = heads * (mla.nope + mla.rope)
        down = (
            Gemm(model.hidden, mla.q_lora + mla.kv_lora + mla.rope)
            if mla.q_lora
            else Gemm(model.hidden, query + mla.kv_lora + mla.rope)
        )
        up = [Gemm(mla.q_lora, query)] if mla.q_lora else []
        # The key and value up-projections: applied to prompts, absorbed into the query and
        # the output when decoding; the same weights are read either way.
        return [
            down,
            *up,
            Gemm(mla.kv_lora, heads * (mla.nope + mla.v)),
            Gemm(heads * mla.v, model.hidden),
        ]
    kv_heads = max(model.kv_heads / tp, 1.0)
    queries = 2 * heads if model.attention_gate else heads
    return [
        Gemm(model.hidden, (queries + 2 * kv_heads) * model.head_dim),
        Gemm(heads * model.head_dim, model.hidden),
    ]


def mlp_gemms(model: Model, intermediate: float) -> list[Gemm]:
    """Return the products of one dense MLP of `intermediate` columns on this GPU."""
    return [
        Gemm(model.hidden, (model.mlp_matrices - 1) * intermediate),
        Gemm(intermediate, model.hidden),
    ]


def experts(model: Model, gpus: int, ep: int, redundant: int = 0) -> Experts | None:
    """Return the routed experts that one of `gpus` GPUs holds; None for a dense model.

    Experts, and `redundant` copies of them, are dealt out over `ep` groups of GPUs; inside a group
    every GPU holds a slice of each. So it computes 1/gpus of the routed work.
    """
    moe = model.moe
    if moe is None:
        return None
    slices = gpus / ep
    weights = model.mlp_matrices * model.hidden * moe.intermediate
    return Experts(
        experts=moe.experts + redundant,
        active=moe.active,
        resident=(moe.experts + redundant) / ep,
        weights_each=weights / slices,
        token_share=moe.active / ep,
        inner=model.hidden,
        outer=moe.intermediate * (model.mlp_matrices - 1) / slices,
    )


def dense_layers(model: Model) -> int:
    """Return how many layers have a dense MLP."""
    return model.mlps if model.moe is None else model.moe.dense_layers


def moe_layers(model: Model) -> int:
    """Return how many layers route tokens to experts."""
    return model.mlps - dense_layers(model)


def shared_intermediate(model: Model) -> float:
    """Return the columns of the expert that every token visits; 0 without one."""
    moe = model.moe
    if moe is None or not moe.shared_experts:
        return 0.0
    return moe.shared_experts * float(moe.shared_intermediate or moe.intermediate)


def layer_weights(model: Model) -> float:
    """Return the number of weights of all layers of a model (norms and biases left out)."""
    routed = experts(model, 1, 1)
    held = routed.resident * routed.weights_each if routed is not None else 0.0
    return shared_weights(model) + held * moe_layers(model)


def shared_weights(model: Model, tp: int = 1) -> float:
    """Return the weights of all layers on one of `tp` GPUs but for those of routed experts."""
    attention = sum(g.weights for g in attention_gemms(model, tp)) * model.attention_layers
    if model.linear is not None:
        attention += linear_weights(model, model.linear, tp) * model.linear.layers
    dense = sum(g.weights for g in mlp_gemms(model, model.intermediate / tp)) * dense_layers(model)
    if model.moe is None:
        return attention + dense
    shared = sum(g.weights for g in mlp_gemms(model, shared_intermediate(model) / tp))
    router = model.hidden * model.moe.experts
    return attention + dense + (shared + router) * moe_layers(model)


def embedding_weights(model: Model, tp: int = 1) -> float:
    """Return the number of weights of embedding and output head on one GPU."""
    tables = 1 if model.tied_embeddings else 2
    return tables * model.vocab * model.hidden / tp


def kv_bytes_per_token_layer(model: Model, tp: int, kv_bytes: float) -> float:
    """Return the bytes one token keeps in one layer's KV cache on one GPU.

    Keys and values of the KV heads this GPU holds; MLA keeps one compressed vector and the
    rotary key, on every GPU (DeepSeek-V2, section 2.1).
    """
    if model.mla is not None:
        return (model.mla.kv_lora + model.mla.rope) * kv_bytes
    return 2.0 * max(model.kv_heads / tp, 1.0) * model.head_dim * kv_bytes


def index_bytes_per_token_layer(model: Model) -> float:
    """Return the bytes of one token's indexer key in one layer, on every GPU; 0 without one.

    Eight bits a number, and a scale of 32 bits (vLLM's and SGLang's caches: 132 bytes for 128).
    """
    return model.sparse.dim + 4.0 if model.sparse is not None else 0.0


def index_flops_per_pair_layer(model: Model) -> float:
    """Return the flops of scoring one earlier token for one token, one layer; 0 without indexer."""
    return 2.0 * model.sparse.heads * model.sparse.dim if model.sparse is not None else 0.0


def decode_flops_per_context_layer(model: Model, tp: int) -> float:
    """Return the attention flops of one decoded token per context token, one layer, one GPU."""
    heads = model.heads / tp
    if model.mla is not None:
        return 2.0 * heads * (2 * model.mla.kv_lora + model.mla.rope)
    return 4.0 * heads * model.head_dim


def prefill_flops_per_pair_layer(model: Model, tp: int) -> float:
    """Return the attention flops per (prompt token, earlier token) pair, one layer, one GPU."""
    heads = model.heads / tp
    if model.mla is not None:
        return 2.0 * heads * (model.mla.nope + model.mla.rope + model.mla.v)
    return 4.0 * heads * model.head_dim


# -- linear attention ------------------------------------------------------------------


def linear_columns(linear: Linear, tp: int) -> tuple[float, float]:
    """Return the columns of the keys (as many as of the queries) and of the values, one GPU."""
    keys = max(linear.key_heads / tp, 1.0) * linear.key_dim
    return keys, linear.value_heads / tp * linear.value_dim


def linear_gemms(model: Model, linear: Linear, tp: int) -> list[Gemm]:
    """Return the projections of one layer with linear attention on one of `tp` GPUs.

    Query, key, value, output gate and the gates of the heads in one; the output.
    """
    keys, values = linear_columns(linear, tp)
    gates = linear.gates * linear.value_heads / tp
    return [Gemm(model.hidden, 2 * keys + 2 * values + gates), Gemm(values, model.hidden)]


def linear_weights(model: Model, linear: Linear, tp: int) -> float:
    """Return the weights of one layer with linear attention on one GPU."""
    keys, values = linear_columns(linear, tp)
    projections = sum(g.weights for g in linear_gemms(model, linear, tp))
    return projections + linear.conv * (2 * keys + values)


def linear_state_bytes(linear: Linear, tp: int) -> float:
    """Return the bytes one sequence keeps in one layer on one GPU, whatever its context.

    A key_dim x value_dim matrix per head, and the inputs the convolution looks back at.
    """
    keys, values = linear_columns(linear, tp)
    matrices = values * linear.key_dim * BYTES_PER_WEIGHT[linear.state]
    return matrices + (linear.conv - 1) * (2 * keys + values) * ACTIVATION_BYTES


def linear_flops_per_token(linear: Linear, tp: int) -> float:
    """Return the flops of one token with the states of one layer on one GPU.

    Writing the key-value product into the state and reading it with the query; the delta rule
    also reads it with the key, to subtract what is there (Dao and Gu 2024; Yang et al. 2024).
    The products between the tokens of one kernel's chunk of a prompt are fewer, and left out.
    """
    products = 3 if linear.kind == "gated-delta-net" else 2
    _, values = linear_columns(linear, tp)
    return 2.0 * products * values * linear.key_dim


def linear_elements_per_token(linear: Linear, tp: int) -> float:
    """Return the numbers one token reads and writes between the projections of one layer.

    The convolution reads and writes query, key and value; the states take them and give a
    value; the gated norm reads that and its gate and writes the output.
    """
    keys, values = linear_columns(linear, tp)
    mixed = 2 * keys + values
    return 3 * mixed + values + 3 * values


def blocks(model: Model) -> float:
    """Return the layers in pairs of a mixer and an MLP; where each has both, their number."""
    return (model.layers + model.mlps) / 2


def pairs(start: float, length: float, window: float | None = None) -> float:
    """Return the (token, earlier-or-same token) pairs of a chunk of `length` after `start`.

    With a sliding window of w tokens, a token at position p sees min(p, w) of them.
    """
    end = start + length
    if window is None or end <= window:
        return length * start + length * (length + 1) / 2
    if start >= window:
        return length * window
    inside = window - start
    return inside * start + inside * (inside + 1) / 2 + (length - inside) * window
