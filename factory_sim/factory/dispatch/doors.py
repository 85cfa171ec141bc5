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
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.timetable import Timetable
from factory_sim.physics.delivery import Line
from factory_sim.scenario.regions import Region
from factory_sim.scenario.scenario import Scenario
from factory_sim.workload.stream import DELIVERY, DISPATCH_DRAWS, REGIONS


def open_doors(
    env: Timetable,
    scenario: Scenario,
    fleets: Sequence[Fleet],
    fronts: Mapping[str, Gateway],
    seeds: Mapping[str, np.random.SeedSequence],
) -> dict[str, FrontDoor]:
    """Return the front door of every workload; none where requests go straight to deployments.

    fronts: the gateways that clients of each deployment see. seeds: of the workloads.
    """
    if scenario.services is None and scenario.regions is None:
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
        found[name] = FrontDoor(
            env,
            offers,
            _policy(scenario, spec.deployment, around),
            lines,
            _regions(list(regions), scenario.shares_of(name), seed),
            _number(seed, DELIVERY),
        )
    return found


def line_of(region: Region, deployment: str) -> Line:
    """Return the line between the users of a region and a deployment, endless if none is sent."""
    known = not isinstance(region.round_trip, dict) or deployment in region.round_trip
    return Line(
        region.round_trip_to(deployment) if known else inf,
        region.jitter,
        region.loss,
        inf if region.last_mile is None else region.last_mile,
    )


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
