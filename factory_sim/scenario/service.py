"""What is wrong with who is served how: classes, priorities, tenants, promises without a use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from factory_sim.errors import Problem
from factory_sim.scenario.scheduling import Scheduling

if TYPE_CHECKING:
    from factory_sim.scenario.scenario import Scenario
    from factory_sim.scenario.workload import WorkloadSpec


def misuse(scenario: Scenario) -> Iterator[Problem]:
    """Yield what nothing would look at, or what is looked at and not there."""
    classes = scenario.classes or {}
    named = {name: spec.class_ for name, spec in scenario.workload.items() if spec.class_}
    missing = {name: tier for name, tier in named.items() if tier not in classes}
    for name, tier in missing.items():
        known = f"known: {', '.join(classes)}" if classes else "the scenario has no 'classes'"
        yield Problem(f"workload.{name}.class", f"there is no class '{tier}'; {known}")
    if missing:
        return
    for tier in classes:
        users = [name for name, of in named.items() if of == tier]
        if not users:
            yield Problem(
                f"classes.{tier}", "no workload is of this class; name it, or leave the class out"
            )
        elif tier in scenario.workload and tier not in users:
            yield Problem(
                f"classes.{tier}",
                f"workload '{tier}', which is not of this class, has the same name, and the "
                "summary could not tell them apart; rename one",
            )
        else:
            yield from _priority_without_use(scenario, tier, users)
    for deployment in scenario.deployments:
        yield from _in_queue(scenario, deployment)
    yield from _answers_at_once(scenario)


def _policy(scenario: Scenario, deployment: str) -> Scheduling:
    return scenario.deployments[deployment].front_engine.scheduling or Scheduling()


def _priority_without_use(scenario: Scenario, tier: str, users: list[str]) -> Iterator[Problem]:
    to = {deployment for name in users for deployment in scenario.reach(name)}
    asked = any(_policy(scenario, name).policy == "priority" for name in to)
    if (scenario.classes or {})[tier].priority is not None and not asked:
        yield Problem(
            f"classes.{tier}.priority",
            f"no queue asks for it; leave it out, or say 'scheduling: priority' in the engine of "
            f"{', '.join(sorted(to))}",
        )


def _in_queue(scenario: Scenario, deployment: str) -> Iterator[Problem]:
    """Yield why an order of the queue would be that of arrival."""
    sent = {n: spec for n, spec in scenario.workload.items() if deployment in scenario.reach(n)}
    classes, spec = scenario.classes or {}, _policy(scenario, deployment)
    where = f"deployments.{deployment}.engine.scheduling"
    own = scenario.deployments[deployment]
    if own.slo is not None and sent:
        tiers = [classes[s.class_] if s.class_ else None for s in sent.values()]
        if all(tier is not None and tier.slo is not None for tier in tiers):
            yield Problem(
                f"deployments.{deployment}.slo",
                "the class of every workload promises something else; leave it out",
            )
    if spec.policy == "priority":
        priorities = {(classes[s.class_].priority or 0) if s.class_ else 0 for s in sent.values()}
        if len(priorities) < 2:
            yield Problem(
                where,
                f"all requests to {deployment} have the same priority, so that the order is that "
                "of arrival; give its workloads classes of several priorities, or take 'fcfs'",
            )
    elif spec.policy == "edf":
        promises = [scenario.promise_to(name) for name in sent]
        limits = {promise.ttft if promise else None for promise in promises}
        if limits <= {None}:
            yield Problem(
                where,
                f"no request to {deployment} is promised a TTFT, so that there are no deadlines; "
                "give its classes an slo with 'ttft', or take 'fcfs'",
            )
        elif len(limits) < 2 and not spec.refuse_late:
            yield Problem(
                where,
                f"all requests to {deployment} are promised the same TTFT, so that the order is "
                "that of arrival; give its workloads classes of several promises, say "
                "'refuse_late: true', or take 'fcfs'",
            )
    elif spec.policy == "fair" and len(tenants_of(sent)) < 2:
        yield Problem(
            where,
            f"all requests to {deployment} are of one tenant, so that the order is that of "
            "arrival; give a workload 'tenants', or take 'fcfs'",
        )


def _answers_at_once(scenario: Scenario) -> Iterator[Problem]:
    """Yield promises of a first token of the answer where that is the first of all."""
    holders = {f"classes.{name}.slo": tier.slo for name, tier in (scenario.classes or {}).items()}
    holders |= {f"deployments.{name}.slo": each.slo for name, each in scenario.deployments.items()}
    for where, slo in holders.items():
        told = [s for name, s in scenario.workload.items() if scenario.promise_to(name) is slo]
        if slo is not None and slo.ttfo is not None and not any(s.reasons for s in told):
            yield Problem(
                f"{where}.ttfo",
                "none of the requests that are promised it reason before they answer, so that it "
                "is their ttft; give ttft, or a workload 'reasoning'",
            )


def tenants_of(workload: dict[str, WorkloadSpec]) -> list[str]:
    """Return the tenants of some workloads, by name, each once."""
    found: dict[str, None] = {}
    for name, spec in workload.items():
        found |= dict.fromkeys(spec.tenants.weights(name) if spec.tenants else [name])
    return list(found)
