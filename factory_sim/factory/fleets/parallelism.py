"""How a replica is spread over GPUs: what its model and its system allow, and each GPU's share."""

from __future__ import annotations

from factory_sim.catalog import Model, System
from factory_sim.errors import InputError, Problem
from factory_sim.physics.balance import imbalance
from factory_sim.physics.hardware import Shard
from factory_sim.scenario.deployment import Deployment, Parallelism


def check_parallelism(where: str, spec: Deployment, system: System, model: Model) -> None:
    """Raise InputError for what the model or the system does not allow, or nothing would change."""
    tp, dp, ep = spec.parallelism.tp, spec.parallelism.dp, spec.parallelism.ep
    if tp * dp > system.scaleup_gpus:
        raise InputError(
            Problem(
                f"{where}.parallelism.{'tp' if dp == 1 else 'dp'}",
                f"{tp * dp} GPUs do not share one scale-up domain; {system.name} has "
                f"{system.scaleup_gpus}",
            )
        )
    if model.heads % tp:
        raise InputError(
            Problem(
                f"{where}.parallelism.tp",
                f"must divide the {model.heads} heads of {model.name}, not {tp}",
            )
        )
    if ep > 1 and model.moe is None:
        raise InputError(
            Problem(f"{where}.parallelism.ep", f"{model.name} has no experts; leave it out")
        )
    if dp == 1 and ep == 1:
        return
    if model.moe is None:
        raise InputError(
            Problem(
                f"{where}.parallelism.dp",
                f"{model.name} has no experts that ranks could share; leave it out, and give "
                f"{dp} times the replicas",
            )
        )
    slots = model.moe.experts + spec.parallelism.redundant_experts
    if spec.parallelism.expert_skew and slots % ep:
        more = -model.moe.experts % ep
        raise InputError(
            Problem(
                f"{where}.parallelism.redundant_experts",
                f"{slots} experts and copies of them do not divide by {ep} GPUs; give {more} "
                f"copies, or {more + ep}",
            )
        )
    if dp > 1 and spec.step_time != "roofline":
        raise InputError(
            Problem(
                f"{where}.step_time",
                f"'{spec.step_time}' knows no data-parallel attention; leave it out",
            )
        )


def shard_of(model: Model, spread: Parallelism, weight_bytes: float, kv_bytes: float) -> Shard:
    """Return the part of a model that each GPU of a replica holds and computes."""
    uneven, copies = 1.0, spread.redundant_experts
    if spread.expert_skew:
        assert model.moe is not None
        uneven = imbalance(model.moe.experts, spread.ep, spread.expert_skew, copies)
    tp, dp = spread.tp, spread.dp
    return Shard(model, tp, spread.ep, weight_bytes, kv_bytes, dp, copies, uneven)
