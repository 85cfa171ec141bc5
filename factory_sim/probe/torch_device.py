"""A device under test through PyTorch: a CUDA GPU, or the processor by the very same calls.

Unverified on hardware until someone has run it on a GPU.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from factory_sim.catalog.facts import Precision
from factory_sim.errors import InputError, Problem
from factory_sim.physics.arithmetic import BYTES_PER_WEIGHT
from factory_sim.probe import board as gauges
from factory_sim.probe.board import Board, Gaugeless
from factory_sim.probe.collectives import NotMeasured, all_reduce
from factory_sim.probe.device import (
    CPU,
    GPU,
    HEAD_DIM,
    HEADS,
    KV_HEADS,
    Lap,
    Reading,
    Reduction,
    Sizes,
)
from factory_sim.probe.products import product
from factory_sim.probe.stopwatch import CudaWatch, HostWatch, Stopwatch

NEEDED_BYTES = 6e9
"""The largest copies of `device.GPU` take 4.3e9 bytes, the context and libraries the rest."""

MOST_COPIES = 64
BATCH_S, BURST_S, FEWEST = 50e-3, 5e-3, 3
"""A batch takes about so long, a burst between rests so long; at least so many are timed."""

SETTLING, FALLING = 0.2, 0.5
"""Shares of the batches, and of a rest, that pass before power is read: it rises soon after work
starts, and falls with the clocks some seconds after it ends."""

CANDIDATES: dict[str, tuple[Precision, ...]] = {
    "cuda": ("fp32", "bf16", "fp8", "int8", "nvfp4"),
    "cpu": ("fp32", "bf16"),
}


class TorchDevice:
    """One device of PyTorch's: `cuda:0`, or `cpu`. See `device.Device`.

    sizes: how much work; by default that for a GPU or for a processor. Raises InputError for a
    GPU that is not there, or not free.
    """

    def __init__(self, device: str, sizes: Sizes | None = None) -> None:
        self.place: Any = torch.device(device)
        on_gpu = self.place.type == "cuda"
        self.sizes = sizes or (GPU if on_gpu else CPU)
        self.left_out: dict[str, str] = {}
        self.kin: Literal["hopper", "blackwell"] = "hopper"
        self.watch: Stopwatch = CudaWatch() if on_gpu else HostWatch()
        self.board: Board
        versions = self._open_gpu() if on_gpu else self._open_processor()
        look = self.board.look()
        self.power_limit_w = self.board.power_limit_w
        if self.power_limit_w is None or (look.energy_j is None and look.watts is None):
            self.power_limit_w = None
            self.left_out.setdefault("power", "the board does not tell its power and its limit")
        self.precisions: tuple[Precision, ...] = tuple(
            precision for precision in CANDIDATES[self.place.type] if self._can(precision)
        )
        # The context is loaded by now, as it is when an engine waits for work.
        self.conditions: dict[str, Any] = {
            "device": self.name,
            "torch": str(torch.__version__),
            **versions,
            **self.board.conditions(),
        }

    def _open_gpu(self) -> dict[str, str]:
        here = _number(self.place)
        torch.cuda.set_device(here)
        free, _ = torch.cuda.mem_get_info(here)
        if free < NEEDED_BYTES:
            raise InputError(
                Problem(
                    "--device",
                    f"has {free / 1e9:.1f} GB of memory free and the probe takes up to "
                    f"{NEEDED_BYTES / 1e9:.0f} GB; end what else runs on it, which would disturb "
                    "the measurement anyway",
                )
            )
        properties: Any = torch.cuda.get_device_properties(here)
        self.name, self.vendor = str(properties.name), "NVIDIA"
        self.count = int(torch.cuda.device_count())
        # Compute capability 12 are workstation boards, which the catalogue takes from Hopper.
        if properties.major in (10, 11):
            self.kin = "blackwell"
        self.board, unread = gauges.board_of(str(properties.uuid))
        if unread:
            self.left_out["power"] = unread
        self.memory_bytes = self.board.memory_bytes or float(properties.total_memory)
        return {
            "cuda": str(torch.version.cuda),
            "compute_capability": f"{properties.major}.{properties.minor}",
        }

    def _open_processor(self) -> dict[str, str]:
        self.name, self.vendor, self.count = _processor(), "CPU", 1
        self.board = Gaugeless()
        self.left_out["power"] = "a processor's own counters are not read"
        self.memory_bytes = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        return {"threads": str(torch.get_num_threads()), "system": platform.platform()}

    # -- work ----------------------------------------------------------------------------

    def copy(self, moved: int) -> Lap:
        """See `Device.copy`."""
        self._clear()

        def pair() -> Callable[[], object]:
            source = torch.randn(moved // 4, device=self.place)
            target = torch.empty_like(source)
            return lambda: target.copy_(source)

        return [pair() for _ in range(2)]

    def gemm(self, rows: int, inner: int, outer: int, precision: Precision) -> Lap:
        """See `Device.gemm`."""
        self._clear()
        copies = self._copies(inner * outer * BYTES_PER_WEIGHT[precision])
        return [product(self.place, precision, rows, inner, outer) for _ in range(copies)]

    def decode(self, sequences: int, context: int) -> Lap:
        """See `Device.decode`."""
        self._clear()
        kept = 2 * sequences * KV_HEADS * context * HEAD_DIM * BYTES_PER_WEIGHT["bf16"]
        return [self._attend(sequences, 1, context, False) for _ in range(self._copies(kept))]

    def prefill(self, tokens: int) -> Lap:
        """See `Device.prefill`."""
        self._clear()
        return [self._attend(1, tokens, tokens, True)]

    def _attend(
        self, sequences: int, asking: int, context: int, causal: bool
    ) -> Callable[[], object]:
        def numbers(heads: int, tokens: int) -> Any:
            shape = (sequences, heads, tokens, HEAD_DIM)
            return torch.randn(shape, dtype=torch.bfloat16, device=self.place)

        query, key, value = (
            numbers(HEADS, asking),
            numbers(KV_HEADS, context),
            numbers(KV_HEADS, context),
        )
        return lambda: torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=causal, enable_gqa=True
        )

    def _can(self, precision: Precision) -> bool:
        """Tell whether one small product works, keeping what PyTorch says where it does not."""
        try:
            product(self.place, precision, 128, 256, 256)()
            self._wait()
            return True
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            self.left_out[precision] = said[0]
            return False

    # -- measuring -----------------------------------------------------------------------

    def repeat(self, lap: Lap, seconds: float, duty: float = 1.0) -> Reading:
        """See `Device.repeat`."""
        batch_s = BURST_S if duty < 1.0 else min(BATCH_S, seconds / FEWEST)
        call_s = self.watch.trial_s(lap)
        calls = max(1, round(batch_s / call_s))
        batches = max(FEWEST, math.ceil(duty * seconds / (calls * call_s)))
        return self.run(lap, calls, batches, duty)

    def run(self, lap: Lap, calls: int, batches: int, duty: float = 1.0) -> Reading:
        """Run so many batches of so many calls, with rests between them if duty is below 1."""
        launch = self.watch.batches(lap, calls)
        looks, device_s = [], []
        start_s = time.perf_counter()
        waiting = launch()
        for number in range(1, batches + 1):
            last, resting = number == batches, duty < 1.0
            # At full duty the next batch is queued before this one ends, and the gauges are
            # read meanwhile: the device never waits for the probe.
            following = None if last or resting else launch()
            if number > SETTLING * batches:
                looks.append(self.board.look())
            device_s.append(waiting())
            if resting:
                time.sleep(device_s[-1] * (1.0 / duty - 1.0))
                following = None if last else launch()
            if following is not None:
                waiting = following
        looks.append(self.board.look())
        return Reading(
            call_s=statistics.median(device_s) / calls,
            spread=_spread(device_s),
            busy=min(1.0, sum(device_s) / (looks[-1].at_s - start_s)),
            watts=gauges.mean_watts(looks),
            clock_hz=gauges.clock_hz(looks),
            limits=gauges.limits(looks),
        )

    def rest(self, seconds: float) -> float | None:
        """See `Device.rest`."""
        self._wait()
        time.sleep(FALLING * seconds)
        looks = [self.board.look()]
        for _ in range(20):
            time.sleep((1.0 - FALLING) * seconds / 20)
            looks.append(self.board.look())
        return gauges.mean_watts(looks)

    def all_reduce(self, sizes: Sequence[int], seconds: float) -> list[Reduction]:
        """See `Device.all_reduce`. Over all GPUs that this process may see."""
        self._clear()  # the other processes open the same GPUs
        try:
            return all_reduce(self.place.type, self.count, sizes, seconds)
        except NotMeasured as error:
            self.left_out["collectives"] = str(error)
            return []

    def _copies(self, bytes_each: float) -> int:
        return max(1, min(MOST_COPIES, math.ceil(self.sizes.rotate / bytes_each)))

    def _wait(self) -> None:
        if self.place.type == "cuda":
            torch.cuda.synchronize()

    def _clear(self) -> None:
        """Give back the memory of the work before, which nothing refers to any more."""
        if self.place.type == "cuda":
            torch.cuda.empty_cache()


def _spread(seconds: Sequence[float]) -> float:
    low, middle, high = statistics.quantiles(seconds, n=4)
    return (high - low) / middle


def _number(place: Any) -> int:
    """Return the number of a CUDA device; InputError where PyTorch sees none of that number."""
    if not torch.cuda.is_available() or torch.version.cuda is None:
        raise InputError(
            Problem(
                "--device",
                "PyTorch sees no NVIDIA GPU here (`nvidia-smi` shows what the driver sees; the "
                "PyTorch of pip install 'factory_sim[probe]' can use CUDA, a build for "
                "processors cannot); `--device cpu` tries the probe out on the processor",
            )
        )
    here = int(place.index or 0)
    if here >= torch.cuda.device_count():
        raise InputError(
            Problem("--device", f"the last GPU here is cuda:{torch.cuda.device_count() - 1}")
        )
    return here


def _processor() -> str:
    """Return what the processor calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
