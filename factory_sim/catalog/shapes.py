"""The shapes of models: everything that weights, step time and KV cache follow from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.catalog.facts import Fact, Kind, NaturalInt, Number, PositiveInt, Precision
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen


class Moe(Frozen):
    """Experts of a sparse MLP: `active` of `experts` per token, each `intermediate` wide.

    shared_experts run for every token. dense_layers: layers with a plain MLP instead.
    """

    experts: PositiveInt
    active: PositiveInt
    intermediate: PositiveInt
    shared_experts: NaturalInt = 0
    shared_intermediate: PositiveInt | None = None
    dense_layers: NaturalInt = 0


class Mla(Frozen):
    """Multi-head latent attention: one compressed vector per token (kv_lora + rope) is kept."""

    q_lora: PositiveInt | None
    kv_lora: PositiveInt
    nope: PositiveInt
    rope: PositiveInt
    v: PositiveInt


class Window(Frozen):
    """Sliding-window attention: `layers` of the model's layers see the last `tokens` only."""

    tokens: PositiveInt
    layers: PositiveInt


class Sparse(Frozen):
    """Sparse attention: a token attends to the `tokens` earlier ones that an indexer likes best.

    The indexer has `heads` queries a token and one key, each `dim` wide, multiplied in 8 bits
    (DeepSeek-AI, 2025, DeepSeek-V3.2); its keys of the whole context are kept beside the KV cache.
    """

    tokens: PositiveInt
    heads: PositiveInt
    dim: PositiveInt


class Linear(Frozen):
    """Linear attention: `layers` of the model's layers keep a state of constant size.

    Each of value_heads heads keeps a matrix of key_dim x value_dim numbers in the precision
    `state`, whatever the context; key_heads groups of heads share queries and keys. The last
    conv - 1 queries, keys and values are kept too, for a short convolution over them.
    Gated delta net: Yang et al. 2024. Mamba-2: Dao and Gu 2024, whose heads, groups, state
    size and head size are value_heads, key_heads, key_dim and value_dim here.
    """

    kind: Literal["gated-delta-net", "mamba-2"]
    layers: PositiveInt
    key_heads: PositiveInt
    value_heads: PositiveInt
    key_dim: PositiveInt
    value_dim: PositiveInt
    conv: PositiveInt
    state: Literal["fp32", "bf16"]

    @property
    def gates(self) -> int:
        """Return the gates per head: decay, and how much to write where that is its own."""
        return 2 if self.kind == "gated-delta-net" else 1


class Shape(Frozen):
    """The shape of a decoder: everything that its weights, step time and KV cache follow from.

    layers: those that mix tokens, by attention or, as `linear` says, without a KV cache.
    mlp_layers: how many MLPs there are, where that is not one for each of them.
    attention_gate: the output of full attention is gated, with a projection as wide as the
    query's. mlp_matrices: 3 for a gated MLP, 2 for a plain one. intermediate: width of the
    dense MLP (of the dense layers, where the model is sparse). With `mla`, kv_heads is 1.
    mtp_layers: more layers, in none of these counts, that predict the token after the next.
    """

    layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    intermediate: PositiveInt
    mlp_matrices: Literal[2, 3] = 3
    vocab: PositiveInt
    context_max: PositiveInt
    tied_embeddings: bool = False
    moe: Moe | None = None
    mla: Mla | None = None
    window: Window | None = None
    sparse: Sparse | None = None
    linear: Linear | None = None
    attention_gate: bool = False
    mlp_layers: PositiveInt | None = None
    mtp_layers: NaturalInt = 0

    @model_validator(mode="after")
    def _layers_add_up(self) -> Shape:
        apart = (self.window.layers if self.window else 0, self.linear_layers)
        if sum(apart) > self.layers or self.linear_layers == self.layers:
            raise InputError(
                Problem(
                    "layers",
                    f"are {self.layers}; {apart[0]} with a window and {apart[1]} with linear "
                    "attention are too many, at least one must have attention",
                )
            )
        if self.sparse is not None and any(apart):
            raise InputError(
                Problem(
                    "sparse",
                    "attention of every layer is sparse; layers with a window or with linear "
                    "attention beside it are not modelled",
                )
            )
        return self

    @property
    def linear_layers(self) -> int:
        """Return how many layers have linear attention."""
        return self.linear.layers if self.linear else 0

    @property
    def mamba_layers(self) -> int:
        """Return how many layers are of Mamba-2."""
        return self.linear.layers if self.linear and self.linear.kind == "mamba-2" else 0

    @property
    def attention_layers(self) -> int:
        """Return how many layers have attention, with a window or without."""
        return self.layers - self.linear_layers

    @property
    def mlps(self) -> int:
        """Return how many MLPs there are, dense and sparse."""
        return self.mlp_layers or self.layers


class VisionTower(Frozen):
    """The vision encoder of a model: a plain transformer over the patches of an image.

    patches_per_token: of the image, that become one token of the prompt. deepstack: layers beside
    the last whose features the model is given too.
    """

    layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    intermediate: PositiveInt
    patches_per_token: PositiveInt
    deepstack: NaturalInt = 0
    kind: Kind
    source: Annotated[str, Field(min_length=1)]


class Model(Shape):
    """A named decoder: its shape, the precision its weights are released in, and their number.

    quantised: which weights a precision below 16 bits is meant for: of all linear layers, or of
    the routed experts only, the rest staying in bf16.
    aliases: other names of it, each exact. parameters: all weights, embeddings included;
    active_parameters: those that one token passes through. vision: what turns images into tokens,
    of a model that sees. kind and source are those of the shape.
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    released_precision: Precision
    quantised: Literal["linear", "experts"] = "linear"
    vision: VisionTower | None = None
    parameters: Fact[Number]
    active_parameters: Fact[Number] | None = None
    kind: Kind
    source: str
