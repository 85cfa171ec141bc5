"""How a replica is spread over GPUs: what its model and its system allow, and each GPU's share."""

from __future__ import annotations

from factory_sim.catalog import Model, System
from factory_sim.errors import InputError, Problem
from factory_sim.physics.balance import imbalance
from factory_sim.physics.hardware import Shard
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.parallelism import Parallelism


def check_parallelism(where: str, spec: Deployment, system: System, model: Model) -> None:
    """Raise InputError for what the model or the system does not allow, or nothing would change."""
    tp, dp, ep = spec.parallelism.tp, spec.parallelism.dp, spec.parallelism.ep
    check_domains(where, spec, system)
    if spec.parallelism.pp > 1:
        check_pipeline(where, spec, model)
    if spec.parallelism.cp > 1:
        check_contexts(where, spec, model)
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


def check_domains(where: str, spec: Deployment, system: System) -> None:
    """Raise InputError for a replica that several scale-up domains cannot hold evenly."""
    spread, size = spec.parallelism, system.scaleup_gpus
    total, group = spread.gpus, spread.gpus // spread.pp
    if total <= size:
        return
    names = [name for name in ("tp", "cp", "dp", "pp") if getattr(spread, name) > 1]
    path, what = f"{where}.parallelism.{names[-1]}", " * ".join(names)
    if system.gpus_per_server > size:
        raise InputError(
            Problem(
                path,
                f"{total} GPUs ({what}) do not share one scale-up domain; {system.name} has {size} "
                "to a domain and several domains in a server, between which no link is known",
            )
        )
    if total % size:
        raise InputError(
            Problem(
                path,
                f"{total} GPUs ({what}) are more than a scale-up domain of {system.name}, which "
                f"has {size}, and no multiple of it; a replica over several takes them whole",
            )
        )
    for name, many in (("tp", spread.tp), (names[-1], group)):
        if size % many and many % size:
            raise InputError(
                Problem(
                    f"{where}.parallelism.{name}",
                    f"groups of {many} GPUs neither fill whole scale-up domains of {system.name} "
                    f"({size} GPUs) nor divide one",
                )
            )
    if spec.step_time != "roofline":
        raise InputError(
            Problem(
                f"{where}.step_time",
                f"'{spec.step_time}' knows no replica over several scale-up domains; leave it out",
            )
        )


def check_pipeline(where: str, spec: Deployment, model: Model) -> None:
    """Raise InputError for a pipeline that the model or the engine does not allow."""
    pp = spec.parallelism.pp
    most = min(model.attention_layers - (model.window.layers if model.window else 0), model.layers)
    if pp > (most or model.layers):
        raise InputError(
            Problem(
                f"{where}.parallelism.pp",
                f"{model.name} has {most or model.layers} layers with full attention, too few for "
                f"{pp} stages",
            )
        )
    if model.mlp_layers is not None:
        raise InputError(
            Problem(
                f"{where}.parallelism.pp",
                f"which layers of {model.name} have an MLP is not known, so that they cannot be "
                "dealt out over stages; leave it out",
            )
        )
    engine = spec.engine
    asked = {
        "async_scheduling": engine.async_scheduling,
        **dict.fromkeys(engine.cache_tiers, True),
        "scheduling": not engine.plain and engine.preemption != "swap",
        "preemption": engine.preemption == "swap",
    }
    for name, wanted in asked.items():
        if wanted:
            raise InputError(
                Problem(
                    f"{where}.engine.{name}",
                    "micro-batches of a pipeline are planned one while others run, serve first "
                    "come, first served, and compute victims again; leave it out, or "
                    "parallelism.pp",
                )
            )
    if engine.batching == "static":
        raise InputError(
            Problem(
                f"{where}.engine.batching",
                "static batching over a pipeline is not modelled; use 'continuous' or 'chunked', "
                "or leave out parallelism.pp",
            )
        )
    if spec.step_time != "roofline":
        raise InputError(
            Problem(
                f"{where}.step_time",
                f"'{spec.step_time}' knows no pipelines here; leave it out, or parallelism.pp",
            )
        )


def check_contexts(where: str, spec: Deployment, model: Model) -> None:
    """Raise InputError for contexts that the model or the step time cannot share out."""
    if model.linear is not None:
        raise InputError(
            Problem(
                f"{where}.parallelism.cp",
                f"{model.name} has layers of linear attention, whose states follow one another; "
                "leave it out",
            )
        )
    if model.sparse is not None:
        raise InputError(
            Problem(
                f"{where}.parallelism.cp",
                f"{model.name} chooses the tokens it attends to from the whole context, which "
                "cannot be shared out yet; leave it out",
            )
        )
    if spec.step_time != "roofline":
        raise InputError(
            Problem(
                f"{where}.step_time",
                f"'{spec.step_time}' knows no context parallelism; leave it out, or parallelism.cp",
            )
        )


def shard_of(model: Model, spread: Parallelism, weight_bytes: float, kv_bytes: float) -> Shard:
    """Return the part of a model that each GPU of a replica holds and computes."""
    uneven, copies = 1.0, spread.redundant_experts
    if spread.expert_skew:
        assert model.moe is not None
        uneven = imbalance(model.moe.experts, spread.ep, spread.expert_skew, copies)
    return Shard(
        model,
        spread.tp,
        spread.ep,
        weight_bytes,
        kv_bytes,
        spread.dp,
        copies,
        uneven,
        cp=spread.cp,
    )
