"""The vision encoder of a deployment whose prompts have images: its physics, its memory."""

from __future__ import annotations

from dataclasses import replace

from factory_sim.catalog import Model
from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.parallelism import shard_of
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Chip
from factory_sim.physics.memory import KvMemory
from factory_sim.physics.vision import Vision
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.images import Images
from factory_sim.scenario.parallelism import Parallelism
from factory_sim.scenario.scenario import Scenario


def images_of(scenario: Scenario, deployment: str) -> Images | None:
    """Return what the images of a deployment's prompts are; None where no workload has any.

    Raises InputError where these differ in the tokens of one.
    """
    found = {
        f"workload.{name}.{where}": images
        for name, spec in scenario.workload.items()
        for where, images in spec.pictures
        if deployment in scenario.reach(name)
    }
    tokens = {images.tokens for images in found.values()}
    if len(tokens) > 1:
        raise InputError(
            Problem(
                f"{list(found)[-1]}.tokens",
                f"all images sent to {deployment} are of one size so far, and here they have "
                f"{', '.join(str(count) for count in sorted(tokens))} tokens; give all the same",
            )
        )
    return next(iter(found.values()), None)


def vision_of(where: str, spec: Deployment, model: Model, images: Images, chip: Chip) -> Vision:
    """Return the vision encoder of a pool that computes prompts. chip: at bf16 arithmetic.

    Raises InputError for a model without one, and for what does not go together with it.
    """
    for field, wrong, mend in (
        ("engine.speculation", spec.engine.speculation, "leave it out"),
        ("parallelism.dp", spec.parallelism.dp > 1, "leave it out"),
        ("parallelism.pp", spec.parallelism.pp > 1, "leave it out"),
        ("parallelism.cp", spec.parallelism.cp > 1, "leave it out"),
        ("step_time", spec.step_time != "roofline", "take 'roofline'"),
    ):
        if wrong:
            raise InputError(
                Problem(
                    f"{where}.{field}",
                    f"is not modelled together with images yet; {mend}, or give the deployment an "
                    "'encoder' pool",
                )
            )
    return eyes_of(where, model, images, chip, spec.parallelism)


def eyes_of(where: str, model: Model, images: Images, chip: Chip, spread: Parallelism) -> Vision:
    """Return the vision encoder of a model, spread over GPUs. chip: at bf16 arithmetic.

    Encoders stay in bf16 whatever the precision of the model, as in the checkpoints released.
    Raises InputError for a model without one.
    """
    tower = model.vision
    if tower is None:
        raise InputError(
            Problem(
                f"{where}.model",
                f"a workload sends images, and the catalogue knows no vision encoder of "
                f"{model.name}; leave out the workload's images, or take a model that sees, such "
                "as qwen3-vl-8b",
            )
        )
    eyes = model.model_copy(
        update={
            "layers": tower.layers,
            "hidden": tower.hidden,
            "heads": tower.heads,
            "kv_heads": tower.heads,
            "head_dim": tower.hidden // tower.heads,
            "intermediate": tower.intermediate,
            "mlp_matrices": 2,
            "vocab": 1,
            "moe": None,
            "mla": None,
            "window": None,
            "linear": None,
            "attention_gate": False,
            "mlp_layers": None,
            "quantised": "linear",
        }
    )
    width = work.BYTES_PER_WEIGHT["bf16"]
    plain = spread.model_copy(update={"ep": 1, "expert_skew": 0.0, "redundant_experts": 0})
    return Vision(
        chip, shard_of(eyes, plain, width, width), images.tokens * tower.patches_per_token
    )


def beside(memory: KvMemory, vision: Vision) -> KvMemory:
    """Return the memory of a GPU that holds its part of the vision encoder as well."""
    return replace(memory, weight_bytes=memory.weight_bytes + vision.shard.weight_bytes)
