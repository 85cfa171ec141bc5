"""From a fleet to the batch of each of its replicas: which behaviours it has, and with what."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch, Batching
from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.engine.composing import composed
from factory_sim.factory.engine.drafted_kv import DraftedBlocks
from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.engine.encode_batch import EncodeBatch
from factory_sim.factory.engine.host_cache import TieredBatch, TieredCache
from factory_sim.factory.engine.host_memory import HostMemory
from factory_sim.factory.engine.joining_batch import Joining, JoiningBatch
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.prefix_batch import PrefixBatch
from factory_sim.factory.engine.prefix_cache import PrefixCache
from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.scheduled_batch import ScheduledBatch, Settling
from factory_sim.factory.engine.scheduling import SCHEDULING
from factory_sim.factory.engine.speculating_batch import SpeculatingBatch
from factory_sim.factory.engine.swapping_batch import SwappingBatch
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.replica import Speed
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.physics.step_time import StepTime, make_chunk
from factory_sim.scenario.scheduling import Scheduling

SWAP_SPACE_BYTES = 4 * 2.0**30
"""Host memory a GPU gives to victims: `--swap-space` of vLLM up to 0.10, by default 4 GiB."""


def batches_of(
    fleet: Fleet,
    caches: bool,
    decodes: Fleet | None,
    seed: np.random.SeedSequence,
    gaps: GapHistogram,
) -> Callable[[Speed], Batch]:
    """Return what makes the batch of a replica, or of one of its ranks, at a speed.

    caches: whether it has a prefix cache. decodes: where its requests go on, if it only computes
    prompts. seed: of drafts. Raises InputError where nobody says how fast host memory is.
    """
    spec = fleet.spec.engine
    memory, tier, host = fleet.memory, host_tier(fleet), host_memory(fleet)
    layers: list[type[Batch]] = []
    fixed: dict[str, Any] = {}
    if decodes is not None:
        layers.append(PromptBatch)
        fixed |= {"longest": decodes.longest, "most_prompt": fleet.longest - 1}
    elif fleet.spec.prefill is not None:
        layers.append(JoiningBatch)
    if fleet.drafting is not None:
        tokens, acceptance = fleet.drafting.tokens, fleet.drafting.spec.acceptance
        number = int(seed.generate_state(1)[0])
        layers.append(SpeculatingBatch)
        fixed["drafts"] = Drafts(tokens, acceptance.mean, acceptance.deviation, number)
    if caches:
        layers.append(PrefixBatch)
    if tier is not None:
        layers.append(TieredBatch)
        fixed["seconds_per_block"] = tier.seconds_per_block
    if host is not None:
        layers.append(SwappingBatch)
    elif not spec.plain:
        layers.append(ScheduledBatch)
    if fleet.plans_ahead:
        layers.append(AsyncBatch)
    kind = composed(*layers)

    def batch(speed: Speed) -> Batch:
        policy: Batching = BATCHING[fleet.batching](fleet.max_step_tokens)
        kv = KvBlocks(memory.blocks, memory.block_tokens)
        own = dict(fixed)
        if JoiningBatch in layers or host is not None:
            policy = Joining(policy)
        if fleet.drafting is not None:
            kv = DraftedBlocks(memory.blocks, memory.block_tokens, fleet.drafting.tokens)
        if caches:
            own["prefix"] = PrefixCache() if tier is None else TieredCache(tier.total)
        if not spec.plain:
            policy = Settling(policy)
            order = spec.scheduling or Scheduling()
            rate = prompt_tokens_per_s(fleet, speed.step_time)
            own["queue"] = SCHEDULING[order.policy](order, rate)
        if host is not None:
            own["host"] = HostMemory(host.total, host.seconds_per_block)
        own.setdefault("longest", fleet.longest)
        return kind(policy, *speed, kv, fleet.max_num_seqs, _queue(fleet), gaps, **own)

    return batch


def encode_batches_of(
    fleet: Fleet, entrance: Fleet, decodes: Fleet, gaps: GapHistogram
) -> Callable[[Speed], Batch]:
    """Return what makes the batch of an encoder, at a speed.

    entrance, decodes: where its requests go on, and where their tokens are made.
    """
    most_prompt = entrance.longest - 1 if entrance.computes_prompts else inf

    def batch(speed: Speed) -> Batch:
        return EncodeBatch(
            BATCHING["continuous"](fleet.max_step_tokens),
            *speed,
            KvBlocks(1, fleet.memory.block_tokens),
            fleet.max_num_seqs,
            inf,
            gaps,
            longest=decodes.longest,
            most_prompt=most_prompt,
        )

    return batch


def prompt_tokens_per_s(fleet: Fleet, step_time: StepTime) -> float:
    """Return the prompt tokens a second of a replica whose steps are filled with one prompt."""
    tokens = fleet.max_step_tokens
    return tokens / step_time.mixed(0, 0, 0, [make_chunk((0, tokens))], 1).duration_s


def host_memory(fleet: Fleet) -> HostMemory | None:
    """Return the host memory that takes the KV blocks of a replica's victims, if it has any.

    Raises InputError where nobody says how fast they get there.
    """
    engine = fleet.spec.engine
    if engine.preemption != "swap":
        return None
    space = engine.swap_space or SWAP_SPACE_BYTES
    where = f"{fleet.where}.engine.swap_"
    return _host_memory(fleet, space, engine.swap_bandwidth, where)


def host_tier(fleet: Fleet) -> HostMemory | None:
    """Return the host memory behind the prefix cache of a replica, if it has any.

    Raises InputError where nobody says how fast blocks come back.
    """
    spec = fleet.spec.engine.host_cache
    if spec is None:
        return None
    return _host_memory(fleet, spec.space, spec.bandwidth, f"{fleet.where}.engine.host_cache.")


def _host_memory(
    fleet: Fleet, space_bytes: float, bandwidth: float | None, where: str
) -> HostMemory:
    block_bytes = fleet.memory.bytes_per_token * fleet.memory.block_tokens
    room = int(space_bytes // block_bytes)
    if not room:
        raise InputError(
            Problem(
                f"{where}space",
                f"must hold one KV block at least, which is {block_bytes / 1e6:.1f} MB a GPU",
            )
        )
    if bandwidth is None:
        if fleet.accelerator.host_bandwidth is None:
            raise InputError(
                Problem(
                    f"{where}bandwidth",
                    f"the catalogue does not know the host link of {fleet.accelerator.name}; give "
                    "what one GPU moves in one direction, for example '64 GB/s'",
                )
            )
        bandwidth = fleet.accelerator.host_bandwidth.value
    return HostMemory(room, block_bytes / bandwidth)


def _queue(fleet: Fleet) -> float:
    """Return how many may wait at a replica: who comes with a KV cache is never refused."""
    queue = fleet.spec.engine.max_queue
    return inf if queue is None or fleet.spec.prefill is not None else queue
