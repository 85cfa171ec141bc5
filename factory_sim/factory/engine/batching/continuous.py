"""Continuous batching, prefill first: whole prompts go ahead, running sequences wait."""

from __future__ import annotations

from factory_sim.factory.engine.batch import Batch


class Continuous:
    """The scheduler of Orca (Yu et al., 2022) and of vLLM V0.

    max_tokens: the most prompt tokens of one prefill step; a longer prompt goes alone.
    """

    joins_running = True

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def fill(self, batch: Batch) -> None:
        """Prefill the prompts that can be admitted; decode only when there is none."""
        budget = self.max_tokens
        while budget > 0:
            admitted = batch.admit(budget if batch.chunks else None)
            if admitted is None:
                break
            budget -= batch.prefill(admitted, admitted.left)
        if batch.chunks:
            batch.hold_decodes()
        else:
            batch.make_room()
