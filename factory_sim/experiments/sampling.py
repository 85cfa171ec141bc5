"""A large site of which a share is simulated and stands for all, and how far that may be off.

Like tasting soup: a spoonful says enough of a pot that is stirred. Whole racks are simulated, with
their share of the requests, and whole pods where a deployment has some: a pod knows no other, so
that nothing but chance tells them apart, and `confidence` says how far. A deployment with one
router is not so well stirred: among few replicas it deals otherwise than among all. How much that
matters shows in a second run, of the same requests, whose router sees half of the few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.apart import simulate
from factory_sim.factory.fleets.fleet import Fleet, deployment_of
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.run import Progress, Run
from factory_sim.scenario.deployment import Represented
from factory_sim.scenario.load import plain, scenario_from
from factory_sim.scenario.scenario import Scenario

REACH = 1.0 / (math.sqrt(2.0) - 1.0)
"""Times what half the replicas change: what all the others may. What a router does to latencies
falls with the root of its replicas, as measured (docs/sampling.md), or faster."""

ALIKE = ("random",)
"""Routers that deal to a replica in the same way however many there are."""

NO_PODS = ("cache-aware", "sticky")

Summary = dict[str, Any]


def sample(
    scenario: Scenario,
    share: float = 0.05,
    progress: Callable[[Progress], None] | None = None,
    *,
    workers: int | None = None,
    dask: Any = None,
) -> Run:
    """Run about that share of a scenario's replicas, and have them stand for all.

    The summary's `confidence` holds half widths of the 95 % intervals of what a run of the whole
    site would have come to. Where a deployment has one router that looks at, or takes turns among,
    all its replicas, it is run twice, and `routing_bias`, by how much that may shift latencies, is
    part of them. progress, workers, dask: as of `simulate`.
    Raises InputError for what cannot be sampled.
    """
    few = sampled(scenario, share)
    run = simulate(few, progress, workers=workers, dask=dask)
    halved = _halved(few)
    if halved is None:
        return run
    other = simulate(halved, progress, workers=workers, dask=dask).summary
    summary = with_bias(run.summary, other)
    deployments = {
        name: with_bias(own, other["deployments"][name])
        for name, own in summary["deployments"].items()
    }
    return replace(run, summary={**summary, "deployments": deployments})


def sampled(scenario: Scenario, share: float) -> Scenario:
    """Return a scenario of which about that share of the replicas is simulated.

    Of each deployment: whole racks, at least one; of one with pods as many as whole pods fill, at
    least two. One that is no larger, or of which few stand for many already, stays as it is.
    Raises InputError for a share that is not above 0 and below 1, and for what cannot be sampled.
    """
    if not 0.0 < share < 1.0:
        raise InputError(
            Problem(
                "sample", f"must be above 0 and below 100 %, such as 5 %, not {100 * share:.4g} %"
            )
        )
    if scenario.failures is not None:
        raise InputError(
            Problem(
                "sample",
                "a rack that stands for many cannot fail for itself; leave out the failures "
                "(--set failures=null), or run the whole site",
            )
        )
    given = plain(scenario)
    fewer = False
    for fleet in fleets_of(lay_out_sites(scenario)):
        if fleet.name != deployment_of(fleet.name) or isinstance(fleet.spec.replicas, Represented):
            continue
        simulate_ = _replicas(fleet, share)
        if simulate_ < fleet.represented:
            fewer = True
            spec = given["deployments"][fleet.deployment]
            whole = fleet.spec.replicas
            spec["replicas"] = {"simulate": simulate_, "represent": whole}
    if not fewer:
        raise InputError(
            Problem(
                "sample",
                "a rack, and two pods where there are pods, is the least, and here that is all; "
                "run the whole site",
            )
        )
    try:
        return scenario_from(given)
    except InputError as error:
        raise InputError(Problem("sample", str(problem)) for problem in error.problems) from None


def _replicas(fleet: Fleet, share: float) -> int:
    """Return how many replicas of a fleet to simulate: they fill whole racks, and pods."""
    racks = len({gpus[0].rack for gpus in fleet.replicas})
    pods = len(fleet.pods)
    wanted = share if pods == 1 else max(2, round(share * pods)) / pods
    return min(racks, max(1, round(wanted * racks))) * fleet.represented // racks


def _halved(few: Scenario) -> Scenario | None:
    """Return a sampled scenario whose routers see half as many replicas; None where none cares."""
    given, cares = plain(few), False
    for fleet in fleets_of(lay_out_sites(few)):
        router = fleet.spec.router
        alone = fleet.scale > 1.0 and len(fleet.pods) == 1 and len(fleet.replicas) > 1
        if alone and router.policy not in (*ALIKE, *NO_PODS):
            cares = True
            pods = min(fleet.represented, max(2, round(2 * fleet.scale)))
            router = router.model_copy(update={"pods": pods})
            said = router.model_dump(mode="json", exclude_none=True)
            given["deployments"][fleet.deployment]["router"] = {
                key: value for key, value in said.items() if value
            }
    return scenario_from(given) if cares else None


def with_bias(summary: Mapping[str, Any], halved: Mapping[str, Any]) -> Summary:
    """Return a summary with `routing_bias`, which `confidence` then includes.

    halved: of the same requests where routers see half as many replicas.
    """
    bias: Summary = {}
    widths: Summary = {}
    for key, width in summary.get("confidence", {}).items():
        widths[key] = width
        if isinstance(width, Mapping) and key in halved:
            bias[key] = {
                name: REACH * abs(summary[key][name] - halved[key][name]) for name in width
            }
            widths[key] = {name: width[name] + bias[key][name] for name in width}
    return {**summary, "confidence": widths, "routing_bias": bias} if bias else dict(summary)
