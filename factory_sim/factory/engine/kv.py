"""Paged KV cache: blocks of tokens, taken and given back like bays of a car park.

A decoding sequence takes a new block every `block_tokens` steps. Counting the sequences by
their position in the block (one count per position) tells how many blocks the next k steps
will take, without visiting a sequence.
"""

from __future__ import annotations


class KvBlocks:
    """The KV blocks of one replica: `total` of them, each holding `block_tokens` tokens."""

    __slots__ = ("_due", "block_tokens", "free", "total")

    def __init__(self, total: int, block_tokens: int) -> None:
        if total <= 0:
            raise ValueError('"total" must be > 0.')
        if block_tokens <= 0:
            raise ValueError('"block_tokens" must be > 0.')
        self.total = self.free = total
        self.block_tokens = block_tokens
        # _due[s mod block_tokens]: growing sequences that need a block in decode step s.
        self._due = [0] * block_tokens

    def clear(self) -> None:
        """Forget every sequence; all blocks are free."""
        self.free = self.total
        self._due = [0] * self.block_tokens

    def blocks(self, tokens: int) -> int:
        """Return the blocks that hold `tokens` tokens."""
        return -(-tokens // self.block_tokens)

    def grow(self, stored: int, step: int) -> None:
        """A sequence with `stored` tokens starts to decode at `step`."""
        self._due[(step - stored) % self.block_tokens] += 1

    def stop(self, stored: int, step: int) -> None:
        """A decoding sequence, now with `stored` tokens, leaves; give its blocks back."""
        self._due[(step - stored) % self.block_tokens] -= 1
        self.free += -(-stored // self.block_tokens)

    def need(self, step: int, steps: int, growing: int) -> int:
        """Return the blocks that `growing` sequences take in `steps` steps from `step` on."""
        first = step % self.block_tokens
        if steps == 1:
            return self._due[first]
        cycles, rest = divmod(steps, self.block_tokens)
        last = first + rest
        due = self._due
        if last <= self.block_tokens:
            return cycles * growing + sum(due[first:last])
        return cycles * growing + sum(due[first:]) + sum(due[: last - self.block_tokens])

    def steps_that_fit(self, step: int, growing: int) -> int:
        """Return how many steps from `step` on the free blocks allow `growing` sequences."""
        cycles, left = divmod(self.free, growing)
        steps = cycles * self.block_tokens
        while True:
            left -= self._due[(step + steps) % self.block_tokens]
            if left < 0:
                return steps
            steps += 1
