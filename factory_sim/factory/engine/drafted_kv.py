"""KV blocks of sequences with drafts: room for several tokens ahead of every step.

Like a table laid for all who may come: whoever does not leaves a place that the next may have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from factory_sim.factory.engine.kv import KvBlocks

ENDLESS = 2**62
"""Steps, where no block will be taken any more."""


class Stay(NamedTuple):
    """A sequence's time among those that decode.

    It began at decode step `begun` with `stored` tokens in the KV cache, and makes `left` more in
    `steps` steps: after the m-th of them it is at m left / steps, and what it has emitted is that,
    rounded up.
    """

    begun: int
    stored: int
    left: int
    steps: int

    @property
    def rate(self) -> float:
        """Return the tokens it makes in a step."""
        return self.left / self.steps

    def emitted(self, step: int) -> int:
        """Return the tokens it has made by decode step `step`."""
        return -(-(step - self.begun) * self.left // self.steps)

    def step_of(self, tokens: int) -> int:
        """Return the first decode step by which it has made so many tokens."""
        return self.begun + (tokens - 1) * self.steps // self.left + 1

    def position(self, step: int) -> float:
        """Return the tokens it has in the KV cache at decode step `step`, not rounded."""
        return self.stored + (step - self.begun) * self.left / self.steps


class DraftedBlocks(KvBlocks):
    """KV blocks of sequences that need room for `drafts` tokens more in every step.

    Like vLLM's lookahead slots, these are taken before a step and kept after it. So a step takes
    the block whose first token it may write, and the steps in which a stay does are known when it
    begins. At most one a step: fewer tokens are drafted than a block holds.
    """

    __slots__ = ("_due_at", "_last", "drafts")

    def __init__(self, total: int, block_tokens: int, drafts: int) -> None:
        if drafts >= block_tokens:
            raise ValueError('"drafts" must be fewer than "block_tokens".')
        super().__init__(total, block_tokens)
        self.drafts = drafts
        self._due_at: defaultdict[int, int] = defaultdict(int)  # blocks by the step that takes them
        self._last = 0

    def clear(self) -> None:
        """Forget every sequence; all blocks are free."""
        super().clear()
        self._due_at.clear()

    def begin(self, stay: Stay) -> None:
        """A stay begins; the blocks of its prompt are taken already."""
        due_at = self._due_at
        for step in self._dues(stay):
            due_at[step] += 1
            self._last = max(self._last, step)

    def end(self, stay: Stay, step: int) -> None:
        """A stay ends with decode step `step`; give its blocks back."""
        due_at = self._due_at
        for due in self._dues(stay):
            if due >= step:
                due_at[due] -= 1
        self.free += self.held(stay, step)

    def held(self, stay: Stay, step: int) -> int:
        """Return the blocks that a stay has before decode step `step`."""
        if step == stay.begun:
            return self.blocks(stay.stored)
        return self.blocks(stay.stored + stay.emitted(step - 1) + self.drafts + 1)

    def forget(self, first: int, step: int) -> None:
        """Forget what was due from step `first` to before `step`: it is taken."""
        for due in range(first, step):
            self._due_at.pop(due, None)

    def need(self, step: int, steps: int, growing: int) -> int:
        """Return the blocks that the sequences take in `steps` steps from `step` on."""
        due_at = self._due_at
        if steps == 1:
            return due_at.get(step, 0)
        return sum([due_at.get(due, 0) for due in range(step, step + steps)])

    def steps_that_fit(self, step: int, growing: int) -> int:
        """Return how many steps from `step` on the free blocks allow; ENDLESS if all of them."""
        left = self.free
        for due in range(step, self._last + 1):
            left -= self._due_at.get(due, 0)
            if left < 0:
                return due - step
        return ENDLESS

    def _dues(self, stay: Stay) -> Iterator[int]:
        """Yield the steps of a stay that take a block.

        The next after b blocks is the first with stored + emitted + drafts + 1 > b block_tokens.
        """
        begun, stored, left, steps = stay
        short = self.blocks(stored) * self.block_tokens - stored - self.drafts
        while True:
            done = (short - 1) * steps // left + 1 if short > 0 else 0
            if done >= steps:
                return
            yield begun + done
            short += self.block_tokens
