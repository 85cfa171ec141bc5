"""Chunked prefill: every step decodes, and prompt chunks fill what is left of its tokens."""

from __future__ import annotations

from factory_sim.factory.engine.batch import Batch


class Chunked:
    """The scheduler of vLLM V1 and of Sarathi-Serve (Agrawal et al., 2024).

    max_tokens: the token budget of one step.
    """

    joins_running = True

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def fill(self, batch: Batch) -> None:
        """Decode everyone, carry on unfinished prompts, then admit while tokens are left."""
        batch.make_room()
        budget = self.max_tokens - batch.decoding * batch.tokens_each
        for request in batch.prefilling:
            if budget <= 0:
                return
            budget -= batch.prefill(request, budget)
        while budget > 0 and batch.waiting:
            admitted = batch.admit()
            if admitted is None:
                return
            budget -= batch.prefill(admitted, budget)
