"""Opening the front doors of a factory, where a scenario has services or regions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf

import numpy as np

from factory_sim.factory.clients import senders
from factory_sim.factory.dispatch import DISPATCH
from factory_sim.factory.dispatch.alone import Alone
from factory_sim.factory.dispatch.front_door import Counter, FrontDoor
from factory_sim.factory.dispatch.protocol import Dispatcher, Surroundings
from factory_sim.factory.dispatch.uploading import Sizes, UploadingDoor
from factory_sim.factory.engine.request import Request
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.network.link import Link
from factory_sim.factory.timetable import Timetable
from factory_sim.physics.delivery import Line, flow_bytes_per_s
from factory_sim.physics.upload import upload_bytes
from factory_sim.scenario.regions import Region
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.uploads import uploads_timed
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.stream import DELIVERY, DISPATCH_DRAWS, REGIONS


def open_doors(
    env: Timetable,
    scenario: Scenario,
    fleets: Sequence[Fleet],
    fronts: Mapping[str, Gateway],
    links: Mapping[str, Link],
    seeds: Mapping[str, np.random.SeedSequence],
) -> dict[str, FrontDoor]:
    """Return the front door of every workload; none where requests go straight to deployments.

    fronts: the gateways that clients of each deployment see. links: of the network. seeds: of the
    workloads.
    """
    uploads = {name for name in scenario.workload if uploads_timed(scenario, name)}
    if scenario.services is None and scenario.regions is None and not uploads:
        return {}
    # The last pool of a deployment is the one that requests come to.
    hosts = {fleet.deployment: fleet.host for fleet in fleets}
    counters = {
        name: Counter(number, gateway, hosts[name].per_request_s, scenario.site_of(name))
        for number, (name, gateway) in enumerate(fronts.items())
    }
    found = {}
    for name, spec in scenario.workload.items():
        seed, reach = seeds[name], scenario.reach(name)
        regions = scenario.regions or {}
        lines = [
            [line_of(region, deployment) for region in regions.values()] or [Line(spec.round_trip)]
            for deployment in reach
        ]
        offers = [counters[deployment] for deployment in reach]
        around = Surroundings(
            reach,
            offers,
            scenario.class_of(name),
            [[line.round_trip_s for line in row] for row in lines],
            _number(seed, DISPATCH_DRAWS),
        )
        door = (
            env,
            offers,
            _policy(scenario, spec.deployment, around),
            lines,
            _regions(list(regions), scenario.shares_of(name), seed),
            _number(seed, DELIVERY),
        )
        if name not in uploads:
            found[name] = FrontDoor(*door)
            continue
        own = [scenario.deployments[deployment].users_link for deployment in reach]
        found[name] = UploadingDoor(
            *door,
            sizes=_sizes(spec),
            links=[None if link is None else links[link] for link in own],
            paces=[
                [user_pace(region, line_of(region, deployment)) for region in regions.values()]
                or [inf]
                for deployment in reach
            ],
        )
    return found


def _sizes(spec: WorkloadSpec) -> Sizes:
    """Return what gives the bytes that a request of a workload sends."""
    kinds = [kind.images for kind in spec.mix.values()] if spec.mix else [spec.images]
    each = [(seen.tokens, seen.size or 0.0) if seen else (0, 0.0) for seen in kinds]

    def size(request: Request) -> float:
        tokens, image_bytes = each[request.archetype]
        images = request.images
        return upload_bytes(request.prompt - images * tokens, images, image_bytes)

    return size


def line_of(region: Region, deployment: str) -> Line:
    """Return the line between the users of a region and a deployment, endless if none is sent."""
    known = not isinstance(region.round_trip, dict) or deployment in region.round_trip
    return Line(
        region.round_trip_to(deployment) if known else inf,
        region.jitter,
        region.loss,
        inf if region.last_mile is None else region.last_mile,
    )


def user_pace(region: Region, line: Line) -> float:
    """Return what a user of a region sends at the most, bytes/s, over the line to a deployment."""
    return min(inf if region.uplink is None else region.uplink, flow_bytes_per_s(line))


def _policy(scenario: Scenario, asked: str, around: Surroundings) -> Dispatcher:
    service = (scenario.services or {}).get(asked)
    return Alone() if service is None else DISPATCH[service.policy](service, around)


def _regions(
    names: list[str], shares: Mapping[str, float], seed: np.random.SeedSequence
) -> Iterator[int]:
    """Yield the region of one request after another, by the shares of the workload."""
    numbers = [names.index(name) for name in shares] or [0]
    return senders(numbers, list(shares.values()) or [1.0], _child(seed, REGIONS))


def _child(seed: np.random.SeedSequence, purpose: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, purpose))


def _number(seed: np.random.SeedSequence, purpose: int) -> int:
    return int(_child(seed, purpose).generate_state(1)[0])
