"""A fleet: one deployment resolved to engine settings, physics, memory and named GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from factory_sim.catalog import Accelerator, Engine, Family, Model, PowerCurve, Precision, System
from factory_sim.factory.fleets.drafting import Drafting
from factory_sim.factory.site import Gpu
from factory_sim.physics.hardware import Chip, Host, Shard
from factory_sim.physics.memory import KvMemory, prompt_cache_bytes
from factory_sim.physics.pipeline import Stage
from factory_sim.physics.power import PowerModel
from factory_sim.physics.vision import Vision
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.scenario import Scenario

PREFILL = "/prefill"
"""Ends the name of a deployment's pool that computes prompts; no deployment's name has a slash."""

ENCODE = "/encode"
"""Ends the name of a deployment's pool that encodes images."""


@dataclass(frozen=True)
class Fleet:
    """One deployment, resolved: its engine settings, physics, and the GPUs of each replica.

    shard: of a whole model; stages: of its pipeline, one where there is none.
    name: of the deployment, with `/prefill` for its pool that computes prompts and `/encode` for
    the one that encodes images; where: its path in the scenario. replicas: those that are
    simulated. represented: how many there are, at least as many. like: of each rack whose replicas
    are not simulated, the rack that stands for it.
    """

    name: str
    where: str
    spec: Deployment
    model: Model
    accelerator: Accelerator
    system: System
    engine: Engine
    efficiency: Family
    power_curve: PowerCurve
    precision: Precision
    batching: str
    max_num_seqs: int
    max_step_tokens: int
    chip: Chip
    shard: Shard
    stages: tuple[Stage, ...]
    host: Host
    power: PowerModel
    memory: KvMemory
    replicas: tuple[tuple[Gpu, ...], ...]
    represented: int
    like: Mapping[str, str]
    drafting: Drafting | None = None
    vision: Vision | None = None

    @property
    def deployment(self) -> str:
        """Return the name of the deployment that it serves."""
        return deployment_of(self.name)

    @property
    def computes_prompts(self) -> bool:
        """Tell whether it is a pool that only computes prompts."""
        return self.name.endswith(PREFILL)

    @property
    def encodes(self) -> bool:
        """Tell whether it is a pool that only encodes images."""
        return self.name.endswith(ENCODE)

    @property
    def weight_only(self) -> Precision | None:
        """Return what its weights are multiplied in where its GPUs lack their arithmetic."""
        used = self.accelerator.arithmetic(self.precision)
        return None if used == self.precision else used

    @property
    def phases(self) -> tuple[str, ...]:
        """Return the phases of a request that its replicas do."""
        if self.encodes:
            return ("encode",)
        if self.computes_prompts:
            return ("prefill",)
        return ("prefill", "decode") if self.spec.prefill is None else ("decode",)

    @property
    def scale(self) -> float:
        """Return for how many replicas each simulated one stands."""
        return self.represented / len(self.replicas)

    @property
    def pods(self) -> tuple[int, ...]:
        """Return the replicas of each pod that is simulated, as even as can be.

        Of all pods as many are simulated as of the replicas, so that a router sees no fewer.
        """
        here = len(self.replicas)
        pods = max(1, round(self.spec.router.pods / self.scale))
        return tuple(here // pods + (number < here % pods) for number in range(pods))

    @property
    def longest(self) -> int:
        """Return the most tokens, prompt and answer, of a request that a replica can serve."""
        longest = self.spec.engine.max_model_len or self.model.context_max
        drafts = self.drafting.tokens if self.drafting else 0
        return min(longest, self.memory.tokens + 1 - drafts)

    @property
    def tokens_per_step(self) -> float:
        """Return the tokens that a sequence makes in a step, in the mean."""
        return self.drafting.spec.tokens_per_step if self.drafting else 1.0

    def prompt_bytes(self, tokens: int) -> float:
        """Return the bytes of the KV cache of a prompt, that of what drafts included."""
        drafts = self.drafting.prompt_bytes(self.shard, tokens) if self.drafting else 0.0
        return prompt_cache_bytes(self.model, self.shard.bytes_per_kv, tokens) + drafts

    @property
    def image_bytes(self) -> float:
        """Return the bytes of the embeddings of one image, in 16 bits, as the model takes them in.

        A row of the model's hidden size for each token, and one more for each of the encoder's
        layers whose features it is given beside the last's.
        """
        tower = self.model.vision
        assert self.vision is not None and tower is not None
        tokens = self.vision.patches // tower.patches_per_token
        return 2.0 * tokens * self.model.hidden * (1 + tower.deepstack)

    @property
    def plans_ahead(self) -> bool:
        """Tell whether its engine plans each step while the one before runs."""
        if self.spec.parallelism.pp > 1:
            return False  # micro-batches are what is planned ahead
        asked = self.spec.engine.async_scheduling
        return self.engine.defaults.async_scheduling if asked is None else asked

    @property
    def ranks(self) -> int:
        """Return the ranks of a replica, each with sequences and a KV cache of its own."""
        return self.spec.parallelism.dp

    @property
    def batches(self) -> int:
        """Return the batches of a replica: of its ranks, or the micro-batches of its pipeline."""
        return self.ranks * self.spec.parallelism.pp

    @property
    def slots(self) -> int:
        """Return the most sequences that a replica may run at once."""
        return self.max_num_seqs * self.batches

    @property
    def instances(self) -> int:
        """Return into how many parts, each with a replica of its own, a GPU is cut (mostly 1)."""
        cut = self.spec.partition
        return 1 if cut is None else self.accelerator.partitions[cut].value.instances

    @property
    def gpus_per_replica(self) -> float:
        """Return the GPUs that one copy of the model spans; of one that is cut, a share."""
        return self.spec.parallelism.gpus / self.instances

    @property
    def gpus(self) -> int:
        """Return the GPUs that all replicas are on."""
        return ceil(self.represented * self.gpus_per_replica - 1e-9)

    @property
    def weight_bytes(self) -> float:
        """Return the bytes of weights that all GPUs of a replica hold."""
        parts = [stage_shard(self.shard, stage) for stage in self.stages]
        each = self.spec.parallelism.gpus // len(parts)
        return sum(part.weight_bytes * each for part in parts)


def stage_shard(shard: Shard, stage: Stage) -> Shard:
    """Return what one GPU of a stage holds; of the only stage, what `shard` says."""
    if stage.first and stage.last:
        return shard
    return replace(shard, model=stage.model, tables=stage.tables)


def deployment_of(name: str) -> str:
    """Return the deployment that a pool is of."""
    return name.partition("/")[0]


def path_of(name: str) -> str:
    """Return where a scenario describes a pool."""
    name, _, pool = name.partition("/")
    return f"deployments.{name}" + (f".{FIELDS[pool]}" if pool else "")


def entrances(fleets: Iterable[Fleet]) -> dict[str, Fleet]:
    """Return the pool of each deployment that computes prompts, to which requests come."""
    # A pool that only does that comes after the deployment's own.
    return {fleet.deployment: fleet for fleet in fleets if not fleet.encodes}


FIELDS = {"prefill": "prefill", "encode": "encoder"}
"""What a scenario calls the pools of a deployment."""


def pools_of(scenario: Scenario) -> dict[str, Deployment]:
    """Return every pool of equal replicas: deployments, who computes prompts, who encodes."""
    found = dict(scenario.deployments)
    for name, spec in scenario.deployments.items():
        if spec.prefill is not None:
            found[name] = spec.decodes_pool
            found[name + PREFILL] = spec.prompts_pool
    for name, spec in scenario.deployments.items():
        if spec.encoder is not None:
            found[name + ENCODE] = spec.encoders_pool
    return found
