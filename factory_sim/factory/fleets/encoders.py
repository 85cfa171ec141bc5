"""A pool of vision encoders resolved: its physics, its memory, the bytes of what it makes."""

from __future__ import annotations

from factory_sim.catalog import Accelerator, Engine
from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.fleet import Fleet, deployment_of, path_of
from factory_sim.factory.fleets.make import chip_of, power_of
from factory_sim.factory.fleets.placing import place, simulated
from factory_sim.factory.fleets.seeing import eyes_of, images_of
from factory_sim.factory.site import Gpu
from factory_sim.physics.hardware import Host
from factory_sim.physics.memory import KvMemory, kv_memory
from factory_sim.physics.pipeline import stages_of
from factory_sim.physics.vision import Vision
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.images import Images
from factory_sim.scenario.scenario import Scenario


def make_encoders(
    scenario: Scenario, name: str, spec: Deployment, free: dict[str, list[Gpu]]
) -> Fleet:
    """Return a pool of encoders with its replicas placed on `free` GPUs, which it takes away.

    A sequence of it is an image: max_num_seqs are those of a step. Its engine schedules steps and
    launches layers as any other. Raises InputError for what does not fit.
    """
    facts, where = scenario.facts, path_of(name)
    system = facts.system(spec.system or scenario.racks[0].system)
    accelerator = facts.accelerator(system.accelerator)
    model = facts.model(spec.model)
    engine = facts.engine(spec.engine.profile)
    images = _images(scenario, deployment_of(name), where)
    efficiency = facts.efficiency(accelerator.family, "bf16")
    curve = facts.power_curve(accelerator.family)
    chip = chip_of(accelerator, "bf16", efficiency, efficiency, engine, curve, gpus=1)
    vision = eyes_of(where, model, images, chip, spec.parallelism)
    encoder = scenario.deployments[deployment_of(name)].encoder
    assert encoder is not None
    usual = spec.engine.max_num_batched_tokens or engine.defaults.max_num_batched_tokens
    most = encoder.max_batch or max(1, usual // images.tokens)
    memory = _memory(where, vision, accelerator, spec, engine, most)
    placed = place(spec, where, free.get(system.name, []), 1, system.scaleup_gpus)
    replicas, like = simulated(spec, where, placed)
    return Fleet(
        name=name,
        where=where,
        spec=spec,
        system=system,
        model=model,
        accelerator=accelerator,
        engine=engine,
        efficiency=efficiency,
        power_curve=curve,
        precision="bf16",
        batching="images",
        max_num_seqs=most,
        max_step_tokens=most * images.tokens,
        chip=chip,
        shard=vision.shard,
        stages=tuple(stages_of(vision.shard.model, 1)),
        host=Host(
            engine.per_step.value, 0.0, 0.0, engine.eager_per_layer.value, engine.launches_ahead
        ),
        power=power_of(accelerator, curve),
        memory=memory,
        replicas=replicas,
        represented=len(placed),
        like=like,
        vision=vision,
    )


def _images(scenario: Scenario, deployment: str, where: str) -> Images:
    found = images_of(scenario, deployment)
    if found is None:
        raise InputError(
            Problem(
                where,
                f"no workload sends images to {deployment}, so that its encoders would never do "
                "anything; leave it out, or give a workload 'images'",
            )
        )
    return found


def _memory(
    where: str,
    vision: Vision,
    accelerator: Accelerator,
    spec: Deployment,
    engine: Engine,
    most: int,
) -> KvMemory:
    """Return the memory of a GPU that encodes at most so many images in a step."""
    memory = kv_memory(
        vision.shard,
        accelerator.need("hbm"),
        spec.engine.gpu_memory_utilization or engine.defaults.gpu_memory_utilization,
        engine.graph_and_runtime.value,
        1,
        most * vision.patches,
        engine.defaults.block_tokens,
    )
    if memory.kv_bytes < 0.0:
        raise InputError(
            Problem(
                f"{where}.max_batch",
                f"{most} images in a step do not fit: weights and activations need "
                f"{-memory.kv_bytes / 1e9:.1f} GB more than a {accelerator.name} has to use; "
                "encode fewer at once",
            )
        )
    return memory
