"""The batch of a replica that decodes what others have begun.

Like a relay's second runner: the baton comes with the lap already run, and the race goes on from
there.
"""

from __future__ import annotations

from factory_sim.factory.engine.batch import Batch, Batching
from factory_sim.factory.engine.request import Request


class Joining:
    """A batching policy for such a batch: who comes with a KV cache decodes in the next step.

    First running sequences get the blocks of their next token; then, if nobody was preempted,
    requests join from the head of the queue while slots and blocks are free. The rest is as
    `policy` says: a preempted request, which has lost its KV cache, is computed again here, as
    vLLM does (its scheduler knows no way back to the replica that computed the prompt).
    """

    def __init__(self, policy: Batching) -> None:
        self._policy = policy
        self.joins_running = policy.joins_running

    def fill(self, batch: Batch) -> None:
        """Let requests join, then do as the policy does."""
        assert isinstance(batch, JoiningBatch)
        waiting = batch.waiting
        if waiting and waiting[0].carried and (self.joins_running or not batch.running):
            batch.take_in()
        self._policy.fill(batch)


class JoiningBatch(Batch):
    """Takes in requests with the KV cache of their prompt, and decodes the rest of their answer."""

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue to be computed, unless it comes with its KV cache."""
        if not self.waiting or self.waiting[0].carried:
            return None
        hit = self.waiting[0].hit
        request = super().admit(most)
        if request is not None and request.hashes is not None:
            request.hit = hit  # what was found where its prompt was first computed
        return request

    def take_in(self) -> None:
        """Let those at the head of the queue decode from this step on whose KV cache is here."""
        self.make_room()
        while self._join():
            pass
        self._growing = 0  # the policy has yet to say whether sequences decode in this step

    def _preempted(self, request: Request, stored: int) -> None:
        """Count what a request must compute again: all, if what it found was elsewhere."""
        if request.hashes is None:
            super()._preempted(request, stored)
        else:
            self.recomputed_tokens += stored

    def _join(self) -> bool:
        """Let the head of the queue decode from this step on; tell whether it could.

        It needs a slot, the blocks of its prompt, and another for its next tokens where these do
        not fit, beside what the running sequences take in this step.
        """
        waiting = self.waiting
        if not waiting or len(self.running) >= self.max_running:
            return False
        request, kv = waiting[0], self.kv
        stored = request.carried
        if not stored or request.queued_s > self._known_until_s():
            return False
        blocks = kv.blocks(stored)
        ahead = kv.blocks(stored + self.tokens_each)
        if ahead > kv.free - kv.need(self._step, 1, self.decoding):
            self.stretch.kv_blocked = True
            return False
        waiting.popleft()
        kv.free -= blocks
        request.blocks, request.stored, request.carried = blocks, stored, 0
        if request.first_token_s != request.first_token_s:  # it came unsent, and is sent now
            request.first_token_s = request.last_token_s = self.stretch.start_s
        self.running[request] = None
        self._start_decoding(request, [])
        self._stalls.hold(request.last_token_s)
        return True
