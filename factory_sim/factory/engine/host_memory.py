"""Host memory that takes the KV blocks of preempted requests, at the pace of the host link.

Like a cloakroom beside a full hall: a coat handed in is back in a moment, but the queue at the
counter stands still meanwhile.
"""

from __future__ import annotations

from factory_sim.factory.engine.ledger import Ledger
from factory_sim.factory.engine.stretch import Stretch
from factory_sim.physics.step_time import Cost


class HostMemory:
    """Room for `total` KV blocks of one replica; moving one takes `seconds_per_block`.

    Every GPU of a replica moves its part of a block over its own link at the same time.
    """

    def __init__(self, total: int, seconds_per_block: float) -> None:
        self.total = self.free = total
        self.seconds_per_block = seconds_per_block
        self.moved = 0  # blocks, out and in


class WaitingStretch(Stretch):
    """A stretch whose first step waits for KV blocks that are moved: `pause_s`.

    Then it is one step. The pause is time of the step, booked as communication.
    """

    pause_s = 0.0

    def one(self, cost: Cost, sequences: int, tokens: float, prompts: float = 1.0) -> None:
        """Make it one step with prompt chunks, of which a share is the prompts'."""
        if self.pause_s:
            cost = cost._replace(
                duration_s=cost.duration_s + self.pause_s, network_s=cost.network_s + self.pause_s
            )
        super().one(cost, sequences, tokens, prompts)

    def decode(
        self, steps: int, n: int, context: float, windowed: float = 0, filling: float = 0
    ) -> None:
        """Make it `steps` decode steps of `n` sequences, or one that waits."""
        super().decode(1 if self.pause_s else steps, n, context, windowed, filling)
        if self.pause_s:
            self.first_s += self.pause_s
            self.end_s = self.start_s + self.first_s

    def book(self, ledger: Ledger, steps: float) -> None:
        """Book the first `steps` steps."""
        super().book(ledger, steps)
        if self.pause_s and not self.mixed and not self.kv_blocked:
            ledger.network_s += steps * self.pause_s


def that_waits(stretch: Stretch) -> WaitingStretch:
    """Return a stretch like this one, that may wait besides: a layer over it, as over batches."""
    kind = type(stretch)
    layers = (WaitingStretch,) if kind is Stretch else (WaitingStretch, kind)
    made: WaitingStretch = object.__new__(type("Waiting" + kind.__name__, layers, {}))
    for each in kind.__mro__[:-1]:
        for name in each.__slots__:  # type: ignore[attr-defined]
            setattr(made, name, getattr(stretch, name))
    return made
