"""OEE of a run: of each deployment, of each rack that was simulated, of each site, of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.pools import StepTimes
from factory_sim.factory.results.reading import Reading
from factory_sim.factory.review.deployment import best
from factory_sim.factory.review.workload import Asked
from factory_sim.metrics.answers import Answers, Sums
from factory_sim.metrics.oee import NOTHING, Tree, at_work_s, made_of, oee_of, tree_of
from factory_sim.metrics.share import Share
from factory_sim.metrics.totals import Totals
from factory_sim.scenario.scenario import Scenario

Summary = dict[str, Any]


def with_oee(
    summary: Summary,
    scenario: Scenario,
    fleets: Sequence[Fleet],
    shares: Sequence[Share],
    answers: Answers,
    readings: tuple[Reading, Reading],
    step_time: StepTimes,
) -> Summary:
    """Return a summary with the OEE of what made any tokens. readings: of the window's ends."""
    racks: dict[str, list[Tree]] = {}
    loads: dict[str, dict[str, float]] = {}
    pools: dict[str, list[Tree]] = {}
    for share, fleet in zip(shares, fleets, strict=True):
        own = answers.of([share.deployment])
        made = made_of([s for s in shares if s.deployment == share.deployment], own)
        best_s = host_share = 0.0
        if made is not None:
            best_s, host_share = _best(fleet, share, own.sums("measured"), step_time)
        before, after = (reading.totals[share.name] for reading in readings)
        each = [new.minus(old) for new, old in zip(after, before, strict=True)]
        weights = [_weight(totals, share) for totals in each]
        whole, seconds = sum(weights), scenario.duration - scenario.warmup
        there_s = len(fleet.replicas) * seconds
        loads.setdefault(share.deployment, {})[share.role] = best_s / there_s
        for index, (totals, weight) in enumerate(zip(each, weights, strict=True)):
            # The last may be what the pool waited for, and no replica.
            there = index < len(fleet.replicas)
            part_s = best_s * weight / whole if whole else 0.0
            gpus = share.scale * share.gpus_per_replica
            tree = tree_of(totals, gpus, seconds * there, part_s, host_share, made or NOTHING)
            pools.setdefault(share.deployment, []).append(tree)
            if there:
                racks.setdefault(fleet.replicas[index][0].rack, []).append(tree)
    told = summary | oee_of([tree for trees in pools.values() for tree in trees])
    told["deployments"] = {
        name: part | oee_of(pools[name]) | _loads(scenario, name, loads[name], summary)
        for name, part in summary["deployments"].items()
    }
    if "sites" in summary:
        told["sites"] = {
            name: part | oee_of([t for d in part["deployments"] for t in pools.get(d, [])])
            for name, part in summary["sites"].items()
        }
    found = {name: oee_of(trees) for name, trees in racks.items()}
    if len(found) > 1:
        told["oee_racks"] = {name: each["oee"] for name, each in found.items() if each}
    return told


def _loads(scenario: Scenario, name: str, own: dict[str, float], summary: Summary) -> Summary:
    """Return how busy the pools of a deployment, and the link between them, would be at their best.

    The one that is busiest sets the pace.
    """
    prefill = scenario.deployments[name].prefill
    if prefill is not None and prefill.link is not None:
        link = summary["links"][prefill.link]["utilisation"]["mean"]
        own = own | {"transfer": link}
    found: Summary = {"station_loads": own}
    if any(own.values()):
        found["bottleneck_station"] = max(own, key=lambda station: own[station])
    return found


def _weight(totals: Totals, share: Share) -> float:
    """Return in which proportion a replica did its pool's work: by tokens, or else by time."""
    return totals.output_tokens if "decode" in share.role else at_work_s(totals)


def _best(fleet: Fleet, share: Share, measured: Sums, step_time: StepTimes) -> tuple[float, float]:
    """Return the replica-seconds that a pool's work would take at its best, of those simulated,
    and what hosts take of a step then.

    The work is that of mean requests of the window; encoders are at their best whenever they work.
    """
    many = measured.requests
    prompt, output = measured.prompt / many, max(measured.output / many, 1.0)
    if fleet.encodes:
        return share.totals.busy_s / share.scale, 1.0
    images = measured.images / many
    found = min(measured.cached / many, prompt - 1.0)
    state = best(fleet, Asked(prompt, output, found, images, None), make=step_time)
    served = share.totals.output_tokens / output
    if "decode" not in share.role:
        served = share.input_tokens / prompt
    rate = state.requests_per_s * fleet.batches
    return served / share.scale / rate, state.host_share
