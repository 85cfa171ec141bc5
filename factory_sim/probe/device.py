"""What a probe asks of a device: work to repeat, a while to repeat it, and what came of that.

Like a test bench: the engine is named, it is run under one load after another, and gauges are
read. The bench sets nothing on the engine: clocks and power limits stay as they were found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from factory_sim.catalog.facts import Precision

Lap = Sequence[Callable[[], object]]
"""One piece of work several times over, each on memory of its own, so that no cache serves it."""

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
"""The attention that is measured: one layer of Llama-3.1-8B, a common shape (its config.json)."""


@dataclass(frozen=True)
class Sizes:
    """How much work is asked for: enough to fill the device, little enough to be over soon.

    rotate: bytes that the copies of one lap cover together, several times the last cache.
    copies: bytes of each copy. products: columns in and out of the weights; rows: tokens.
    sequences, contexts: of decode attention, in all combinations of at most kv_tokens tokens.
    prompts: tokens of one prompt. reduced: bytes of an all-reduce.
    """

    rotate: int
    copies: tuple[int, ...]
    products: tuple[tuple[int, int], ...]
    rows: tuple[int, ...]
    sequences: tuple[int, ...]
    contexts: tuple[int, ...]
    kv_tokens: int
    prompts: tuple[int, ...]
    reduced: tuple[int, ...]


MIB = 1 << 20

GPU = Sizes(
    rotate=1024 * MIB,
    copies=(64 * MIB, 256 * MIB, 1024 * MIB),
    products=((8192, 8192), (4096, 14336)),
    rows=(1, 8, 32, 128, 256, 512, 2048, 8192),
    sequences=(1, 4, 16, 64, 256),
    contexts=(512, 2048, 8192, 32768),
    kv_tokens=1 << 19,
    prompts=(2048, 4096, 8192),
    reduced=(16 << 10, 64 << 10, 256 << 10, 1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB),
)
"""For a GPU with 8 GB or more: at most 4 GB in use at a time, and products of 1.1 Tflop."""

CPU = Sizes(
    rotate=256 * MIB,
    copies=(16 * MIB, 64 * MIB),
    products=((512, 512), (512, 2048)),
    rows=(1, 4, 16, 64, 256),
    sequences=(1, 4, 16),
    contexts=(512, 2048),
    kv_tokens=1 << 13,
    prompts=(256, 512, 1024),
    reduced=(64 << 10, 1 * MIB, 16 * MIB),
)
"""For a processor of a few cores, even one that multiplies bf16 matrices number by number."""


class Reading(NamedTuple):
    """What repeating some work showed.

    call_s: seconds of one call, the median of batches of calls; spread: the distance between
    the quartiles of the batches as a share of the median; busy: the share of the time that the
    device worked. watts: mean of the board; clock_hz: median of the compute clock; limits: what
    held the clock down. None, and nothing, where the board does not tell.
    """

    call_s: float
    spread: float
    busy: float = 1.0
    watts: float | None = None
    clock_hz: float | None = None
    limits: tuple[str, ...] = ()


class Reduction(NamedTuple):
    """An all-reduce of so many bytes on each of several devices: what the first of them showed."""

    moved: int
    reading: Reading


class Device(Protocol):
    """A device under test. `left_out`: what it cannot do, and in its own words why not.

    kin: the GPU family of the catalogue that figures nobody measured are taken from.
    memory_bytes: as the device reports it. conditions: driver, versions, clocks as found.
    """

    name: str
    vendor: str
    kin: Literal["hopper", "blackwell"]
    sizes: Sizes
    count: int
    memory_bytes: float
    power_limit_w: float | None
    precisions: tuple[Precision, ...]
    left_out: dict[str, str]
    conditions: dict[str, Any]

    def copy(self, moved: int) -> Lap:
        """Return copies of `moved` bytes from one place in its memory to another."""

    def gemm(self, rows: int, inner: int, outer: int, precision: Precision) -> Lap:
        """Return products of rows x inner activations and inner x outer weights."""

    def decode(self, sequences: int, context: int) -> Lap:
        """Return attention of one new token in each sequence to its bf16 keys and values."""

    def prefill(self, tokens: int) -> Lap:
        """Return causal attention within one bf16 prompt."""

    def repeat(self, lap: Lap, seconds: float, duty: float = 1.0) -> Reading:
        """Repeat a lap for about so long; with a duty below 1, in short bursts with rests."""

    def rest(self, seconds: float) -> float | None:
        """Leave the device idle, its context loaded; return its mean watts, where readable."""

    def all_reduce(self, sizes: Sequence[int], seconds: float) -> list[Reduction]:
        """Return the all-reduces of its `count` devices, about so many seconds each."""
