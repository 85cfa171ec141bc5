"""What each pool and each training job did between two readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from factory_sim.factory.build import Factory
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.results.reading import Reading
from factory_sim.factory.results.stays import Stays
from factory_sim.factory.training.job import Job
from factory_sim.metrics.requests import Promise, Tariff, Tier
from factory_sim.metrics.share import Batched, Share
from factory_sim.metrics.statistics import Floats
from factory_sim.metrics.totals import Totals
from factory_sim.metrics.training import TrainingShare, TrainingTotals
from factory_sim.metrics.trips import Trips, ordered
from factory_sim.metrics.trips_summary import ServiceUse
from factory_sim.scenario.deployment import Slo
from factory_sim.scenario.dispatch import Cascade
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.uploads import uploads_timed


def tiers_of(scenario: Scenario) -> dict[str, Tier]:
    """Return the tier of each workload; none where there are no classes."""
    found = {}
    for name in scenario.workload if scenario.classes else ():
        promise = scenario.promise_to(name)
        found[name] = Tier(
            scenario.class_of(name),
            promise_of(promise) if promise else None,
            promise.percentile if promise else 99.0,
        )
    return found


def tariffs_of(scenario: Scenario) -> dict[str, Tariff]:
    """Return what each workload that has a price pays."""
    found = {}
    for name in scenario.workload:
        price = scenario.price_of(name)
        if price is not None:
            cached = price.input if price.cached is None else price.cached
            found[name] = Tariff(price.input, cached, price.output, price.within_slo)
    return found


def trips_of(factory: Factory) -> Trips | None:
    """Return the trips that front doors noted; None where there are none."""
    if not factory.doors:
        return None
    scenario = factory.scenario
    rows = ordered([door.table() for door in factory.doors.values()])
    uploads = any(uploads_timed(scenario, name) for name in scenario.workload)
    cascades = any(isinstance(service, Cascade) for service in (scenario.services or {}).values())
    several = scenario.services is not None
    return Trips(rows, list(scenario.regions or ()), several, uploads, cascades)


def services_of(factory: Factory) -> list[ServiceUse]:
    """Return who asked each service, and how often it asked each of its deployments."""
    scenario, found = factory.scenario, []
    for name, service in (scenario.services or {}).items():
        users = [n for n, spec in scenario.workload.items() if spec.deployment == name]
        asked = dict.fromkeys(service.deployments, 0)
        for user in users:
            for deployment, many in zip(
                scenario.reach(user), factory.doors[user].asked, strict=True
            ):
                asked[deployment] += many
        others = [scenario.reach(n) for n in scenario.workload if n not in users]
        alone = not any(set(reach) & set(service.deployments) for reach in others)
        found.append(ServiceUse(name, users, asked, alone))
    return found


def promise_of(slo: Slo | None) -> Promise:
    """Return the limits of a promise in seconds; infinite where nothing is promised."""
    if slo is None:
        return Promise(np.inf, np.inf, np.inf)
    limits = (slo.ttft, slo.tpot, slo.e2e, slo.ttfo)
    return Promise(*(np.inf if limit is None else limit for limit in limits))


def share_of(
    factory: Factory,
    fleet: Fleet,
    before: Reading,
    after: Reading,
    stays: Mapping[str, Stays],
    looks: Sequence[Mapping[str, Floats]] = (),
) -> Share:
    """Return what a pool did between two readings. stays: of requests, by deployment.

    looks: at what its pods have drawn, from the first reading to the last at equal times.
    """
    scenario = factory.scenario
    name, seconds = fleet.name, scenario.duration - scenario.warmup
    totals = Totals()
    for new, old in zip(after.totals[name], before.totals[name], strict=True):
        totals = totals.plus(new.minus(old))
    scale = fleet.scale
    totals = Totals().plus(totals, scale) if scale != 1.0 else totals
    replicas = fleet.represented
    idle_s = replicas * seconds - totals.busy_s - totals.dark_s
    gpu_j = fleet.gpus_per_replica * (totals.energy_j + fleet.power.idle_w * idle_s)
    front = factory.gateways[name]
    serves = factory.fronts[fleet.deployment] is front  # clients see it, with what is behind it
    stayed = stays[fleet.deployment] if serves else Stays()
    scaling = None
    lost = after.lost_tokens[name] - before.lost_tokens[name]
    if name in after.scaling:
        scaling = after.scaling[name].minus(before.scaling[name])
        lost -= scaling.lost_tokens
    return Share(
        deployment=fleet.deployment,
        name=name,
        role="_and_".join(fleet.phases),
        replicas=replicas,
        gpus_per_replica=fleet.gpus_per_replica,
        totals=totals,
        scale=scale,
        input_tokens=scale * (after.input_tokens[name] - before.input_tokens[name]),
        recomputed_tokens=scale * (after.recomputed_tokens[name] - before.recomputed_tokens[name]),
        gpu_j=gpu_j,
        gaps=factory.gaps[name],
        promise=promise_of(fleet.spec.slo),
        percentile=fleet.spec.slo.percentile if fleet.spec.slo else 99.0,
        request_seconds=front.request_seconds(),
        system_seconds=stayed.seconds,
        accepted=stayed.accepted,
        prefix_caching=name in factory.caching,
        lost_tokens=scale * lost,
        scaling=scaling,
        swapped_bytes=scale
        * (after.moved_blocks[name] - before.moved_blocks[name])
        * fleet.memory.bytes_per_token
        * fleet.memory.block_tokens
        * fleet.spec.parallelism.gpus,
        loaded_tokens={
            tier: scale * blocks * fleet.memory.block_tokens
            for tier, blocks in _loaded_blocks(fleet, before, after).items()
        },
        kv_bytes_per_token=fleet.memory.bytes_per_token * fleet.spec.parallelism.gpus,
        draft_tokens=fleet.drafting.tokens if fleet.drafting else 0,
        batched=_batched(fleet, [look[name] for look in looks], seconds) if looks else None,
    )


def _batched(fleet: Fleet, looks: Sequence[Floats], seconds: float) -> Batched:
    """Return what all replicas of a fleet did by when, of looks that span so many seconds."""
    busy_s, energy_j, tokens = np.moveaxis(np.diff(np.stack(looks), axis=0), (0, 2), (2, 0))
    present_s = np.array(fleet.pods)[:, None] * seconds / (len(looks) - 1)
    each_j = energy_j + fleet.power.idle_w * (present_s - busy_s)
    return Batched(fleet.scale * tokens, fleet.scale * fleet.gpus_per_replica * each_j)


def training_share(
    scenario: Scenario, job: Job, before: TrainingTotals, after: TrainingTotals
) -> TrainingShare:
    """Return what a training job did between two readings."""
    holding = job.holding
    both_w = (holding.computing_w, holding.communicating_w)
    return TrainingShare(
        name=holding.name,
        gpus=len(holding.gpus),
        totals=after.minus(before),
        seconds=scenario.duration - scenario.warmup,
        tokens=holding.spec.tokens,
        tokens_per_step=holding.spec.global_batch,
        flops_per_step=holding.flops_per_step,
        peak_flops=holding.peak_flops,
        phases_w=tuple(holding.watts_at(watts, holding.clock) for watts in both_w)
        if holding.rhythm.communicating_s
        else (),
        step_s=holding.rhythm.step_at(holding.clock),
    )


def _loaded_blocks(fleet: Fleet, before: Reading, after: Reading) -> dict[str, int]:
    """Return the blocks that came back between two readings, by tier of the prefix cache."""
    both = (reading.loaded_blocks[fleet.name] for reading in (before, after))
    early, late = (map(sum, zip(*replicas, strict=True)) for replicas in both)
    tiers = fleet.spec.engine.cache_tiers
    return {tier: b - a for tier, a, b in zip(tiers, early, late, strict=True)}
