"""Where a replica's time and energy went, booked stretch by stretch.

A shopkeeper's till roll: a stretch is a line of a few sums, and what they mean in causes is
worked out when somebody asks. Decode steps of the same number of sequences cost the same but
for their context, so counting the steps and the context tokens is enough.
"""

from __future__ import annotations

from collections import defaultdict
from operator import mul

from factory_sim.metrics.totals import Totals
from factory_sim.physics.step_time import Cost, StepTime


class Ledger:
    """Running sums of one replica; seconds and joules are those of each of its GPUs.

    energy_j is without idle time; prefill_j is of it, in steps with prompt chunks, and prompt_j the
    prompts' share of that. kv_full_s: time of decode steps run while work waited for KV blocks.
    sequence_s: sequences in a step times its duration. steps: decode steps, by their sequences;
    context, windowed: tokens attended to in them, summed. compute_s to host_s: causes of the steps
    with prompt chunks.
    """

    __slots__ = (
        "busy_s",
        "compute_s",
        "context",
        "energy_j",
        "host_s",
        "kv_full_s",
        "memory_s",
        "network_s",
        "output_tokens",
        "prefill_j",
        "prompt_j",
        "sequence_s",
        "steps",
        "windowed",
    )

    def __init__(self) -> None:
        self.busy_s = self.energy_j = self.output_tokens = 0.0
        self.kv_full_s = self.sequence_s = self.prefill_j = self.prompt_j = 0.0
        self.steps: defaultdict[int, float] = defaultdict(float)
        self.context = self.windowed = 0.0
        self.compute_s = self.memory_s = self.network_s = self.host_s = 0.0

    def copy(self) -> Ledger:
        """Return a ledger with the same sums, to add to."""
        other = Ledger()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.steps = self.steps.copy()
        return other

    def mixed(self, cost: Cost, share: float = 1.0) -> None:
        """Book the causes of (`share` of) a step with prompt chunks."""
        self.compute_s += share * cost[1]
        self.memory_s += share * cost[2]
        self.network_s += share * cost[3]
        self.host_s += share * cost[4]

    def totals(self, step_time: StepTime) -> Totals:
        """Return the sums by cause. step_time: of any clock; causes are at the reference."""
        compute, memory = self.compute_s, self.memory_s
        network, host = self.network_s, self.host_s
        costs = [step_time.decode(sequences) for sequences in self.steps]
        counts = self.steps.values()
        near, far = step_time.per_windowed, step_time.per_context
        compute += sum(map(mul, counts, [cost.compute_s for cost in costs]))
        compute += self.context * far.compute_s + self.windowed * near.compute_s
        memory += sum(map(mul, counts, [cost.memory_s for cost in costs]))
        memory += self.context * far.memory_s + self.windowed * near.memory_s
        network += sum(map(mul, counts, [cost.network_s for cost in costs]))
        host += sum(map(mul, counts, [cost.host_s for cost in costs]))
        throttled = self.busy_s - self.kv_full_s - (compute + memory + network + host)
        return Totals(
            self.busy_s,
            compute,
            memory,
            network,
            host,
            throttled,
            self.kv_full_s,
            self.energy_j,
            self.output_tokens,
            self.sequence_s,
            self.prefill_j,
            self.prompt_j,
        )
