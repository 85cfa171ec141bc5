"""What a replica has done so far: seconds by cause, joules and tokens, added step by step."""

from __future__ import annotations

from operator import add, sub
from typing import NamedTuple


class Totals(NamedTuple):
    """Sums over the steps of one replica. Seconds and joules are those of each of its GPUs.

    compute_s to host_s are at the reference clock; throttled_s is the extra time of a lower
    clock; kv_full_s is the time of decode steps run while work waited for KV blocks, and is
    then in no other cause. Causes add up to busy_s. energy_j is without idle time.
    sequence_s: sequences in the step times its duration, for the mean batch.
    """

    busy_s: float = 0.0
    compute_s: float = 0.0
    memory_s: float = 0.0
    network_s: float = 0.0
    host_s: float = 0.0
    throttled_s: float = 0.0
    kv_full_s: float = 0.0
    energy_j: float = 0.0
    output_tokens: float = 0.0
    sequence_s: float = 0.0

    def plus(self, other: Totals, share: float = 1.0) -> Totals:
        """Return the sums of this and `share` of the other."""
        if share == 1.0:
            return Totals._make(map(add, self, other))
        return Totals._make([a + share * b for a, b in zip(self, other, strict=True)])

    def minus(self, other: Totals) -> Totals:
        """Return what has come since `other`."""
        return Totals._make(map(sub, self, other))
