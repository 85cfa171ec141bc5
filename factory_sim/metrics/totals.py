"""What a replica has done so far: seconds by cause, joules and tokens, added step by step."""

from __future__ import annotations

from operator import add, sub
from typing import NamedTuple


class Totals(NamedTuple):
    """Sums over the steps of one replica. Seconds and joules are those of each of its GPUs.

    compute_s to host_s are at the reference clock; throttled_s is the extra time of a lower
    clock; kv_full_s is the time of decode steps run while work waited for KV blocks, and is
    then in no other cause. Causes add up to busy_s. energy_j is without idle time; prefill_j is the
    part of it that went into steps with prompt chunks, prompt_j what of these was the prompts', by
    time (`prompts_share`). sequence_s: sequences in the step times
    its duration, for the mean batch. heated_s: the part of throttled_s that heat demanded. down_s,
    loading_s: not busy, because something had failed, or because weights were on their way;
    dark_s: the part of them without power. transfer_s: not busy, for want of a KV cache on its way
    or of blocks that hold one. rank_wait_s: busy, but waiting for the slowest rank of data-parallel
    attention, and then in no other cause. stopped_s: not wanted, by autoscaling; starting_s: the
    part of loading_s after that, not after a failure. drafting_s: busy with drafts, whatever bounds
    them, and in no other cause; stage_wait_s: busy, but waiting for other stages of a pipeline, and
    then in no other cause; verified: steps of every sequence with drafts, summed; accepted:
    drafts that were right. encoder_s: not busy, for want of images that were being encoded.
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
    prefill_j: float = 0.0
    prompt_j: float = 0.0
    heated_s: float = 0.0
    down_s: float = 0.0
    loading_s: float = 0.0
    dark_s: float = 0.0
    transfer_s: float = 0.0
    rank_wait_s: float = 0.0
    stopped_s: float = 0.0
    starting_s: float = 0.0
    drafting_s: float = 0.0
    stage_wait_s: float = 0.0
    verified: float = 0.0
    accepted: float = 0.0
    encoder_s: float = 0.0

    def plus(self, other: Totals, share: float = 1.0) -> Totals:
        """Return the sums of this and `share` of the other."""
        if share == 1.0:
            return Totals._make(map(add, self, other))
        return Totals._make([a + share * b for a, b in zip(self, other, strict=True)])

    def minus(self, other: Totals) -> Totals:
        """Return what has come since `other`."""
        return Totals._make(map(sub, self, other))
