"""What a scenario comes to before it runs: room for the cache, watts, racks, ideal rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from factory_sim.errors import InputError, Problem
from factory_sim.factory.build import step_time_of
from factory_sim.factory.failures.chance import check_failures
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import Layout, fleets_of, lay_out_sites
from factory_sim.factory.network.review import fabric_section
from factory_sim.factory.prefixes import caches_prefixes, caching_pools, sent_to
from factory_sim.factory.review import Section
from factory_sim.factory.review.deployment import crossing, deployment, encoder, swapping
from factory_sim.factory.review.money import costs
from factory_sim.factory.review.site import power, site
from factory_sim.factory.review.training import training
from factory_sim.factory.review.workload import Asked, asked_by, together, workload
from factory_sim.scenario.scenario import Scenario


@dataclass(frozen=True)
class Check:
    """What a scenario comes to, in sections of labelled lines, and every problem found."""

    sections: dict[str, Section] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def check(scenario: Scenario) -> Check:
    """Return what `scenario` comes to, without running it."""
    problems: list[Problem] = []
    sections: dict[str, Section] = {}
    asked: dict[str, Asked] = {}
    for name in scenario.workload:
        try:
            asked[name] = asked_by(scenario, name, _keeps_prefixes(scenario, name))
            sections[f"Workload {name}"] = workload(scenario, name, asked[name])
        except InputError as error:
            problems += error.problems
    try:
        layouts = lay_out_sites(scenario)
    except InputError as error:
        return Check({}, (*error.problems, *problems))
    for refused in (check_failures, _check_kernel):
        try:
            refused(layouts)
        except InputError as error:
            problems += error.problems
    found: dict[str, Section] = {}
    for layout in layouts:
        of = f" of {layout.part.name}" if layout.part.name else ""
        found |= {f"Site{of}": site(layout), f"Power{of}": power(layout)}
        if layout.terms is not None:
            found[f"Costs{of}"] = costs(layout)
        wiring = layout.wiring()
        if wiring is not None:
            found[f"Fabric{of}"] = fabric_section(wiring, layout.fleets)
    for fleet in fleets_of(layouts):
        heading = f"Deployment {fleet.deployment}"
        if fleet.encodes:
            found[f"{heading}, encoder"] = encoder(scenario, fleet)
            continue
        if fleet.computes_prompts:
            heading += ", prefill"
        try:
            found[heading] = _pool(scenario, fleet, asked)
        except InputError as error:
            problems += error.problems
        problems += _too_long(scenario, fleet, asked)
    for holding in (holding for layout in layouts for holding in layout.holdings):
        found[f"Training {holding.name}"] = training(holding)
    return Check(found | sections, tuple(problems))


def _check_kernel(layouts: Sequence[Layout]) -> None:
    """Raise InputError where the compiled kernel is asked for and cannot serve."""
    scenario, fleets = layouts[0].part.whole, fleets_of(layouts)
    if scenario.kernel == "compiled":
        # Here, since numba takes a second to import.
        from factory_sim.factory.kernel.choice import beyond

        caching = caching_pools(scenario, fleets)
        beyond(layouts, scenario.kernel, caching, step_time_of, debug=False)


def asked_of(scenario: Scenario, fleet: Fleet, asked: Mapping[str, Asked]) -> Asked | None:
    """Return what workloads ask of a pool together, if any of them do. asked: by workload."""
    return together(
        [
            # Whom a service will ask is not known.
            asked[name] if len(scenario.reach(name)) == 1 else asked[name]._replace(per_s=None)
            for name in dict(sent_to(scenario, fleet))
            if name in asked
        ]
    )


def asked_by_all(scenario: Scenario) -> dict[str, Asked]:
    """Return what each workload asks. Raises InputError for what cannot be read or drawn."""
    names = scenario.workload
    return {name: asked_by(scenario, name, _keeps_prefixes(scenario, name)) for name in names}


def _pool(scenario: Scenario, fleet: Fleet, asked: Mapping[str, Asked]) -> Section:
    """Return what a pool comes to. asked: by those workloads that can be read."""
    sent = dict(sent_to(scenario, fleet))
    mean = asked_of(scenario, fleet, asked)
    rows = deployment(fleet, mean)
    if fleet.spec.prefill is not None:
        rows |= crossing(scenario, fleet, mean)
    rows |= swapping(fleet)
    if sent.keys() <= asked.keys() and caches_prefixes(scenario, fleet):
        sessions = any(spec.sessions for spec in sent.values())
        rows["prefix cache"] = (
            f"on: {'sessions go on from what was said' if sessions else 'prompts carry hashes'}"
        )
    return rows


def _too_long(scenario: Scenario, fleet: Fleet, asked: Mapping[str, Asked]) -> Iterator[Problem]:
    """Yield workloads whose mean request is longer than a pool takes."""
    for name, each in asked.items():
        if fleet.deployment not in scenario.reach(name):
            continue
        if each.prompt + (1 if fleet.computes_prompts else each.output) > fleet.longest:
            yield Problem(
                f"workload.{name}",
                f"a mean request has {each.prompt + each.output:,.0f} tokens, and {fleet.name} "
                f"takes at most {fleet.longest:,}: nearly all would be rejected; shorten them, or "
                "give the replicas more memory or another model",
            )


def _keeps_prefixes(scenario: Scenario, workload: str) -> bool:
    """Tell whether all replicas that a workload may come to may keep what was said."""
    reached = [scenario.deployments[name] for name in scenario.reach(workload)]
    return all(deployment.front_engine.prefix_caching is not False for deployment in reached)
