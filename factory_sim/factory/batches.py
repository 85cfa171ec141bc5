"""From a fleet to the batch of each of its replicas: which behaviours it has, and with what."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from factory_sim.catalog import Fact, System
from factory_sim.errors import InputError, Problem
from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch, Batching
from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.engine.composing import composed
from factory_sim.factory.engine.drafted_kv import DraftedBlocks
from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.engine.encode_batch import EncodeBatch
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
from factory_sim.factory.engine.tiered_cache import Tier, TieredBatch
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
    memory, tiers, host = fleet.memory, cache_tiers(fleet), host_memory(fleet)
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
    if tiers:
        layers.append(TieredBatch)
        fixed["tiers"] = list(tiers.values())
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
        if caches and not tiers:
            own["prefix"] = PrefixCache()
        if not spec.plain:
            policy = Settling(policy)
            order = spec.scheduling or Scheduling()
            rate = prompt_tokens_per_s(fleet, speed.step_time)
            own["queue"] = SCHEDULING[order.policy](order, rate, fleet.drafting is not None)
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
    where = f"{fleet.where}.engine.swap_"
    room = _blocks(fleet, engine.swap_space or SWAP_SPACE_BYTES, f"{where}space")
    pace = engine.swap_bandwidth or _host_link(fleet, f"{where}bandwidth")
    return HostMemory(room, _block_bytes(fleet) / pace)


def cache_tiers(fleet: Fleet) -> dict[str, Tier]:
    """Return what is behind the prefix cache of a replica, the nearest first, by its field.

    Raises InputError where nobody says how large it is, or how fast blocks come back.
    """
    engine, where = fleet.spec.engine, f"{fleet.where}.engine"
    found = {}
    if engine.host_cache is not None:
        path = f"{where}.host_cache"
        room = _blocks(fleet, engine.host_cache.space, f"{path}.space")
        pace = engine.host_cache.bandwidth or _host_link(fleet, f"{path}.bandwidth")
        found["host_cache"] = Tier(room, _block_bytes(fleet) / pace)
    if engine.nvme_cache is not None:
        path, system = f"{where}.nvme_cache", fleet.system
        space = engine.nvme_cache.space or _of_drives(system, system.nvme, f"{path}.space", "30 TB")
        pace = engine.nvme_cache.bandwidth or _of_drives(
            system, system.nvme_bandwidth, f"{path}.bandwidth", "50 GB/s"
        )
        each, link = pace / system.gpus_per_server, fleet.accelerator.host_bandwidth
        if link is not None and each > link.value:
            raise InputError(
                Problem(
                    f"{path}.bandwidth",
                    f"{each / 1e9:g} GB/s for each of {system.gpus_per_server} GPUs are more than "
                    f"its host link brings, {link.value / 1e9:g} GB/s; give at most "
                    f"{link.value * system.gpus_per_server / 1e9:g} GB/s for the server",
                )
            )
        room = _blocks(fleet, space / system.gpus_per_server, f"{path}.space")
        found["nvme_cache"] = Tier(room, _block_bytes(fleet) / each)
    return found


def _block_bytes(fleet: Fleet) -> float:
    return fleet.memory.bytes_per_token * fleet.memory.block_tokens


def _blocks(fleet: Fleet, space_bytes: float, where: str) -> int:
    """Return the KV blocks of a replica that fit where each of its GPUs has so much space."""
    each = _block_bytes(fleet)
    room = int(space_bytes // each)
    if not room:
        message = f"must hold one KV block at least, which is {each / 1e6:.1f} MB a GPU"
        raise InputError(Problem(where, message))
    return room


def _host_link(fleet: Fleet, where: str) -> float:
    """Return what one GPU moves over its host link in one direction."""
    if fleet.accelerator.host_bandwidth is None:
        raise InputError(
            Problem(
                where,
                f"the catalogue does not know the host link of {fleet.accelerator.name}; give "
                "what one GPU moves in one direction, for example '64 GB/s'",
            )
        )
    return fleet.accelerator.host_bandwidth.value


def _of_drives(system: System, fact: Fact[float] | None, where: str, example: str) -> float:
    """Return what the catalogue says of a server's drives."""
    if fact is None:
        raise InputError(
            Problem(
                where,
                f"the catalogue does not know the local drives of {system.name}; give what those "
                f"of a server have together, for example '{example}'",
            )
        )
    return fact.value


def _queue(fleet: Fleet) -> float:
    """Return how many may wait at a replica: who comes with a KV cache is never refused."""
    queue = fleet.spec.engine.max_queue
    return inf if queue is None or fleet.spec.prefill is not None else queue
