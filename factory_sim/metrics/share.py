"""What one deployment, or one of its pools, did within the measured window of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from factory_sim.metrics.gaps import GapHistogram
from factory_sim.metrics.requests import Promise
from factory_sim.metrics.scaling import ScalingCounts
from factory_sim.metrics.statistics import Floats
from factory_sim.metrics.totals import Totals


class Batched(NamedTuple):
    """What all replicas did, by pod and batch of time: output tokens made, and joules of GPU
    boards, idle time included; each an array [pods, batches]."""

    output_tokens: Floats
    gpu_j: Floats


@dataclass(frozen=True)
class Share:
    """What one deployment, or one of its pools, did within the window.

    role: what it does of a request: encode, prefill, decode, or prefill_and_decode. replicas: all
    there are; scale: for how many of them each simulated one stands. totals: summed over
    all (per GPU of each). gpu_j: joules of its GPU boards, idle time included. request_seconds,
    system_seconds: the integral of requests inside over the whole run, and the sum of the times
    they spent inside (equal, by Little's law). lost_tokens: output tokens that failures
    destroyed. prefix_caching: whether its replicas kept prompts. scaling: what autoscaling did.
    swapped_bytes: KV cache moved to host memory and back, of all GPUs.
    loaded_tokens: of prompts, whose KV cache came back, by tier of the prefix cache.
    kv_bytes_per_token: of a replica.
    draft_tokens: drafted for a sequence in a step. batched: where few stand for many, what was
    done by when.
    """

    deployment: str
    name: str
    role: str
    replicas: int
    gpus_per_replica: float
    scale: float
    totals: Totals
    input_tokens: float
    recomputed_tokens: float
    gpu_j: float
    gaps: GapHistogram
    promise: Promise
    percentile: float
    request_seconds: float
    system_seconds: float
    accepted: int
    lost_tokens: float
    prefix_caching: bool = False
    scaling: ScalingCounts | None = None
    swapped_bytes: float = 0.0
    loaded_tokens: Mapping[str, float] = field(default_factory=dict)
    kv_bytes_per_token: float = 0.0
    draft_tokens: int = 0
    batched: Batched | None = None

    @property
    def gpus(self) -> float:
        """Return the GPUs of all replicas; a share of one that is cut and not full."""
        gpus = self.replicas * self.gpus_per_replica
        whole = round(gpus)
        return whole if abs(gpus - whole) < 1e-9 else gpus


def by_deployment(shares: Sequence[Share]) -> dict[str, list[Share]]:
    """Return the pools of each deployment, the one whose name it bears first."""
    found: dict[str, list[Share]] = {}
    for share in shares:
        found.setdefault(share.deployment, []).append(share)
    return found
