"""A batch that keeps the blocks of prompts and looks there for those of new ones.

As in vLLM, blocks may be shared from the moment their tokens are scheduled: a prompt admitted
later into the same step finds them. Prompts are scheduled one after the other, so no block is ever
computed twice at once. A block of which the last prompt token must be computed again is shared all
the same, where vLLM takes a copy.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.prefix_cache import PrefixCache
from factory_sim.factory.engine.request import Request


class PrefixBatch(Batch):
    """The batch of a replica with a prefix cache: `prefix` says what its KV blocks still hold."""

    def __init__(self, *batch: Any, prefix: PrefixCache, **more: Any) -> None:
        super().__init__(*batch, **more)
        self.prefix = prefix

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue as other batches do, with what is found of its prompt."""
        if not self.waiting:
            return None
        request, kv, prefix = self.waiting[0], self.kv, self.prefix
        hashes = request.hashes
        if hashes is None or request.queued_s > self._known_until_s():
            return super().admit(most)
        growing = self._growing
        # What decodes of this step take is gone before anybody looks.
        prefix.forget_to(kv.free - (kv.need(self._step, 1, growing) if growing else 0))
        found, referred = prefix.find(hashes)
        request.cached = found * kv.block_tokens
        again, first_hit, lost = request.admitted_s == request.admitted_s, request.hit, request.lost
        kv.free += referred  # blocks in use already cost nothing
        admitted = super().admit(most)
        if admitted is None:
            kv.free -= referred
            return None
        request.held = prefix.hold(hashes)
        if again:
            self.recomputed_tokens += max(0, lost - request.hit)
            request.hit, request.lost = first_hit, 0
        return request

    def prefill(self, request: Request, budget: int) -> int:
        """Give a request's prompt tokens as every batch does; others may share their blocks."""
        length = super().prefill(request, budget)
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
        self.prefix.forget_to(free)
        return min(self.prefix.find(request.hashes)[0] * kv.block_tokens, request.prompt - 1)

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything at `now`, what was kept of prompts included."""
        self.prefix.clear()
        return super().abandon(now, stepping)

    def check(self) -> None:
        """Recount everything, and who refers to which block."""
        super().check()
        self.prefix.check()
        users: Counter[int] = Counter()
        for request in (*self.running, *self._sent()):
            if request.hashes is not None:
                users.update(request.hashes.keys[: request.held])
        found = {key: users for key, (_, users) in self.prefix.referred().items()}
        assert found == users, "references to blocks are lost"

    # -- inside ------------------------------------------------------------------------

    def _held_blocks(self) -> int:
        """Return the blocks in use, those that several requests refer to once."""
        twice = sum(blocks * (users - 1) for blocks, users in self.prefix.referred().values())
        return super()._held_blocks() - twice

    def _keep(self, request: Request, stored: int) -> None:
        """Take in the blocks of a request's first `stored` tokens."""
        if request.hashes is not None:
            blocks = stored // self.kv.block_tokens
            request.held = self.prefix.extend(request.hashes, request.held, blocks)

    def _preempted(self, request: Request, stored: int) -> None:
        """Remember what a request had stored: it may find it again."""
        if request.hashes is None:
            super()._preempted(request, stored)
        else:
            request.lost = stored

    def _leave(self, request: Request, now: float) -> int:
        if request.left:
            return super()._leave(request, now)
        self.prefix.forget_to(self.kv.free)
        stored = super()._leave(request, now)
        self._release(request, stored)
        return stored

    def _give_back(self, request: Request) -> None:
        self.prefix.forget_to(self.kv.free)
        super()._give_back(request)
        self._release(request, request.stored)

    def _release(self, request: Request, stored: int) -> None:
        """Let a request go whose blocks were all given back: others may refer to some of them."""
        if request.hashes is not None:
            self._keep(request, stored)
            if request.hashes.forgets and request.emitted == request.output:
                self.prefix.cut(request.hashes, request.prompt // self.kv.block_tokens)
            self.kv.free -= self.prefix.release(request.hashes, request.held)
            request.held = 0
