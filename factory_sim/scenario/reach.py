"""What is wrong with who may ask which deployment from where: services and regions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from factory_sim.errors import Problem
from factory_sim.scenario.deployment import Represented
from factory_sim.scenario.dispatch import (
    ByClass,
    Cheapest,
    Cleanest,
    Fallback,
    Nearest,
)

if TYPE_CHECKING:
    from factory_sim.scenario.scenario import Scenario


def misled(scenario: Scenario) -> Iterator[Problem]:
    """Yield what is named and not there, named twice, or would change nothing."""
    for name in scenario.services or {}:
        problems = list(_of_service(scenario, name))
        yield from problems or _of_policy(scenario, name)
    yield from _of_regions(scenario)


def _of_service(scenario: Scenario, name: str) -> Iterator[Problem]:
    service, where = (scenario.services or {})[name], f"services.{name}"
    if name in scenario.deployments or name in (scenario.training or {}):
        kind = "deployment" if name in scenario.deployments else "training job"
        yield Problem(where, f"a {kind} has the same name; give the service another")
    for deployment in service.deployments:
        own = scenario.deployments.get(deployment)
        if own is None:
            known = ", ".join(scenario.deployments)
            yield Problem(
                f"{where}.deployments", f"there is no deployment '{deployment}'; known: {known}"
            )
        elif isinstance(own.replicas, Represented):
            yield Problem(
                f"deployments.{deployment}.replicas",
                f"service '{name}' sends it what others refuse or leave, so that every replica is "
                "simulated; give 'replicas' as one number",
            )
        elif own.engine.scheduling is not None and own.engine.scheduling.policy == "edf":
            promised = [n for n in scenario.workload if deployment in scenario.reach(n)]
            if not all(scenario.promise_to(n) for n in promised):
                yield Problem(
                    f"deployments.{deployment}.engine.scheduling",
                    f"requests to service '{name}' are promised nothing that a deadline could be "
                    "taken from; give their workloads a class with an 'slo', or take another order",
                )
    if not any(spec.deployment == name for spec in scenario.workload.values()):
        yield Problem(where, "no workload names it as its 'deployment'; name it, or leave it out")


def _of_policy(scenario: Scenario, name: str) -> Iterator[Problem]:
    service, where = (scenario.services or {})[name], f"services.{name}"
    if isinstance(service, ByClass):
        users = [n for n, spec in scenario.workload.items() if spec.deployment == name]
        classes = {scenario.class_of(n) for n in users}
        for missing in sorted(classes - set(service.routes)):
            yield Problem(
                f"{where}.routes", f"'{missing}' sends to it and has no route; add '{missing}: ...'"
            )
        for unused in sorted(set(service.routes) - classes):
            yield Problem(
                f"{where}.routes.{unused}", "no workload of this class, or name, sends to it"
            )
    elif isinstance(service, Nearest):
        regions = scenario.regions or {}
        if not any(
            len({region.round_trip_to(d) for d in service.deployments}) > 1
            for region in regions.values()
            if not isinstance(region.round_trip, dict)
            or set(service.deployments) <= set(region.round_trip)
        ):
            first = service.deployments[0]
            yield Problem(
                f"{where}.policy",
                "all its deployments are equally far from every region; give a region a round_trip "
                f"by deployment, such as {{{first}: 20 ms, ...}}, or take another policy",
            )
    elif isinstance(service, Cheapest | Cleanest):
        figure = "price" if isinstance(service, Cheapest) else "carbon"
        sites = [scenario.site_of(d) for d in service.deployments]
        if any(getattr(site, figure) is None for site in sites):
            yield Problem(f"{where}.policy", f"it compares {figure}, and a site says none; give it")
        elif all(site is sites[0] for site in sites):
            yield Problem(
                f"{where}.policy",
                f"all its deployments are at one site, with one {figure}; take another policy",
            )
        elif all(getattr(site, figure) == getattr(sites[0], figure) for site in sites):
            yield Problem(
                f"{where}.policy",
                f"{figure} is the same at all its sites at all times, so that the first is always "
                "asked; give one another, or take another policy",
            )
    elif isinstance(service, Fallback) and service.patience is not None:
        waits = [spec.timeout for spec in scenario.workload.values() if spec.deployment == name]
        if all(wait is not None and wait <= service.patience for wait in waits):
            yield Problem(
                f"{where}.patience",
                f"no client waits that long: the longest timeout of its workloads is "
                f"{max(wait or 0.0 for wait in waits):g} s; give less, or leave it out",
            )


def _of_regions(scenario: Scenario) -> Iterator[Problem]:
    regions = scenario.regions
    for name, spec in scenario.workload.items():
        if regions is None:
            if spec.regions is not None:
                yield Problem(f"workload.{name}.regions", "the scenario has no 'regions'")
            continue
        if spec.round_trip:
            yield Problem(
                f"workload.{name}.round_trip",
                "the regions say how far users are; leave it out, or leave out 'regions'",
            )
        for missing in sorted(set(spec.regions or {}) - set(regions)):
            yield Problem(
                f"workload.{name}.regions.{missing}",
                f"there is no such region; known: {', '.join(regions)}",
            )
    for name, region in (regions or {}).items():
        where = f"regions.{name}"
        users = [n for n, w in scenario.workload.items() if w.regions is None or name in w.regions]
        if not users:
            yield Problem(where, "no workload comes from it; leave it out, or name it in 'regions'")
        if isinstance(region.round_trip, dict):
            asked = {deployment for n in users for deployment in scenario.reach(n)}
            for deployment in sorted(asked - set(region.round_trip)):
                yield Problem(
                    f"{where}.round_trip", f"users from here may be sent to '{deployment}'; add it"
                )
            for deployment in sorted(set(region.round_trip) - asked):
                yield Problem(
                    f"{where}.round_trip.{deployment}", "no user from here is ever sent there"
                )
