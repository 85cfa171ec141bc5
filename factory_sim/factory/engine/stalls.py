"""Gaps between tokens, and sequences whose next gap is longer than a step: they are held back.

A sequence is held back while whole prompts are computed in steps of their own, or on its way from
the replica that computed its prompt.
"""

from __future__ import annotations

from typing import Protocol

from factory_sim.factory.engine.stretch import Stretch


class Gaps(Protocol):
    """Takes the times between a sequence's tokens (inter-token latencies)."""

    def steps(self, sequences: int, steps: int, first_s: float, growth_s: float) -> None:
        """`sequences` sequences made a token in each of `steps` steps."""

    def one(self, gap_s: float) -> None:
        """One sequence made a token `gap_s` after its last."""


class Stalls(list[list[float]]):
    """Groups of [sequences, time of their last token], oldest first; false while nobody is held.

    A list, since it is asked whether it is empty at every boundary.
    """

    __slots__ = ()

    def hold_all(self, sequences: int, since_s: float) -> None:
        """Hold back all of so many sequences; those who were not had their last token then."""
        held = sum(group[0] for group in self)
        if sequences > held:
            self.append([sequences - held, since_s])

    def hold(self, last_token_s: float) -> None:
        """Hold back a sequence that comes with its last token made then."""
        for group in self:
            if group[1] == last_token_s:
                group[0] += 1
                return
        self.append([1, last_token_s])

    def leave(self, last_token_s: float) -> None:
        """Take a sequence that leaves out of its group, if it was held back at all."""
        for group in self:
            if group[1] == last_token_s:
                group[0] -= 1

    def release(self, gaps: Gaps, stretch: Stretch, sequences: int) -> None:
        """Tell the gaps of a stretch in which so many sequences decode, held back or not."""
        held = 0
        for count, last_token_s in self:
            gap_s = stretch.start_s + stretch.first_s - last_token_s
            gaps.steps(int(count), 1, gap_s, 0.0)
            held += int(count)
        self.clear()
        if sequences > held:
            gaps.steps(sequences - held, 1, stretch.first_s, 0.0)
        if stretch.steps > 1:
            first_s = stretch.first_s + stretch.growth_s
            gaps.steps(sequences, stretch.steps - 1, first_s, stretch.growth_s)
