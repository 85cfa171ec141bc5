"""What the catalogue holds of machines and engines: one frozen class per kind of entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from factory_sim.catalog.facts import Fact, Number, PositiveInt, Precision
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

Bandwidth = Annotated[BytesPerSecond, Field(gt=0)]


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


UNSTATED = Fact[Seconds].model_validate(
    {"value": "0 s", "kind": "estimate", "source": "none: the profile does not state it"}
)
"""A time of an engine that profiles written before it was known lack."""


class Engine(Frozen):
    """A serving engine: the host time it adds to the kernels, and the memory it keeps.

    per_step, per_sequence, per_request: seconds of host work per iteration, per running
    sequence in it, and once per request. launch_per_layer, launch_per_moe_layer: seconds it
    adds to the family's launch overhead of a layer, and of its routing (0: as the leanest
    engine). quantise_per_layer: seconds of a layer whose weights have 8 bits, to quantise its
    activations in kernels of their own (0: fused with others). eager_per_layer: seconds more
    of a layer in a step with prompt chunks, which runs outside a CUDA graph. scan_per_mamba_layer:
    seconds of computing that a layer of Mamba-2 adds to such a step. launches_ahead:
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
    scan_per_mamba_layer: Fact[Seconds] = UNSTATED
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
