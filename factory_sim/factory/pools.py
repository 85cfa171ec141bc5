"""Pools of replicas behind their gateways, and the links between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import NamedTuple

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.factory.disaggregation import Crossing, DecodeGateway, PromptGateway
from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.batching import BATCHING, Batching
from factory_sim.factory.engine.drafted_kv import DraftedBlocks
from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.engine.host_cache import (
    AsyncScheduledTieredBatch,
    AsyncTieredBatch,
    ScheduledTieredBatch,
    TieredBatch,
    TieredKvBlocks,
)
from factory_sim.factory.engine.host_memory import NO_HOST_MEMORY, HostMemory
from factory_sim.factory.engine.joining_batch import AsyncJoiningBatch, Joining, JoiningBatch
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.prefix_batch import AsyncPrefixBatch, PrefixBatch
from factory_sim.factory.engine.prefix_cache import CachedKvBlocks
from factory_sim.factory.engine.prompt_batch import AsyncPromptBatch, PromptBatch
from factory_sim.factory.engine.ranks import in_lockstep
from factory_sim.factory.engine.scheduled_batch import (
    AsyncScheduledBatch,
    AsyncScheduledPrefixBatch,
    ScheduledBatch,
    ScheduledPrefixBatch,
    Settling,
)
from factory_sim.factory.engine.scheduling import SCHEDULING
from factory_sim.factory.engine.scheduling.queue import Queue
from factory_sim.factory.engine.speculating_batch import (
    AsyncSpeculatingBatch,
    SpeculatingBatch,
)
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.layout import Layout
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.network.link import Link
from factory_sim.factory.replica import Replica, Speed
from factory_sim.factory.routing import ROUTING, Router
from factory_sim.factory.scaling.gateway import ScaledGateway
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.physics.memory import prompt_cache_bytes
from factory_sim.physics.step_time import StepTime, make_chunk
from factory_sim.scenario.scheduling import Scheduling

StepTimes = Callable[[Fleet, float], StepTime]


class Pools(NamedTuple):
    """The gateway of each pool, and the one that clients of each deployment see; links by name;
    gaps between tokens by pool."""

    gateways: dict[str, Gateway]
    fronts: dict[str, Gateway]
    links: dict[str, Link]
    gaps: dict[str, GapHistogram]


def open_pools(
    env: Timetable,
    layout: Layout,
    caching: set[str],
    reasoning: set[str],
    step_time: StepTimes,
    seeds: Sequence[np.random.SeedSequence],
    debug: bool,
) -> Pools:
    """Open every pool of a factory.

    caching: those with a prefix cache. reasoning: deployments with requests that reason. seeds: of
    the routers and of drafts. debug: recount at every boundary.
    """
    network = layout.scenario.network
    links = {
        name: Link(env, name, spec.bandwidth, spec.latency)
        for name, spec in (network.links if network else {}).items()
    }
    fleets = {fleet.name: fleet for fleet in layout.fleets}
    gaps = {name: GapHistogram() for name in fleets}
    gateways: dict[str, Gateway] = {}
    # A pool that computes prompts comes after the one that decodes, which it sends to.
    routing, drafting = (seed.spawn(len(fleets)) for seed in seeds)
    for fleet, own, drawn in zip(layout.fleets, routing, drafting, strict=True):
        spec = fleet.spec
        router = ROUTING[spec.router.policy](np.random.default_rng(own))
        batch: Callable[[Speed], Batch]
        kind: type[Replica] = LinkedReplica
        if fleet.computes_prompts:
            decodes = gateways[fleet.deployment]
            assert isinstance(decodes, DecodeGateway)
            gateway: Gateway = PromptGateway(env, router, spec.router.staleness, decodes)
            batch = partial(_prompt_batch, fleet, gaps[fleet.name], fleets[fleet.deployment])
        elif spec.prefill is not None:
            gateway = _decode_gateway(env, router, fleet, links)
            batch = partial(_joining_batch, fleet, gaps[fleet.name])
        elif fleet.drafting is not None:
            opened = Gateway if spec.autoscaling is None else ScaledGateway
            gateway = opened(env, router, spec.router.staleness)
            batch = partial(_speculating_batch, fleet, drawn, gaps[fleet.name])
            kind = Replica
        else:
            opened = Gateway if spec.autoscaling is None else ScaledGateway
            gateway = opened(env, router, spec.router.staleness)
            batch = partial(_batch, fleet, fleet.name in caching, gaps[fleet.name])
            kind = Replica
        _staff(gateway, kind, batch, fleet, step_time, debug)
        if fleet.deployment in reasoning:
            for replica in gateway.replicas:
                replica.batch.note_answers()
        if fleet.vision is not None:
            for replica in gateway.replicas:
                assert isinstance(replica.batch, Batch)
                replica.batch.sees = True
        gateways[fleet.name] = gateway
    fronts = {fleet.deployment: gateways[fleet.name] for fleet in layout.fleets}
    return Pools(gateways, fronts, links, gaps)


def _decode_gateway(
    env: Timetable, router: Router, fleet: Fleet, links: dict[str, Link]
) -> DecodeGateway:
    prefill = fleet.spec.prefill
    assert prefill is not None
    crossing = Crossing(
        links[prefill.kv_link],
        partial(prompt_cache_bytes, fleet.model, fleet.shard.bytes_per_kv),
        fleet.name,
        prefill.per_replica or inf,
        prefill.first_token == "decode",
    )
    return DecodeGateway(env, router, fleet.spec.router.staleness, crossing)


def _staff(
    gateway: Gateway,
    kind: type[Replica],
    batch_of: Callable[[Speed], Batch],
    fleet: Fleet,
    step_time: StepTimes,
    debug: bool,
) -> None:
    """Give a gateway its replicas."""
    speeds: dict[float, Speed] = {}

    def speed_at(clock: float) -> Speed:
        if clock not in speeds:
            speeds[clock] = Speed(step_time(fleet, clock), fleet.power.at(clock))
        return speeds[clock]

    for number, gpus in enumerate(fleet.replicas):
        batch = in_lockstep(fleet.ranks, partial(batch_of, speed_at(1.0)))
        indices = [gpu.index for gpu in gpus]
        gateway.adopt(kind(gateway.env, number, indices, batch, speed_at, gateway.leave, debug))


_BATCHES = ((Batch, AsyncBatch), (PrefixBatch, AsyncPrefixBatch))
"""By whether they have a prefix cache, and whether they plan ahead."""

_SCHEDULED = (
    (ScheduledBatch, AsyncScheduledBatch),
    (ScheduledPrefixBatch, AsyncScheduledPrefixBatch),
)
"""The same, with an order of the queue or host memory for victims."""

SWAP_SPACE_BYTES = 4 * 2.0**30
"""Host memory a GPU gives to victims: `--swap-space` of vLLM up to 0.10, by default 4 GiB."""


def _batch(fleet: Fleet, caches: bool, gaps: GapHistogram, speed: Speed) -> Batch:
    policy: Batching = BATCHING[fleet.batching](fleet.max_step_tokens)
    tier = host_tier(fleet)
    if tier is not None:
        return _tiered_batch(fleet, policy, tier, gaps, speed)
    kv = (CachedKvBlocks if caches else KvBlocks)(fleet.memory.blocks, fleet.memory.block_tokens)
    rest = (*speed, kv, fleet.max_num_seqs, _queue(fleet), gaps, fleet.longest)
    if fleet.spec.engine.plain:
        return _BATCHES[caches][fleet.plans_ahead](policy, *rest)
    kind = _SCHEDULED[caches][fleet.plans_ahead]
    settling = Settling(policy if caches else Joining(policy))
    return kind(_order(fleet, speed), host_memory(fleet), settling, *rest)


def _order(fleet: Fleet, speed: Speed) -> Queue:
    spec = fleet.spec.engine.scheduling or Scheduling()
    return SCHEDULING[spec.policy](spec, prompt_tokens_per_s(fleet, speed.step_time))


def _tiered_batch(
    fleet: Fleet, policy: Batching, tier: HostMemory, gaps: GapHistogram, speed: Speed
) -> Batch:
    """Return a batch whose prefix cache has room in host memory."""
    memory = fleet.memory
    kv = TieredKvBlocks(memory.blocks, memory.block_tokens, tier.total)
    rest = (*speed, kv, fleet.max_num_seqs, _queue(fleet), gaps, fleet.longest)
    each_s = tier.seconds_per_block
    if fleet.spec.engine.plain:
        kind = AsyncTieredBatch if fleet.plans_ahead else TieredBatch
        return kind(policy, *rest, seconds_per_block=each_s)
    ordered = AsyncScheduledTieredBatch if fleet.plans_ahead else ScheduledTieredBatch
    order = _order(fleet, speed)
    return ordered(order, NO_HOST_MEMORY, Settling(policy), *rest, seconds_per_block=each_s)


def prompt_tokens_per_s(fleet: Fleet, step_time: StepTime) -> float:
    """Return the prompt tokens a second of a replica whose steps are filled with one prompt."""
    tokens = fleet.max_step_tokens
    return tokens / step_time.mixed(0, 0, 0, [make_chunk((0, tokens))], 1).duration_s


def host_memory(fleet: Fleet) -> HostMemory:
    """Return the host memory that takes the KV blocks of a replica's victims, if it has any.

    Raises InputError where nobody says how fast they get there.
    """
    engine = fleet.spec.engine
    if engine.preemption != "swap":
        return NO_HOST_MEMORY
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


def _speculating_batch(
    fleet: Fleet, seed: np.random.SeedSequence, gaps: GapHistogram, speed: Speed
) -> Batch:
    drafting = fleet.drafting
    assert drafting is not None
    acceptance, tokens = drafting.spec.acceptance, drafting.tokens
    return (AsyncSpeculatingBatch if fleet.plans_ahead else SpeculatingBatch)(
        BATCHING[fleet.batching](fleet.max_step_tokens),
        *speed,
        DraftedBlocks(fleet.memory.blocks, fleet.memory.block_tokens, tokens),
        fleet.max_num_seqs,
        _queue(fleet),
        gaps,
        fleet.longest,
        drafts=Drafts(
            tokens, acceptance.mean, acceptance.deviation, int(seed.generate_state(1)[0])
        ),
    )


def _joining_batch(fleet: Fleet, gaps: GapHistogram, speed: Speed) -> Batch:
    kind = AsyncJoiningBatch if fleet.plans_ahead else JoiningBatch
    policy = Joining(BATCHING[fleet.batching](fleet.max_step_tokens))
    return kind(policy, *speed, _kv(fleet), fleet.max_num_seqs, inf, gaps, fleet.longest)


def _prompt_batch(fleet: Fleet, gaps: GapHistogram, decodes: Fleet, speed: Speed) -> Batch:
    return (AsyncPromptBatch if fleet.plans_ahead else PromptBatch)(
        BATCHING[fleet.batching](fleet.max_step_tokens),
        *speed,
        _kv(fleet),
        fleet.max_num_seqs,
        _queue(fleet),
        gaps,
        longest=decodes.longest,
        most_prompt=fleet.longest - 1,
    )


def _kv(fleet: Fleet) -> KvBlocks:
    return KvBlocks(fleet.memory.blocks, fleet.memory.block_tokens)


def _queue(fleet: Fleet) -> float:
    queue = fleet.spec.engine.max_queue
    return inf if queue is None else queue
