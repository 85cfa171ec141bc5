"""A batch that keeps the blocks of prompts and looks there for those of new ones.

As in vLLM, blocks may be shared from the moment their tokens are scheduled: a prompt admitted
later into the same step finds them. Prompts are scheduled one after the other, so no block is ever
computed twice at once. A block of which the last prompt token must be computed again is shared all
the same, where vLLM takes a copy.
"""

from __future__ import annotations

from collections import Counter

from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.prefix_cache import CachedKvBlocks
from factory_sim.factory.engine.request import Request


class PrefixBatch(Batch):
    """The batch of a replica with a prefix cache, in its `CachedKvBlocks`."""

    __slots__ = ()

    kv: CachedKvBlocks

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue as every batch does, with what is found of its prompt."""
        if not self.waiting:
            return None
        request, kv, hashes = self.waiting[0], self.kv, self.waiting[0].hashes
        if hashes is None:
            return Batch.admit(self, most)
        growing = self._growing
        # What decodes of this step take is gone before anybody looks.
        kv.prefix.forget_to(kv.free - (kv.need(self._step, 1, growing) if growing else 0))
        found, referred = kv.prefix.find(hashes)
        request.cached = found * kv.block_tokens
        again, first_hit, lost = request.admitted_s == request.admitted_s, request.hit, request.lost
        kv.free += referred  # blocks in use already cost nothing
        admitted = Batch.admit(self, most)
        if admitted is None:
            kv.free -= referred
            return None
        request.held = kv.prefix.hold(hashes)
        if again:
            self.recomputed_tokens += max(0, lost - request.hit)
            request.hit, request.lost = first_hit, 0
        return request

    def prefill(self, request: Request, budget: int) -> int:
        """Give a request's prompt tokens as every batch does; others may share their blocks."""
        length = Batch.prefill(self, request, budget)
        self._keep(request, request.stored + length)
        return length

    def found(self, request: Request, now: float) -> int:
        """Return the tokens of a request's prompt that are held `now`, within a stretch too."""
        if request.hashes is None:
            return 0
        kv, free = self.kv, self.kv.free
        if self.decoding and self._decodes and now < self.stretch.end_s:
            begun = min(int(self.stretch.steps_by(now)) + 1, self.stretch.steps)
            free -= kv.need(self._step, begun, self.decoding)
        kv.prefix.forget_to(free)
        return min(kv.prefix.find(request.hashes)[0] * kv.block_tokens, request.prompt - 1)

    def check(self) -> None:
        """Recount everything, and who refers to which block."""
        super().check()
        self.kv.prefix.check()
        users: Counter[int] = Counter()
        for request in self.running:
            if request.hashes is not None:
                users.update(request.hashes.keys[: request.held])
        found = {key: users for key, (_, users) in self.kv.prefix.referred().items()}
        assert found == users, "references to blocks are lost"

    # -- inside ------------------------------------------------------------------------

    def _held_blocks(self) -> int:
        """Return the blocks in use, those that several requests refer to once."""
        twice = sum(blocks * (users - 1) for blocks, users in self.kv.prefix.referred().values())
        return super()._held_blocks() - twice

    def _keep(self, request: Request, stored: int) -> None:
        """Take in the blocks of a request's first `stored` tokens."""
        if request.hashes is not None:
            kv = self.kv
            blocks = stored // kv.block_tokens
            request.held = kv.prefix.extend(request.hashes, request.held, blocks)

    def _preempted(self, request: Request, stored: int) -> None:
        """Remember what a request had stored: it may find it again."""
        if request.hashes is None:
            Batch._preempted(self, request, stored)
        else:
            request.lost = stored

    def _leave(self, request: Request, now: float) -> int:
        self.kv.prefix.forget_to(self.kv.free)
        stored = Batch._leave(self, request, now)
        self._release(request, stored)
        return stored

    def _prefilled(
        self, request: Request, length: int, now: float, finished: list[Request]
    ) -> None:
        self.kv.prefix.forget_to(self.kv.free)
        Batch._prefilled(self, request, length, now, finished)
        if request.gone:
            self._release(request, request.stored)

    def _release(self, request: Request, stored: int) -> None:
        """Let a request go whose blocks were all given back: others may refer to some of them."""
        if request.hashes is not None:
            self._keep(request, stored)
            if request.hashes.forgets and request.emitted == request.output:
                self.kv.prefix.cut(request.hashes, request.prompt // self.kv.block_tokens)
            self.kv.free -= self.kv.prefix.release(request.hashes, request.held)
            request.held = 0


class AsyncPrefixBatch(PrefixBatch, AsyncBatch):
    """The same of an engine with asynchronous scheduling."""

    __slots__ = ()

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue with what is found of its prompt, if it came in time."""
        if not self.waiting or self.waiting[0].queued_s > self._in_time_s:
            return None
        return PrefixBatch.admit(self, most)
