"""What a scenario comes to before it runs: room for the cache, watts, racks, ideal rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.factory.failures.chance import check_failures
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.network.review import fabric_section
from factory_sim.factory.prefixes import caches_prefixes, sent_to
from factory_sim.factory.review import Section
from factory_sim.factory.review.deployment import crossing, deployment, encoder, swapping
from factory_sim.factory.review.site import power, site
from factory_sim.factory.review.training import training
from factory_sim.factory.review.workload import offered_per_s, workload
from factory_sim.scenario.scenario import Scenario
from factory_sim.workload.sometimes import mean_images
from factory_sim.workload.stream import mean_lengths


@dataclass(frozen=True)
class Check:
    """What a scenario comes to, in sections of labelled lines, and every problem found."""

    sections: dict[str, Section] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def check(scenario: Scenario) -> Check:
    """Return what `scenario` comes to, without running it."""
    problems: list[Problem] = []
    sections: dict[str, Section] = {}
    lengths: dict[str, tuple[float, float, float]] = {}
    for name, spec in scenario.workload.items():
        try:
            lengths[name] = mean_lengths(
                spec,
                scenario.facts,
                Path(),
                f"workload.{name}",
                scenario.duration,
                keeps=_keeps_prefixes(scenario, name),
            )
            sections[f"Workload {name}"] = workload(scenario, name, lengths[name])
        except InputError as error:
            problems += error.problems
    try:
        layouts = lay_out_sites(scenario)
    except InputError as error:
        return Check({}, (*error.problems, *problems))
    try:
        check_failures(layouts)
    except InputError as error:
        problems += error.problems
    found: dict[str, Section] = {}
    for layout in layouts:
        of = f" of {layout.part.name}" if layout.part.name else ""
        found |= {f"Site{of}": site(layout), f"Power{of}": power(layout)}
        wiring = layout.wiring()
        if wiring is not None:
            found[f"Fabric{of}"] = fabric_section(wiring, layout.fleets)
    for fleet in fleets_of(layouts):
        sent = [n for n in lengths if fleet.deployment in scenario.reach(n)]
        if fleet.encodes:
            found[f"Deployment {fleet.deployment}, encoder"] = encoder(scenario, fleet)
            continue
        own = [lengths[n] for n in sent]
        mean, offered, images = _asked(scenario, sent, lengths)
        heading = f"Deployment {fleet.deployment}"
        if fleet.computes_prompts:
            heading += ", prefill"
        found[heading] = deployment(fleet, mean, offered, images)
        if fleet.spec.prefill is not None:
            found[heading] |= crossing(scenario, fleet, mean)
        try:
            found[heading] |= swapping(fleet)
        except InputError as error:
            problems += error.problems
        if len(own) == len(list(sent_to(scenario, fleet))):  # all of them can be read
            try:
                if caches_prefixes(scenario, fleet):
                    sessions = any(spec.sessions for _, spec in sent_to(scenario, fleet))
                    known = "sessions go on from what was said" if sessions else ""
                    found[heading]["prefix cache"] = f"on: {known or 'prompts carry hashes'}"
            except InputError as error:
                problems += error.problems
        for name in sent:
            prompt, output, _ = lengths[name]
            if prompt + (1 if fleet.computes_prompts else output) > fleet.longest:
                problems.append(
                    Problem(
                        f"workload.{name}",
                        f"a mean request has {prompt + output:,.0f} tokens, and {fleet.name} takes "
                        f"at most {fleet.longest:,}: nearly all would be rejected; shorten them, "
                        "or give the replicas more memory or another model",
                    )
                )
    for holding in (holding for layout in layouts for holding in layout.holdings):
        found[f"Training {holding.name}"] = training(holding)
    return Check(found | sections, tuple(problems))


def _asked(
    scenario: Scenario, sent: list[str], lengths: dict[str, tuple[float, float, float]]
) -> tuple[tuple[float, float, float] | None, float | None, float]:
    """Return the mean lengths of what comes to a deployment, how many requests a second, and images
    of one in the mean.

    The rate is None where a closed loop or a service, which asks whom it likes, has a part in it;
    lengths are then those of the first workload.
    """
    if not sent:
        return None, None, 0.0
    shown = [mean_images(scenario.workload[n].images) for n in sent]
    rates = [offered_per_s(scenario, n) if len(scenario.reach(n)) == 1 else None for n in sent]
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(rates) or not sum(known):
        return lengths[sent[0]], None, shown[0]
    means = np.average([lengths[n] for n in sent], axis=0, weights=known)
    images = float(np.average(shown, weights=known))
    return (float(means[0]), float(means[1]), float(means[2])), sum(known), images


def _keeps_prefixes(scenario: Scenario, workload: str) -> bool:
    """Tell whether all replicas that a workload may come to may keep what was said."""
    reached = [scenario.deployments[name] for name in scenario.reach(workload)]
    return all(deployment.front_engine.prefix_caching is not False for deployment in reached)
