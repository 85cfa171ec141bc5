"""Prefix cache: prompt blocks whose content is kept for whoever comes with the same beginning.

Like books left open on a reading desk: who comes for the same book goes on reading, and a desk
that nobody sits at is cleared only when somebody else needs it. A cached block that no request
refers to is a free block whose content is still valid, so it counts as free, and is forgotten once
there are fewer free blocks than such ones: the least recently used first, within one request its
tail before its head (as vLLM gives blocks back in reverse).

Nothing looks between two boundaries of a batch, where blocks are only taken. To forget when next
looked at, or before any block is given back, therefore forgets the same blocks as at once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

WHOLE_SESSION = 2**62
"""KV blocks that the key of a session covers: all that will ever be said in it."""


class Hashes(NamedTuple):
    """What the blocks of a prompt, and of a session's answer after it, hold from the first on.

    keys: one for every `each` KV blocks; equal keys mean equal tokens, and equal tokens before
    them. The blocks of a key are the prompt's own, to the last token. A session says one thing
    after another and is asked one turn at a time: one key stands for all its blocks, by number.
    forgets: what comes after the prompt is not how the session goes on, as reasoning is left out.
    """

    keys: tuple[int, ...]
    each: int
    forgets: bool = False


class PrefixCache:
    """Which blocks of which keys are held, and by how many requests.

    Of a key its first blocks are held, so many. A request refers to whole keys, from its first on
    without a gap: those before the last are complete, and nobody refers to a key without referring
    to all before it. So what is forgotten never leaves a gap either. idle: blocks to which nobody
    refers.
    """

    __slots__ = ("_entries", "_unused", "idle")

    def __init__(self) -> None:
        self._entries: dict[int, list[int]] = {}  # key -> [blocks held, requests that refer to it]
        self._unused: OrderedDict[int, None] = OrderedDict()  # the least recently used first
        self.idle = 0

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._unused.clear()
        self.idle = 0

    def forget_to(self, free: int) -> None:
        """Forget until no more blocks are idle than are free."""
        while self.idle > free:
            key = next(iter(self._unused))
            entry = self._entries[key]
            excess = self.idle - free
            if entry[0] > excess:
                entry[0] -= excess
                self.idle -= excess
            else:
                self.idle -= entry[0]
                del self._unused[key], self._entries[key]

    def find(self, hashes: Hashes) -> tuple[int, int]:
        """Return the blocks held of a prompt's beginning, and those of them referred to."""
        found = referred = 0
        entries, each = self._entries, hashes.each
        for key in hashes.keys:
            entry = entries.get(key)
            if entry is None:
                break
            found += entry[0]
            if entry[1]:
                referred += entry[0]
            if entry[0] < each:
                break
        return found, referred

    def hold(self, hashes: Hashes) -> int:
        """Let a request refer to all that `find` has found; return how many keys."""
        held = 0
        entries, unused, each = self._entries, self._unused, hashes.each
        for key in hashes.keys:
            entry = entries.get(key)
            if entry is None:
                break
            if not entry[1]:
                del unused[key]
                self.idle -= entry[0]
            entry[1] += 1
            held += 1
            if entry[0] < each:
                break
        return held

    def extend(self, hashes: Hashes, held: int, blocks: int) -> int:
        """Take in a request's first `blocks` blocks; return the keys it refers to then.

        held: those it referred to before. The rest are its own, and nobody else's.
        """
        entries, each, keys = self._entries, hashes.each, hashes.keys
        index = held - 1 if held else 0
        while index < len(keys) and (more := min(each, blocks - index * each)) > 0:
            if index == held:
                entries[keys[index]] = [more, 1]
                held += 1
            elif entries[keys[index]][0] < more:
                entries[keys[index]][0] = more
            index += 1
        return held

    def cut(self, hashes: Hashes, blocks: int) -> None:
        """Let all but the first `blocks` blocks of a key that one request refers to have no use."""
        entry = self._entries.get(hashes.keys[0])
        if entry is not None and entry[0] > blocks:
            entry[0] = blocks

    def release(self, hashes: Hashes, held: int) -> int:
        """Let a request go that refers to `held` keys; return the blocks others still refer to."""
        still = 0
        entries, unused = self._entries, self._unused
        for key in reversed(hashes.keys[:held]):
            entry = entries[key]
            entry[1] -= 1
            if entry[1]:
                still += entry[0]
            else:
                unused[key] = None
                self.idle += entry[0]
        return still

    def referred(self) -> dict[int, tuple[int, int]]:
        """Return (blocks, requests that refer to them) of every key in use; for debug runs."""
        return {key: (blocks, users) for key, (blocks, users) in self._entries.items() if users}

    def check(self) -> None:
        """Recount what is idle; AssertionError if the sum is off."""
        idle = sum(blocks for blocks, users in self._entries.values() if not users)
        assert idle == self.idle, "idle blocks are lost"
        unused = {key for key, (_, users) in self._entries.items() if not users}
        assert unused == set(self._unused), "keys are lost"
