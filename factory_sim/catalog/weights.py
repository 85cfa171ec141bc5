"""How many weights a decoder of a given shape has.

Follows the published architectures: Vaswani et al. 2017 (attention), Shazeer 2020 (gated MLP),
Jiang et al. 2024 (mixture of experts), DeepSeek-AI 2024 (latent attention), Yang et al. 2024
(gated delta net), Dao and Gu 2024 (Mamba-2). Norms and biases are left out: they are below
0.1 % of any model here.
"""

from __future__ import annotations

from factory_sim.catalog.shapes import Shape


def total_weights(shape: Shape) -> float:
    """Return the number of all weights, embeddings and output head included."""
    return _outside(shape) + _mixers(shape) + _mlps(shape, shape.moe.experts if shape.moe else 0)


def active_weights(shape: Shape) -> float:
    """Return the number of weights one token passes through, embeddings included."""
    return _outside(shape) + _mixers(shape) + _mlps(shape, shape.moe.active if shape.moe else 0)


def _outside(shape: Shape) -> float:
    return shape.vocab * shape.hidden * (1 if shape.tied_embeddings else 2)


def _mixers(shape: Shape) -> float:
    mixers = shape.attention_layers * (_attention(shape) + _indexer(shape))
    if (linear := shape.linear) is not None:
        keys = linear.key_heads * linear.key_dim
        values = linear.value_heads * linear.value_dim
        # Query, key, value and output gate; the gates of each head; the output.
        inputs = 2 * keys + 2 * values + linear.gates * linear.value_heads
        convolution = linear.conv * (2 * keys + values)
        mixers += linear.layers * (shape.hidden * (inputs + values) + convolution)
    return mixers


def _attention(shape: Shape) -> float:
    if shape.mla is None:
        queries = 2 if shape.attention_gate else 1
        query_and_output = (queries + 1) * shape.hidden * shape.heads * shape.head_dim
        return query_and_output + 2 * shape.hidden * shape.kv_heads * shape.head_dim
    mla = shape.mla
    query = shape.heads * (mla.nope + mla.rope)
    queries = (shape.hidden + query) * mla.q_lora if mla.q_lora else shape.hidden * query
    down = shape.hidden * (mla.kv_lora + mla.rope)
    up = mla.kv_lora * shape.heads * (mla.nope + mla.v)
    return queries + down + up + shape.heads * mla.v * shape.hidden


def _indexer(shape: Shape) -> float:
    if (sparse := shape.sparse) is None:
        return 0.0
    query = shape.mla.q_lora if shape.mla and shape.mla.q_lora else shape.hidden
    return query * sparse.heads * sparse.dim + shape.hidden * (sparse.dim + sparse.heads)


def _mlps(shape: Shape, experts: int) -> float:
    def width(intermediate: int) -> float:
        return shape.mlp_matrices * shape.hidden * intermediate

    if shape.moe is None:
        return shape.mlps * width(shape.intermediate)
    moe = shape.moe
    shared = moe.shared_experts * width(moe.shared_intermediate or moe.intermediate)
    router = shape.hidden * moe.experts
    sparse = experts * width(moe.intermediate) + shared + router
    return (shape.mlps - moe.dense_layers) * sparse + moe.dense_layers * width(shape.intermediate)
