"""Pools of replicas behind their gateways, and the links between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from math import inf
from typing import Any, NamedTuple

import numpy as np

from factory_sim.factory.batches import batches_of, encode_batches_of
from factory_sim.factory.disaggregation import Crossing, DecodeGateway, PromptGateway
from factory_sim.factory.encoding import EncodeGateway, ImageGateway, ImagePromptGateway
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.pipeline import in_turns
from factory_sim.factory.engine.ranks import in_lockstep
from factory_sim.factory.fleets.fleet import ENCODE, PREFILL, Fleet, entrances
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.hands import HERE, Branch, Hands, branches_of
from factory_sim.factory.layerwise import LayerwiseGateway, LayerwiseReplica
from factory_sim.factory.layout import Layout
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.network.fabric import Fabric
from factory_sim.factory.network.kv import KvOverFabric, KvOverLink, KvRoad
from factory_sim.factory.network.link import Link
from factory_sim.factory.pods import Pod, Pods
from factory_sim.factory.replica import Replica, Speed
from factory_sim.factory.routing import ROUTING, Router
from factory_sim.factory.scaling.gateway import Kind, scaled
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.physics.step_time import StepTime
from factory_sim.scenario.deployment import Deployment

StepTimes = Callable[[Fleet, float], StepTime]


class Pools(NamedTuple):
    """The gateway of each pool, and the one that clients of each deployment see; links by name, and
    fabrics by site (empty where it is the only one); gaps between tokens by pool."""

    gateways: dict[str, Gateway]
    fronts: dict[str, Gateway]
    links: dict[str, Link]
    fabrics: dict[str, Fabric]
    gaps: dict[str, GapHistogram]


def open_pools(
    env: Timetable,
    layouts: Sequence[Layout],
    all_fleets: Sequence[Fleet],
    caching: set[str],
    reasoning: set[str],
    step_time: StepTimes,
    seeds: Sequence[np.random.SeedSequence],
    debug: bool,
    compiled: Collection[str] = (),
    hands: Hands = HERE,
) -> Pools:
    """Open every pool of a factory.

    layouts: of its sites; all_fleets: of all these. caching: those with a prefix cache. reasoning:
    deployments with requests that reason. seeds: of the routers and of drafts. debug: recount at
    every boundary. compiled: those that the compiled kernel serves, by whose hands.
    """
    network = layouts[0].part.whole.network
    wirings = {layout.part.name: layout.wiring() for layout in layouts}
    fabrics = {site: Fabric(env, wiring) for site, wiring in wirings.items() if wiring}
    links = {
        name: Link(env, name, spec.bandwidth, spec.latency)
        for name, spec in (network.links if network else {}).items()
    }
    gaps = {fleet.name: GapHistogram() for fleet in all_fleets}
    opening = _Opening(
        env, all_fleets, _Roads(links, fabrics), gaps, caching, step_time, debug, compiled, hands
    )
    routing, drafting = (seed.spawn(len(all_fleets)) for seed in seeds)
    # A pool that computes prompts comes after the one that decodes, which it sends to, and after
    # the one that encodes images, which it asks.
    drawn_for = zip(all_fleets, routing, drafting, strict=True)
    for fleet, routed, drafted in sorted(drawn_for, key=lambda each: not each[0].encodes):
        opening.open(fleet, routed, drafted)
        if fleet.deployment in reasoning and not fleet.encodes:
            for replica in opening.gateways[fleet.name].replicas:
                replica.batch.note_answers()
    gateways = {fleet.name: opening.gateways[fleet.name] for fleet in all_fleets}
    fronts = {name: gateways[fleet.name] for name, fleet in opening.entered.items()}
    return Pools(gateways, fronts, links, fabrics, gaps)


class _Roads(NamedTuple):
    """What pools send to each other on: links by name, and fabrics by site."""

    links: dict[str, Link]
    fabrics: dict[str, Fabric]

    def between(self, senders: Fleet, receivers: Fleet, link: str | None, most: float) -> KvRoad:
        """Return the link of that name, else the fabric. most: bytes/s of one sender on a link."""
        if link is not None:
            return KvOverLink(self.links[link], senders.name, most)
        fabric = self.fabrics[receivers.spec.site or ""]
        return KvOverFabric(fabric, senders.replicas, receivers.replicas)


class _Opening:
    """Opens one pool after the other; each may need those that were opened before."""

    def __init__(
        self,
        env: Timetable,
        fleets: Sequence[Fleet],
        roads: _Roads,
        gaps: Mapping[str, GapHistogram],
        caching: Collection[str],
        step_time: StepTimes,
        debug: bool,
        compiled: Collection[str],
        hands: Hands,
    ) -> None:
        self.gateways: dict[str, Gateway] = {}
        self.entered = entrances(fleets)
        self._env, self._roads, self._gaps, self._caching = env, roads, gaps, caching
        self._fleets = {fleet.name: fleet for fleet in fleets}
        self._step_time, self._debug = step_time, debug
        self._compiled, self._workers = compiled, hands.workers
        self._branches = branches_of(hands, [fleet for fleet in fleets if fleet.name in compiled])

    def open(
        self, fleet: Fleet, routed: np.random.SeedSequence, drafted: np.random.SeedSequence
    ) -> None:
        """Open a pool. routed, drafted: seeds of its routers and of its drafts."""
        gaps = self._gaps[fleet.name]
        if fleet.name in self._compiled:
            speed = speeds(fleet, self._step_time)
            branches = self._branches.get(fleet.name)
            gateway = _compiled(self._env, fleet, speed, gaps, routed, self._workers, branches)
        else:
            gateway = self._gateway(fleet, routed)
            if fleet.encodes:
                goes_on = (self.entered[fleet.deployment], self._fleets[fleet.deployment])
                batches = encode_batches_of(fleet, *goes_on, gaps)
            else:
                decoding = self._fleets[fleet.deployment] if fleet.computes_prompts else None
                caches = fleet.name in self._caching
                batches = batches_of(fleet, caches, decoding, drafted, gaps)
            kind = self._kind_of_replica(fleet, gateway)
            _staff(gateway, kind, batches, fleet, self._step_time, self._debug)
            if fleet.vision is not None and not fleet.encodes:
                for replica in gateway.replicas:
                    assert isinstance(replica.batch, Batch)
                    replica.batch.sees = True
        self.gateways[fleet.name] = gateway

    def _gateway(self, fleet: Fleet, seed: np.random.SeedSequence) -> Gateway:
        spec = fleet.spec
        if len(fleet.pods) > 1:
            return _pods(self._env, fleet, seed)
        router = ROUTING[spec.router.policy](np.random.default_rng(seed))
        given = (self._env, router, spec.router.staleness)
        images = self._images(fleet)
        if fleet.encodes:
            return EncodeGateway(*given)
        if fleet.computes_prompts:
            decodes = self.gateways[fleet.deployment]
            assert isinstance(decodes, DecodeGateway)
            if images:
                return ImagePromptGateway(*given, decodes, **images)
            return _kind(PromptGateway, spec)(*given, decodes)
        if spec.prefill is not None:
            prompts = self._fleets[fleet.name + PREFILL]
            most = spec.prefill.per_replica or inf
            road = self._roads.between(prompts, fleet, spec.prefill.link, most)
            return _decode_gateway(self._env, router, fleet, road)
        return ImageGateway(*given, **images) if images else _kind(Gateway, spec)(*given)

    def _images(self, fleet: Fleet) -> dict[str, Any]:
        """Return what the pool that requests come to knows of the one that encodes images."""
        encoder = fleet.spec.encoder
        if encoder is None or fleet is not self.entered[fleet.deployment]:
            return {}
        eyes = self._fleets[fleet.deployment + ENCODE]
        return {
            "encoders": self.gateways[eyes.name],
            "image_bytes": eyes.image_bytes,
            "road": self._roads.between(eyes, fleet, encoder.named_link, inf),
        }

    def _kind_of_replica(self, fleet: Fleet, gateway: Gateway) -> Callable[..., Replica]:
        """Return what makes a replica, by what its requests wait for beside its batch."""
        if fleet.computes_prompts:
            decodes = self.gateways[fleet.deployment]
            if isinstance(decodes, LayerwiseGateway):
                return partial(LayerwiseReplica, computing=decodes.computing)
        linked = isinstance(gateway, DecodeGateway | PromptGateway | ImageGateway)
        return LinkedReplica if linked else Replica


def _kind(kind: type[Kind], spec: Deployment) -> type[Kind]:
    """Return the class of a pool's gateway: of that kind, scaled or not."""
    return kind if spec.autoscaling is None else scaled(kind)


def _decode_gateway(env: Timetable, router: Router, fleet: Fleet, road: KvRoad) -> DecodeGateway:
    prefill = fleet.spec.prefill
    assert prefill is not None
    crossing = Crossing(
        road,
        fleet.prompt_bytes,
        prefill.first_token == "decode",
    )
    given = (env, router, fleet.spec.router.staleness, crossing)
    if prefill.overlap:
        return _kind(LayerwiseGateway, fleet.spec)(*given, layers=fleet.model.layers)
    return _kind(DecodeGateway, fleet.spec)(*given)


def _staff(
    gateway: Gateway,
    kind: Callable[..., Replica],
    batch_of: Callable[[Speed], Batch],
    fleet: Fleet,
    step_time: StepTimes,
    debug: bool,
) -> None:
    """Give a gateway its replicas."""
    speed_at = speeds(fleet, step_time)
    for number, gpus in enumerate(fleet.replicas):
        make = partial(batch_of, speed_at(1.0))
        stages = len(fleet.stages)
        batch = in_lockstep(fleet.ranks, make) if stages == 1 else in_turns(stages, make)
        indices = [gpu.index for gpu in gpus]
        gateway.adopt(kind(gateway.env, number, indices, batch, speed_at, gateway.leave, debug))


def speeds(fleet: Fleet, step_time: StepTimes) -> Callable[[float], Speed]:
    """Return what tells the speed of a fleet at a clock, each worked out once."""
    return cache(lambda clock: Speed(step_time(fleet, clock), fleet.power.at(clock)))


def _compiled(
    env: Timetable,
    fleet: Fleet,
    speed_at: Callable[[float], Speed],
    gaps: GapHistogram,
    seed: np.random.SeedSequence,
    workers: int,
    branches: Mapping[range, Branch] | None,
) -> Gateway:
    # Here, since numba takes a second to import.
    from factory_sim.factory.kernel.desk import Desk
    from factory_sim.factory.kernel.far import far_pods
    from factory_sim.factory.kernel.gateway import CompiledGateway
    from factory_sim.factory.kernel.pods import compiled_pods

    if len(fleet.pods) > 1:
        if branches is not None:
            return far_pods(env, fleet, gaps, seed, branches)
        return compiled_pods(env, fleet, speed_at, gaps, seed, workers)
    gpus = [[gpu.index for gpu in each] for each in fleet.replicas]
    desk = Desk(env, fleet, len(gpus), speed_at, gaps, np.random.PCG64(seed))
    return CompiledGateway(env, desk, gpus)


def _pods(env: Timetable, fleet: Fleet, seed: np.random.SeedSequence) -> Gateway:
    spec = fleet.spec.router
    sizes = fleet.pods
    dealt, *routed = seed.spawn(1 + len(sizes))
    pods, first = [], 0
    for size, own in zip(sizes, routed, strict=True):
        router = ROUTING[spec.policy](np.random.default_rng(own))
        pods.append(Pod(env, router, spec.staleness, first))
        first += size
    return Pods(env, pods, sizes, dealt)
