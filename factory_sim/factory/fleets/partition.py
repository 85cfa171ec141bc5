"""GPUs cut into parts, each of them a small GPU: NVIDIA's Multi-Instance GPU (MIG).

Parts share the board, so its limit and its idle watts, and nothing else: each has multiprocessors,
memory and a share of its bandwidth of its own, and none can reach another over NVLink.
"""

from __future__ import annotations

from typing import TypeVar

from factory_sim.catalog import Accelerator, Fact
from factory_sim.errors import InputError, Problem
from factory_sim.scenario.deployment import Deployment

Figure = TypeVar("Figure", Fact[float], Fact[float])


def part_of(where: str, whole: Accelerator, spec: Deployment) -> Accelerator:
    """Return the accelerator as a replica sees it: the part that a deployment names, or all of it.

    A part keeps the watts of the whole board, of which a replica counts for its share. Raises
    InputError where the accelerator has no such parts.
    """
    if spec.partition is None:
        return whole
    found = whole.partitions.get(spec.partition)
    if found is None:
        known = ", ".join(whole.partitions)
        told = f"it has {known}" if known else "the catalogue knows none of it"
        raise InputError(
            Problem(f"{where}.partition", f"{whole.title} has no parts '{spec.partition}'; {told}")
        )
    part = found.value
    host = whole.host_bandwidth
    return whole.model_copy(
        update={
            "flops": {name: _share(fact, part.compute) for name, fact in whole.flops.items()},
            "hbm": whole.hbm.model_copy(update={"value": part.hbm}),
            "hbm_bandwidth": _share(whole.hbm_bandwidth, part.bandwidth),
            "host_bandwidth": host and _share(host, 1.0 / part.instances),
        }
    )


def _share(fact: Fact[float], share: float) -> Fact[float]:
    return fact.model_copy(update={"value": fact.value * share})
