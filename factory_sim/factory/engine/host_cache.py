"""A prefix cache in two tiers: what GPU memory has no room for goes to host memory.

Like the shelves behind the reading desk: a book that has to leave the desk goes on the shelf, not
back to the store, and to fetch it from there is quicker than to write it again.
"""

from __future__ import annotations

from typing import Any

from factory_sim.factory.engine.host_memory import WaitingStretch
from factory_sim.factory.engine.prefix_batch import PrefixBatch
from factory_sim.factory.engine.prefix_cache import Hashes, PrefixCache
from factory_sim.factory.engine.request import Request


class TieredCache(PrefixCache):
    """Which blocks of which keys are held on the GPUs, and which beside them in host memory.

    Of a key its first blocks are on the GPUs, and those in host memory go on from there. What is
    forgotten on the GPUs moves to host memory, of which `room` blocks are there; the key to which
    something was moved the longest ago loses its own first, the tail before the head. What is
    found there moves back. loaded: blocks that the last `hold` moved back.
    """

    __slots__ = ("_host", "in_host", "loaded", "room")

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self._host: dict[int, int] = {}  # key -> blocks, the least recently moved first
        self.in_host = self.loaded = 0

    def clear(self) -> None:
        """Forget everything, in host memory too: it is of the process that has failed."""
        super().clear()
        self._host.clear()
        self.in_host = 0

    def forget_to(self, free: int) -> None:
        """Move to host memory until no more blocks are idle than are free."""
        while self.idle > free:
            key = next(iter(self._unused))
            moved = min(self._entries[key][0], self.idle - free)
            PrefixCache.forget_to(self, self.idle - moved)
            self._host[key] = self._host.pop(key, 0) + moved
            self.in_host += moved
            while self.in_host > self.room:
                oldest = next(iter(self._host))
                excess = min(self._host[oldest], self.in_host - self.room)
                self._host[oldest] -= excess
                self.in_host -= excess
                if not self._host[oldest]:
                    del self._host[oldest]

    def find(self, hashes: Hashes) -> tuple[int, int]:
        """Return the blocks held of a prompt's beginning, and those of them referred to."""
        found = referred = 0
        entries, host, each = self._entries, self._host, hashes.each
        for key in hashes.keys:
            entry = entries.get(key)
            held = (entry[0] if entry else 0) + host.get(key, 0)
            found += held
            if entry and entry[1]:
                referred += entry[0]
            if held < each:
                break
        return found, referred

    def hold(self, hashes: Hashes) -> int:
        """Let a request refer to all that `find` has found, moved back; return how many keys."""
        self.loaded = 0
        entries, host, each = self._entries, self._host, hashes.each
        for key in hashes.keys:
            back = host.pop(key, 0)
            if back:
                self.loaded += back
                if key not in entries:
                    entries[key] = [0, 0]
                    self._unused[key] = None
                entries[key][0] += back
                self.idle += back  # until it is held, below
            if key not in entries or entries[key][0] < each:
                break
        self.in_host -= self.loaded
        return PrefixCache.hold(self, hashes)

    def check(self) -> None:
        """Recount what is idle and what is in host memory."""
        super().check()
        assert sum(self._host.values()) == self.in_host <= self.room, "host blocks are lost"
        assert not set(self._host) & set(self.referred()), "blocks in use are in host memory"


class TieredBatch(PrefixBatch):
    """The batch of a replica whose prefix cache has a tier in host memory.

    To move a block back delays the step that its request is admitted to by `seconds_per_block`, as
    where vLLM's connectors load within the forward pass; to move one out delays nothing.
    """

    prefix: TieredCache
    stretch: WaitingStretch

    def __init__(self, *batch: Any, seconds_per_block: float, **more: Any) -> None:
        super().__init__(*batch, **more)
        self._seconds_per_block, self._loaded = seconds_per_block, 0
        self.stretch = WaitingStretch(self.stretch.step_time, self.stretch.power)
        self.stretch.pause_s = 0.0

    @property
    def loaded_blocks(self) -> int:
        """Return the KV blocks of prompts that were moved back from host memory."""
        return self._loaded

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do."""
        self.stretch.pause_s = 0.0
        return super().plan(now)

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue, once what is found of its prompt is back."""
        cache = self.prefix
        cache.loaded = 0
        request = super().admit(most)
        if cache.loaded:
            self._loaded += cache.loaded
            self.stretch.pause_s += cache.loaded * self._seconds_per_block
        return request
