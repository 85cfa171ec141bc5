"""A device of known rates: what it is asked takes exactly as long as the step-time model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factory_sim.catalog.facts import Precision
from factory_sim.physics.power import PowerModel
from factory_sim.probe.device import GPU, Lap, Reading, Reduction
from factory_sim.probe.measure import Step, work_of

FLOPS: dict[Precision, float] = {"bf16": 800e12, "fp8": 1500e12}
WEIGHTS, COPY, CACHE, PROMPTS = 4.0e12, 4.3e12, 3.9e12, 600e12
CACHE_LATENCY_S, REDUCE_LATENCY_S, LINK = 4e-6, 9e-6, 360e9
IDLE_W, LIMIT_W = 76.0, 700.0
POWER = PowerModel(IDLE_W, LIMIT_W, 0.4, 3.0, 0.9, clock_exponent=2.4, voltage_floor=0.55)


class MadeUp:
    """See `device.Device`. Without `powered` its board shows nothing, as a processor's."""

    name, vendor, kin = "NVIDIA Made-Up 1", "NVIDIA", "hopper"
    sizes = GPU
    memory_bytes = 141e9
    precisions: tuple[Precision, ...] = ("bf16", "fp8")

    def __init__(self, count: int = 1, powered: bool = True, slow: float = 1.0) -> None:
        self.count, self._powered, self._slow = count, powered, slow
        self.power_limit_w = LIMIT_W if powered else None
        self.left_out: dict[str, str] = {"nvfp4": "not on this one"}
        self.conditions: dict[str, Any] = {"driver": "580.1", "torch": "2.13.0"}
        self.conditions |= {"sm_clock_max_hz": 1980e6}
        self.asked: list[float] = []

    def copy(self, moved: int) -> Lap:
        return self._lap(0.0, 2 * moved / COPY)

    def gemm(self, rows: int, inner: int, outer: int, precision: Precision) -> Lap:
        flops, moved = work_of(Step("gemm", precision, (rows, inner, outer)))
        return self._lap(flops / FLOPS[precision], moved / WEIGHTS)

    def decode(self, sequences: int, context: int) -> Lap:
        flops, moved = work_of(Step("decode", "bf16", (sequences, context)))
        return self._lap(flops / PROMPTS, moved / CACHE, CACHE_LATENCY_S)

    def prefill(self, tokens: int) -> Lap:
        flops, _ = work_of(Step("prefill", "bf16", (tokens,)))
        return self._lap(flops / PROMPTS, 0.0)

    def _lap(self, compute_s: float, memory_s: float, latency_s: float = 0.0) -> Lap:
        took_s = self._slow * (latency_s + max(compute_s, memory_s))
        return [lambda: (took_s, self._slow * compute_s, self._slow * memory_s)]

    def repeat(self, lap: Lap, seconds: float, duty: float = 1.0) -> Reading:
        self.asked.append(seconds)
        took_s, compute_s, memory_s = lap[0]()  # type: ignore[misc]
        if not self._powered:
            return Reading(took_s, 0.0, duty)
        step = POWER.at(1.0)
        watts = step.energy_j(1.0, duty * compute_s / took_s, duty * memory_s / took_s)
        return Reading(took_s, 0.0, duty, watts, 1755e6, ("power limit",))

    def rest(self, seconds: float) -> float | None:
        self.asked.append(seconds)
        return IDLE_W if self._powered else None

    def all_reduce(self, sizes: Sequence[int], seconds: float) -> list[Reduction]:
        self.asked += [seconds] * len(sizes)
        share = 2 * (self.count - 1) / self.count
        return [
            Reduction(moved, Reading(REDUCE_LATENCY_S + share * moved / LINK, 0.0))
            for moved in sizes
        ]
