"""Static batching: a batch is taken, prefilled whole and decoded until its last one is done."""

from __future__ import annotations

from factory_sim.factory.engine.batch import Batch


class Static:
    """Request-level batching, as before Orca: nothing joins a batch that has started.

    All prompts of the batch are computed in one step; a finished sequence leaves its slot
    empty.
    """

    joins_running = False

    def fill(self, batch: Batch) -> None:
        """Take a new batch when the last one is gone; else decode."""
        if batch.running:
            batch.make_room()
            return
        while (admitted := batch.admit()) is not None:
            batch.prefill(admitted, admitted.left)
