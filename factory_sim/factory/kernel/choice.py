"""Which engine serves a deployment, and why not the kernel where it does not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.kernel.compiled import missing
from factory_sim.factory.kernel.floor import ROUTER_NUMBER
from factory_sim.factory.layout import Layout
from factory_sim.factory.pools import StepTimes
from factory_sim.physics.step_time import Roofline
from factory_sim.scenario.arrivals import ClosedArrivals
from factory_sim.scenario.scenario import Scenario


def beyond(
    layouts: Sequence[Layout],
    kernel: str,
    caching: Collection[str],
    step_time: StepTimes,
    debug: bool,
) -> dict[str, str]:
    """Return of each pool what of it the kernel cannot do; empty where it is to serve it.

    layouts: of all sites. kernel: `auto` or `compiled`. caching: pools with a prefix cache. debug:
    whether everything is recounted at every boundary. Raises InputError where the kernel is asked
    for and cannot serve.
    """
    found = {}
    for layout in layouts:
        for fleet in layout.fleets:
            reasons = [missing()] if missing() else []
            if debug:
                reasons.append("debug recounts at every boundary")
            reasons += _of_scenario(layout.part.whole, fleet)
            reasons += _of_pool(layout, fleet, fleet.name in caching)
            # A step time may be dear to make, or may refuse what it cannot know.
            reasons = reasons or list(_of_step_time(fleet, step_time))
            found[fleet.name] = ", ".join(reasons)
    problems = [
        Problem(
            "kernel",
            f"the compiled kernel cannot serve {name}: {why}; say 'auto', which takes SimPy where "
            "it must",
        )
        for name, why in found.items()
        if why and kernel == "compiled"
    ]
    if problems:
        raise InputError(problems)
    return found


def _of_pool(layout: Layout, fleet: Fleet, caches: bool) -> Iterator[str]:
    """Yield what of the replicas, and of how they batch, only SimPy can do."""
    spec = fleet.spec
    whole = layout.part.whole.deployments[fleet.deployment]
    if whole.prefill is not None:
        yield "prefill in a pool of its own"
    if whole.encoder is not None:
        yield "a pool that encodes images (encoder)"
    if spec.autoscaling is not None:
        yield "autoscaling"
    if spec.partition is not None:
        yield "parts of GPUs (partition)"
    for name, ways in (
        ("data-parallel attention (parallelism.dp)", spec.parallelism.dp),
        ("a pipeline (parallelism.pp)", spec.parallelism.pp),
        ("context parallelism (parallelism.cp)", spec.parallelism.cp),
    ):
        if ways > 1:
            yield name
    if fleet.drafting is not None:
        yield "drafts (engine.speculation)"
    if caches:
        yield "a prefix cache"
    yield from (f"KV blocks kept elsewhere (engine.{tier})" for tier in spec.engine.cache_tiers)
    scheduling = spec.engine.scheduling
    if scheduling is not None and scheduling.policy != "fcfs":
        yield f"the order of its queue (engine.scheduling: {scheduling.policy})"
    if spec.engine.preemption == "swap":
        yield "swapping (engine.preemption)"
    if spec.router.policy not in ROUTER_NUMBER:
        yield f"router {spec.router.policy}"
    if any(layout.site.rack(r[0].index).gpu_limit_w < fleet.power.tdp_w for r in fleet.replicas):
        yield "GPUs with a power limit of their own (racks.gpu_limit)"


def _of_scenario(scenario: Scenario, fleet: Fleet) -> Iterator[str]:
    """Yield what of who sends requests, and of the way they take, only SimPy can do."""
    # Front doors follow every request by its number, as it comes.
    if scenario.services is not None:
        yield "front doors of services"
    if scenario.regions is not None:
        yield "front doors of regions"
    for name, spec in scenario.deployments.items():
        if spec.users_link is not None:
            yield f"front doors of links to users (deployments.{name}.users_link)"
    here = [w for n, w in scenario.workload.items() if fleet.deployment in scenario.reach(n)]
    fixed = [w for w in here if w.arrivals.process in ("offline", "trace", "constant")]
    if len(fleet.pods) > 1 and len(fixed) > 1:
        # A pod knows its own hand of each, not in which turn they come at a site.
        yield "workloads that may send in the same instant, to pods (router.pods)"
    for name, work in scenario.workload.items():
        where = f"(workload.{name})"
        closed, sessions = isinstance(work.arrivals, ClosedArrivals), work.sessions is not None
        if fleet.deployment not in scenario.reach(name):
            # These number requests as they are sent; what is served far ahead knows only arrivals.
            if closed or sessions:
                yield f"clients elsewhere who wait for answers {where}"
            continue
        if closed:
            yield f"clients who wait for answers {where}"
        if sessions:
            yield f"sessions {where}"
        if work.tenants is not None:
            yield f"tenants {where}"
        if work.reasons:
            yield f"reasoning {where}"
        if work.pictures:
            yield f"images {where}"


def _of_step_time(fleet: Fleet, step_times: StepTimes) -> Iterator[str]:
    """Yield why only SimPy can tell how long steps take."""
    step_time = step_times(fleet, 1.0)
    if type(step_time) is not Roofline:
        yield f"step times that are no plain roofline ({type(step_time).__name__})"
    elif fleet.model.sparse is not None:
        yield f"sparse attention of {fleet.model.name}"
    elif step_time.window:
        yield f"sliding windows of {fleet.model.name}"
