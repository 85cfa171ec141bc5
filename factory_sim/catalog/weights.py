"""How many weights a decoder of a given shape has.

Follows the published architectures: Vaswani et al. 2017 (attention), Shazeer 2020 (gated MLP),
Jiang et al. 2024 (mixture of experts), DeepSeek-AI 2024 (latent attention). Norms and biases
are left out: they are below 0.1 % of any model here.
"""

from __future__ import annotations

from factory_sim.catalog.entries import Shape


def total_weights(shape: Shape) -> float:
    """Return the number of all weights, embeddings and output head included."""
    experts = shape.moe.experts if shape.moe else 0
    return _outside(shape) + shape.layers * _attention(shape) + _mlps(shape, experts)


def active_weights(shape: Shape) -> float:
    """Return the number of weights one token passes through, embeddings included."""
    experts = shape.moe.active if shape.moe else 0
    return _outside(shape) + shape.layers * _attention(shape) + _mlps(shape, experts)


def _outside(shape: Shape) -> float:
    return shape.vocab * shape.hidden * (1 if shape.tied_embeddings else 2)


def _attention(shape: Shape) -> float:
    if shape.mla is None:
        query_and_output = 2 * shape.hidden * shape.heads * shape.head_dim
        return query_and_output + 2 * shape.hidden * shape.kv_heads * shape.head_dim
    mla = shape.mla
    query = shape.heads * (mla.nope + mla.rope)
    queries = (shape.hidden + query) * mla.q_lora if mla.q_lora else shape.hidden * query
    down = shape.hidden * (mla.kv_lora + mla.rope)
    up = mla.kv_lora * shape.heads * (mla.nope + mla.v)
    return queries + down + up + shape.heads * mla.v * shape.hidden


def _mlps(shape: Shape, experts: int) -> float:
    def width(intermediate: int) -> float:
        return shape.mlp_matrices * shape.hidden * intermediate

    if shape.moe is None:
        return shape.layers * width(shape.intermediate)
    moe = shape.moe
    shared = moe.shared_experts * width(moe.shared_intermediate or moe.intermediate)
    router = shape.hidden * moe.experts
    sparse = experts * width(moe.intermediate) + shared + router
    return (shape.layers - moe.dense_layers) * sparse + moe.dense_layers * width(shape.intermediate)
