"""Pools of replicas behind their gateways, and the links between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
from factory_sim.factory.layerwise import LayerwiseGateway, LayerwiseReplica
from factory_sim.factory.layout import Layout
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.network.fabric import Fabric
from factory_sim.factory.network.kv import KvOverFabric, KvOverLink, KvRoad
from factory_sim.factory.network.link import Link
from factory_sim.factory.replica import Replica, Speed
from factory_sim.factory.routing import ROUTING, Router
from factory_sim.factory.scaling.gateway import ScaledGateway
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.physics.step_time import StepTime

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
) -> Pools:
    """Open every pool of a factory.

    layouts: of its sites; all_fleets: of all these. caching: those with a prefix cache. reasoning:
    deployments with requests that reason. seeds: of
    the routers and of drafts. debug: recount at every boundary.
    """
    network = layouts[0].part.whole.network
    wirings = {layout.part.name: layout.wiring() for layout in layouts}
    fabrics = {site: Fabric(env, wiring) for site, wiring in wirings.items() if wiring}
    links = {
        name: Link(env, name, spec.bandwidth, spec.latency)
        for name, spec in (network.links if network else {}).items()
    }
    fleets = {fleet.name: fleet for fleet in all_fleets}
    gaps = {name: GapHistogram() for name in fleets}
    gateways: dict[str, Gateway] = {}
    entered = entrances(all_fleets)
    # A pool that computes prompts comes after the one that decodes, which it sends to, and after
    # the one that encodes images, which it asks.
    routing, drafting = (seed.spawn(len(fleets)) for seed in seeds)
    drawn_for = list(zip(all_fleets, routing, drafting, strict=True))
    for fleet, own, drawn in sorted(drawn_for, key=lambda each: not each[0].encodes):
        spec = fleet.spec
        router = ROUTING[spec.router.policy](np.random.default_rng(own))
        if fleet.encodes:
            gateways[fleet.name] = encoders = EncodeGateway(env, router, spec.router.staleness)
            goes_on = (entered[fleet.deployment], fleets[fleet.deployment])
            encodes = encode_batches_of(fleet, *goes_on, gaps[fleet.name])
            _staff(encoders, Replica, encodes, fleet, step_time, debug)
            continue
        kind: type[Replica] = LinkedReplica
        decoding = None
        images: dict[str, Any] = {}
        if fleet is entered[fleet.deployment] and fleet.spec.encoder is not None:
            eyes = fleets[fleet.deployment + ENCODE]
            images["encoders"] = gateways[eyes.name]
            images["image_bytes"] = eyes.image_bytes
            link = fleet.spec.encoder.named_link
            images["road"] = _road(link, inf, eyes, fleet, links, fabrics)
        if fleet.computes_prompts:
            decoding = fleets[fleet.deployment]
            decodes = gateways[fleet.deployment]
            assert isinstance(decodes, DecodeGateway)
            kind = LayerwiseReplica if isinstance(decodes, LayerwiseGateway) else kind
            prompts = (env, router, spec.router.staleness, decodes)
            gateway: Gateway
            gateway = ImagePromptGateway(*prompts, **images) if images else PromptGateway(*prompts)
        elif spec.prefill is not None:
            way = (spec.prefill.link, spec.prefill.per_replica or inf)
            road = _road(*way, fleets[fleet.name + PREFILL], fleet, links, fabrics)
            gateway = _decode_gateway(env, router, fleet, road)
        elif images:
            gateway = ImageGateway(env, router, spec.router.staleness, **images)
        else:
            opened = Gateway if spec.autoscaling is None else ScaledGateway
            gateway = opened(env, router, spec.router.staleness)
            kind = Replica
        batch = batches_of(fleet, fleet.name in caching, decoding, drawn, gaps[fleet.name])
        _staff(gateway, kind, batch, fleet, step_time, debug)
        for replica in gateway.replicas:
            if isinstance(replica, LayerwiseReplica):
                assert isinstance(decodes, LayerwiseGateway)
                replica.computing = decodes.computing
        if fleet.deployment in reasoning:
            for replica in gateway.replicas:
                replica.batch.note_answers()
        if fleet.vision is not None:
            for replica in gateway.replicas:
                assert isinstance(replica.batch, Batch)
                replica.batch.sees = True
        gateways[fleet.name] = gateway
    fronts = {name: gateways[fleet.name] for name, fleet in entered.items()}
    gateways = {name: gateways[name] for name in fleets}
    return Pools(gateways, fronts, links, fabrics, gaps)


def _road(
    link: str | None,
    per_replica: float,
    senders: Fleet,
    receivers: Fleet,
    links: dict[str, Link],
    fabrics: dict[str, Fabric],
) -> KvRoad:
    """Return what crosses from pool to pool on: the link that a deployment names, or the fabric."""
    if link is not None:
        return KvOverLink(links[link], senders.name, per_replica)
    fabric = fabrics[receivers.spec.site or ""]
    return KvOverFabric(fabric, senders.replicas, receivers.replicas)


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
        return LayerwiseGateway(*given, layers=fleet.model.layers)
    return DecodeGateway(*given)


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
        make = partial(batch_of, speed_at(1.0))
        stages = len(fleet.stages)
        batch = in_lockstep(fleet.ranks, make) if stages == 1 else in_turns(stages, make)
        indices = [gpu.index for gpu in gpus]
        gateway.adopt(kind(gateway.env, number, indices, batch, speed_at, gateway.leave, debug))
