"""What the catalogue holds: one frozen class per kind of entry, every figure a `Fact`.

A figure in the catalogue is like a label on a crate: the value with its unit, where it came
from, and whether somebody measured it, printed it in a datasheet, fitted it or guessed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen
from factory_sim.units import (
    Bytes,
    BytesPerSecond,
    Efficiency,
    FlopPerSecond,
    Fraction,
    NonNegativeWatts,
    PositiveWatts,
    Seconds,
    Share,
)

Precision = Literal["fp32", "bf16", "fp8", "int8", "int4", "nvfp4", "mxfp4"]
Kind = Literal["measured", "datasheet", "calibrated", "estimate"]
PositiveInt = Annotated[int, Field(gt=0)]
NaturalInt = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=0)]
Bandwidth = Annotated[BytesPerSecond, Field(gt=0)]

T = TypeVar("T")


class Fact(Frozen, Generic[T]):
    """One figure: `value` in SI units, its `kind`, its `source` and, where needed, a `note`.

    error: its standard error as a share of the value, where a fit has found one. date: of what
    changes from month to month, as prices do: when it was so.
    """

    value: T
    kind: Kind
    source: Annotated[str, Field(min_length=1)]
    note: str = ""
    error: Share | None = None
    date: Annotated[str, BeforeValidator(str)] = ""


class Partition(Frozen):
    """One of equal parts that a GPU is cut into, as NVIDIA's MIG does: a small GPU of its own.

    instances: parts of a GPU. compute: share of its multiprocessors that each has. bandwidth: share
    of its memory's slices. hbm: bytes of memory of each.
    """

    instances: Annotated[int, Field(gt=1)]
    compute: Annotated[Share, Field(gt=0)]
    bandwidth: Annotated[Share, Field(gt=0)]
    hbm: Annotated[Bytes, Field(gt=0)]


ScaleupLink = Literal[
    "nvlink", "pcie", "infinity-fabric", "ici", "neuronlink", "ethernet", "scaleup"
]

SCALEUP_LINKS: Mapping[str, str] = {
    "nvlink": "NVLink",
    "pcie": "PCIe",
    "infinity-fabric": "Infinity Fabric",
    "ici": "ICI",
    "neuronlink": "NeuronLink",
    "ethernet": "Ethernet between GPUs",
    "scaleup": "scale-up links",
}
"""What links of a scale-up domain are called; the last where an entry does not say."""


class Accelerator(Frozen):
    """A GPU, TPU or other chip: dense arithmetic rates, memory, links and board power.

    flops: dense flop/s by arithmetic precision. hbm: bytes as the device itself reports them.
    scaleup_link: what joins chips of one scale-up domain.
    scaleup_bandwidth: bytes/s in one direction from one chip into its scale-up domain of
    `scaleup_gpus` chips. scaleout_bandwidth: bytes/s in one direction of the chip's share of
    the network. host_bandwidth: bytes/s in one direction between one chip and the memory of its
    host. tdp: watts of the whole board. idle: watts of the board with a loaded context.
    partitions: what it may be cut into, by name.
    A figure that nobody published is absent; `need` says so when somebody asks for it.
    """

    name: str
    title: str
    vendor: str
    family: str
    announced: bool = False
    flops: dict[Precision, Fact[Annotated[FlopPerSecond, Field(gt=0)]]]
    hbm: Fact[Annotated[Bytes, Field(gt=0)]]
    hbm_bandwidth: Fact[Bandwidth]
    scaleup_link: ScaleupLink = "scaleup"
    scaleup_bandwidth: Fact[Bandwidth] | None = None
    scaleup_gpus: Fact[PositiveInt] | None = None
    scaleout_bandwidth: Fact[Bandwidth] | None = None
    host_bandwidth: Fact[Bandwidth] | None = None
    tdp: Fact[PositiveWatts] | None = None
    idle: Fact[NonNegativeWatts] | None = None
    partitions: dict[str, Fact[Partition]] = Field(default_factory=dict)

    def arithmetic(self, weights: Precision) -> Precision:
        """Return the precision in which matrices with such `weights` are multiplied here.

        A chip without the arithmetic unpacks the weights to bf16 on the fly: fewer bytes are
        read, the multiplication is no faster. So fp8 weights on Ampere, and nvfp4 or mxfp4
        weights on Hopper, run at the bf16 rate, where a deployment allows it
        (`precision_fallback`). fp32 weights are multiplied in fp32.
        """
        return weights if weights in self.flops or weights == "fp32" else "bf16"

    def need(self, figure: str) -> float:
        """Return the value of `figure`, such as `tdp`, or `flops.fp8` for an entry of `flops`.

        Raises InputError, naming the accelerator and the way to add it, where it is missing.
        """
        field, _, key = figure.partition(".")
        fact = getattr(self, field)
        if key:
            fact = fact.get(key)
        if fact is None:
            raise InputError(
                Problem(
                    "",
                    f"accelerator '{self.name}' has no published figure for '{figure}'; add it in "
                    f"accelerators.yaml of your own catalog folder, for example "
                    f"'{self.name}: {{{_example(field, key)}}}'",
                )
            )
        return float(fact.value)


def _example(field: str, key: str) -> str:
    fact = f"{{value: {_EXAMPLES[field]}, kind: estimate, source: where it is from}}"
    return f"{field}: {{{key}: {fact}}}" if key else f"{field}: {fact}"


_EXAMPLES = {
    "flops": "989 Tflop/s",
    "hbm": "80 GB",
    "hbm_bandwidth": "3.35 TB/s",
    "scaleup_bandwidth": "450 GB/s",
    "scaleup_gpus": "8",
    "scaleout_bandwidth": "50 GB/s",
    "host_bandwidth": "64 GB/s",
    "tdp": "700 W",
    "idle": "80 W",
}


class System(Frozen):
    """A server as a rack holds it: GPUs, the host around them, and what both draw.

    nameplate: watts a planner provisions at the inlet of one server. host_idle and host_load:
    watts of one server's CPUs, memory, NICs, switches and storage (neither GPU boards nor
    fans) with its GPUs idle and at full load. fan_share: fan watts as a share of the server's
    other heat when everything is at its limit. psu_efficiency: output over input of the power
    supplies when that limit is drawn. rack_overhead: watts per rack of switch trays, top-of-rack
    network and management. cooling: the enclosure that says how its heat leaves. nvme,
    nvme_bandwidth: what all local data drives of a server hold, and what is read from all at once.
    """

    name: str
    title: str
    accelerator: str
    cooling: Literal["air", "liquid"]
    gpus_per_server: PositiveInt
    servers_per_rack: PositiveInt
    scaleup_gpus: PositiveInt
    nameplate: Fact[PositiveWatts]
    host_idle: Fact[NonNegativeWatts]
    host_load: Fact[NonNegativeWatts]
    fan_share: Fact[Fraction]
    psu_efficiency: Fact[Efficiency]
    rack_overhead: Fact[NonNegativeWatts]
    nvme: Fact[Bytes] | None = None
    nvme_bandwidth: Fact[Bandwidth] | None = None


class FabricKind(Frozen):
    """A leaf-spine network between servers, as it is usually built.

    latency: seconds from NIC to NIC across the spine, without waiting. servers_per_leaf: those
    whose NICs of one rail share a leaf switch. oversubscription: bandwidth of a leaf's NICs over
    that of its links to the spine.
    """

    name: str
    title: str
    latency: Fact[Seconds]
    servers_per_leaf: Fact[PositiveInt]
    oversubscription: Fact[Number]


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


class EngineDefaults(Frozen):
    """The scheduler settings an engine starts with when a scenario names none.

    async_scheduling: whether it plans each step while the one before runs.
    """

    batching: Literal["static", "continuous", "chunked"]
    max_num_seqs: PositiveInt
    max_num_batched_tokens: PositiveInt
    gpu_memory_utilization: Share
    block_tokens: PositiveInt = 16
    async_scheduling: bool = False


class Engine(Frozen):
    """A serving engine: the host time it adds to the kernels, and the memory it keeps.

    per_step, per_sequence, per_request: seconds of host work per iteration, per running
    sequence in it, and once per request. launch_per_layer, launch_per_moe_layer: seconds it
    adds to the family's launch overhead of a layer, and of its routing (0: as the leanest
    engine). quantise_per_layer: seconds of a layer whose weights have 8 bits, to quantise its
    activations in kernels of their own (0: fused with others). eager_per_layer: seconds more
    of a layer in a step with prompt chunks, which runs outside a CUDA graph. launches_ahead:
    there are no graphs at all; launches are hidden behind the GPU's work where that takes longer.
    graph_and_runtime: bytes per GPU for CUDA graphs, the context and communication buffers.
    start: seconds from weights in memory to the first request: graphs, compilation, warm-up.
    """

    name: str
    title: str
    version: str
    per_step: Fact[Seconds]
    per_sequence: Fact[Seconds]
    per_request: Fact[Seconds]
    launch_per_layer: Fact[Seconds]
    launch_per_moe_layer: Fact[Seconds]
    quantise_per_layer: Fact[Seconds]
    eager_per_layer: Fact[Seconds]
    graph_and_runtime: Fact[Bytes]
    start: Fact[Seconds]
    launches_ahead: bool = False
    defaults: EngineDefaults


class Family(Frozen):
    """How much of its peak a GPU family reaches at one arithmetic precision.

    per_layer: seconds of launch and latency per layer; moe_per_layer: as many more in a layer
    that routes its tokens to experts. expert_spread: a batch touches as many experts as this
    share of its tokens would if they were routed evenly. The other shares are of peak compute
    (dense products, grouped products of routed experts with their imbalance, attention), of HBM
    bandwidth (weights, KV cache, elementwise work) and of the scale-up link; attention and KV
    cache go by the row of the cache's precision. allreduce_latency: seconds of one collective
    of no bytes.
    """

    family: str
    precision: Precision
    per_layer: Fact[Seconds]
    moe_per_layer: Fact[Seconds]
    expert_spread: Fact[Share]
    gemm_compute: Fact[Share]
    expert_compute: Fact[Share]
    gemm_memory: Fact[Share]
    attention_compute: Fact[Share]
    kv_memory: Fact[Share]
    elementwise_memory: Fact[Share]
    allreduce_latency: Fact[Seconds]
    network: Fact[Share]


class PowerCurve(Frozen):
    """How a GPU family's power follows its work and its clock (equation: physics/power.py).

    active_weight: of kernels that run at all; compute_weight and memory_weight: of arithmetic
    and of bytes on their way, each of the busy share. Times memory_weight: narrow_factor for
    weights of fewer than 16 bits, which must be unpacked; expert_factor for those of routed
    experts, which small products gather; cache_factor for keys and values that decoding attends
    to, in tiles that are mostly padding. Dynamic watts go with
    clock ** clock_exponent down to voltage_floor, the share of the reference clock below which
    voltage falls no further; clock_floor: the lowest useful clock, a share of the same.
    memory_clock: the share of time bound by memory that follows the core clock.
    """

    family: str
    active_weight: Fact[Number]
    compute_weight: Fact[Number]
    memory_weight: Fact[Number]
    narrow_factor: Fact[Number]
    expert_factor: Fact[Number]
    cache_factor: Fact[Number]
    clock_exponent: Fact[Number]
    clock_floor: Fact[Share]
    voltage_floor: Fact[Share]
    memory_clock: Fact[Share]
    reference_note: str = ""
