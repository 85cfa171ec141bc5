"""A prefix cache in tiers: what GPU memory has no room for goes to host memory, then to drives.

Like the shelves behind the reading desk, and the cellar below: a book that has to leave the desk
goes on the shelf, and what the shelf has no room for goes down; to fetch it is quicker than to
write it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from factory_sim.factory.engine.host_memory import WaitingStretch, that_waits
from factory_sim.factory.engine.prefix_batch import PrefixBatch
from factory_sim.factory.engine.prefix_cache import Hashes, PrefixCache
from factory_sim.factory.engine.request import Request


class Tier(NamedTuple):
    """Room for `blocks` KV blocks of a replica; to move one back takes `seconds_per_block`."""

    blocks: int
    seconds_per_block: float


class Shelf:
    """The blocks in one tier: so many of each key, those least recently moved there first."""

    __slots__ = ("held", "kept", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.kept: dict[int, int] = {}
        self.held = 0

    def put(self, key: int, blocks: int) -> None:
        """Take in blocks that precede what is here of their key."""
        self.kept[key] = self.kept.pop(key, 0) + blocks
        self.held += blocks

    def overflow(self) -> tuple[int, int]:
        """Give up what there is no room for, of the least recently moved key: (key, blocks)."""
        oldest = next(iter(self.kept))
        excess = min(self.kept[oldest], self.held - self.room)
        self.kept[oldest] -= excess
        self.held -= excess
        if not self.kept[oldest]:
            del self.kept[oldest]
        return oldest, excess

    def take(self, key: int) -> int:
        """Give out all blocks of a key; return how many."""
        blocks = self.kept.pop(key, 0)
        self.held -= blocks
        return blocks

    def clear(self) -> None:
        """Forget everything."""
        self.kept.clear()
        self.held = 0


class TieredCache(PrefixCache):
    """Which blocks of which keys are held on the GPUs, and which beside them in tiers.

    Of a key its first blocks are on the GPUs, those in the first tier go on from there, and so do
    those in the next; `rooms`: blocks of each. What is forgotten on the GPUs moves to the first
    tier. In one that is full the key to which something was moved the longest ago gives up its own
    first, the tail before the head, to the next tier; the last loses it. What is found moves back,
    from every tier. loaded: blocks that the last `hold` moved back, by tier.
    """

    __slots__ = ("loaded", "shelves")

    def __init__(self, rooms: Sequence[int]) -> None:
        super().__init__()
        self.shelves = tuple(map(Shelf, rooms))
        self.loaded = [0] * len(rooms)

    def clear(self) -> None:
        """Forget everything, in all tiers: they are of the process that has failed."""
        super().clear()
        for shelf in self.shelves:
            shelf.clear()

    def forget_to(self, free: int) -> None:
        """Move to the tiers until no more blocks are idle than are free."""
        while self.idle > free:
            key = next(iter(self._unused))
            moved = min(self._entries[key][0], self.idle - free)
            if moved:
                PrefixCache.forget_to(self, self.idle - moved)
                self._put_away(key, moved)
            else:  # a session that has gone on without all that was known of it
                del self._unused[key], self._entries[key]

    def _put_away(self, key: int, blocks: int, tier: int = 0) -> None:
        """Move blocks to a tier, and others out of there to the next if it is full."""
        if tier == len(self.shelves):
            return
        shelf = self.shelves[tier]
        shelf.put(key, blocks)
        while shelf.held > shelf.room:
            self._put_away(*shelf.overflow(), tier + 1)

    def _beside(self, key: int) -> int:
        """Return the blocks of a key that are in tiers."""
        return sum(shelf.kept.get(key, 0) for shelf in self.shelves)

    def find(self, hashes: Hashes) -> tuple[int, int]:
        """Return the blocks held of a prompt's beginning, and those of them referred to."""
        found = referred = 0
        entries, each = self._entries, hashes.each
        for key in hashes.keys:
            entry = entries.get(key)
            held = (entry[0] if entry else 0) + self._beside(key)
            found += held
            if entry and entry[1]:
                referred += entry[0]
            if held < each:
                break
        return found, referred

    def hold(self, hashes: Hashes) -> int:
        """Let a request refer to all that `find` has found, moved back; return how many keys."""
        self.loaded = [0] * len(self.shelves)
        entries, each = self._entries, hashes.each
        for key in hashes.keys:
            back = [shelf.take(key) for shelf in self.shelves]
            if any(back):
                self.loaded = [old + new for old, new in zip(self.loaded, back, strict=True)]
                if key not in entries:
                    entries[key] = [0, 0]
                    self._unused[key] = None
                entries[key][0] += sum(back)
                self.idle += sum(back)  # until it is held, below
            if key not in entries or entries[key][0] < each:
                break
        return PrefixCache.hold(self, hashes)

    def check(self) -> None:
        """Recount what is idle and what is in each tier."""
        super().check()
        for shelf in self.shelves:
            assert sum(shelf.kept.values()) == shelf.held <= shelf.room, "blocks of a tier are lost"
            assert not set(shelf.kept) & set(self.referred()), "blocks in use are in a tier"


class TieredBatch(PrefixBatch):
    """The batch of a replica whose prefix cache has `tiers` beside GPU memory.

    To move blocks back, one after another, delays the step that their request is admitted to, as
    where vLLM's connectors load within the forward pass; to move them out delays nothing.
    """

    prefix: TieredCache
    stretch: WaitingStretch

    def __init__(self, *batch: Any, tiers: Sequence[Tier], **more: Any) -> None:
        cache = TieredCache([tier.blocks for tier in tiers])
        super().__init__(*batch, prefix=cache, **more)
        self._tiers = tuple(tiers)
        self._loaded = [0] * len(tiers)
        self.stretch = that_waits(self.stretch)

    @property
    def loaded_blocks(self) -> tuple[int, ...]:
        """Return the KV blocks of prompts that were moved back from each tier."""
        return tuple(self._loaded)

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do."""
        self.stretch.pause_s = 0.0
        return super().plan(now)

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue, once what is found of its prompt is back."""
        cache = self.prefix
        cache.loaded = [0] * len(self._tiers)
        request = super().admit(most)
        for number, (blocks, tier) in enumerate(zip(cache.loaded, self._tiers, strict=True)):
            if blocks:
                self._loaded[number] += blocks
                self.stretch.pause_s += blocks * tier.seconds_per_block
        return request
