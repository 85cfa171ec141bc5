"""How many KV-cache blocks fit beside the weights in a GPU's memory."""

from __future__ import annotations

from dataclasses import dataclass

from factory_sim.catalog.shapes import Model
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Shard


def prompt_cache_bytes(model: Model, bytes_per_kv: float, tokens: int) -> float:
    """Return the bytes that a whole model keeps of `tokens` tokens of a prompt, each number once.

    Keys and values of all layers with full attention, of at most a window of tokens in those that
    slide, and the states of layers with linear attention. What GPUs of a replica hold alike (MLA's
    vectors, KV heads that tensor parallelism repeats) counts once.
    """
    window, linear = model.window, model.linear
    windowed_layers = window.layers if window else 0
    windowed = min(window.tokens, tokens) if window else 0
    full_layers = model.attention_layers - windowed_layers
    per_layer = work.kv_bytes_per_token_layer(model, 1, bytes_per_kv)
    per_layer += work.index_bytes_per_token_layer(model)
    states = linear.layers * work.linear_state_bytes(linear, 1) if linear else 0.0
    return per_layer * (full_layers * tokens + windowed_layers * windowed) + states


@dataclass(frozen=True, slots=True)
class KvMemory:
    """The memory of one GPU of a replica, in bytes, and the KV tokens that fit in it.

    shares: micro-batches that share it evenly; blocks and tokens are those of one.
    """

    usable_bytes: float
    weight_bytes: float
    activation_bytes: float
    runtime_bytes: float
    window_bytes: float
    state_bytes: float
    bytes_per_token: float
    block_tokens: int
    shares: int = 1

    @property
    def kv_bytes(self) -> float:
        """Return what is left for the KV cache of full-attention layers; may be negative."""
        return (
            self.usable_bytes
            - self.weight_bytes
            - self.activation_bytes
            - self.runtime_bytes
            - self.window_bytes
            - self.state_bytes
        )

    @property
    def blocks(self) -> int:
        """Return the whole KV blocks that fit; 0 where the model itself does not."""
        whole = int(self.kv_bytes // (self.bytes_per_token * self.block_tokens))
        return max(0, whole // self.shares)

    @property
    def tokens(self) -> int:
        """Return the tokens those blocks hold."""
        return self.blocks * self.block_tokens


def kv_memory(
    shard: Shard,
    hbm_bytes: float,
    utilization: float,
    runtime_bytes: float,
    max_num_seqs: int,
    max_step_tokens: int,
    block_tokens: int,
    micro_batches: int = 1,
) -> KvMemory:
    """Return the memory of one GPU that holds `shard`.

    usable = HBM as the device reports it * utilization. Activations are those of the largest
    step (`max_step_tokens`): the residual stream, its copy and the widest MLP intermediate in
    16 bits, and fp32 logits of `max_num_seqs` sequences. Layers with a sliding window keep at
    most that window per sequence: their share is set aside for max_num_seqs sequences, as are
    the states of layers with linear attention, and only the other layers grow with the
    context. Where every layer with attention has a window, none is set aside: each is taken to
    keep the whole context, which is safe, and exact up to the window. micro_batches: of a pipeline,
    each with so many sequences.
    """
    model = shard.model
    kept = max_num_seqs * micro_batches
    window = model.window
    windowed_layers = window.layers if window else 0
    if windowed_layers == model.attention_layers:
        windowed_layers = 0
    window_tokens = min(window.tokens, model.context_max) if window else 0
    per_layer = shard.kv_bytes_per_token_layer + work.index_bytes_per_token_layer(model) / shard.cp
    linear = model.linear
    state = linear.layers * work.linear_state_bytes(linear, shard.tp) if linear else 0.0
    widest = max(
        model.intermediate if work.dense_layers(model) else 0,
        (model.moe.active * model.moe.intermediate) if model.moe else 0,
    )
    # Shares of a prompt are computed apart; decoded tokens in every group.
    tokens = max(max_step_tokens / shard.cp, min(max_num_seqs, max_step_tokens))
    columns = 2 * model.hidden + (model.mlp_matrices - 1) * widest / shard.tp
    return KvMemory(
        usable_bytes=hbm_bytes * utilization,
        weight_bytes=shard.weight_bytes,
        activation_bytes=tokens * columns * work.ACTIVATION_BYTES
        + 4.0 * max_num_seqs * model.vocab,
        runtime_bytes=runtime_bytes,
        window_bytes=per_layer * windowed_layers * window_tokens * kept,
        state_bytes=state * kept,
        bytes_per_token=per_layer * (model.attention_layers - windowed_layers),
        block_tokens=block_tokens,
        shares=micro_batches,
    )
