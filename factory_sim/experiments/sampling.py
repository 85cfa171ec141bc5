"""A large site of which a share is simulated and stands for all, and how far that may be off.

Like tasting soup: a spoonful says enough of a pot that is stirred. Whole racks are simulated, with
their share of the requests, and whole pods where a deployment has some: a pod knows no other, so
that nothing but chance tells them apart, and `confidence` says how far. A deployment with one
router is not so well stirred: among few replicas it deals otherwise than among all. How much that
matters shows in a second run, of the same requests, whose router sees half of the few. What fails
at random is left out, and a run that is busier shows what that may change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.apart import simulate
from factory_sim.experiments.biases import Away, away, with_failures, with_routing
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.factory.fleets.fleet import Fleet, deployment_of
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.run import Progress, Run
from factory_sim.metrics.sampled import relative_widths
from factory_sim.scenario.deployment import Represented
from factory_sim.scenario.load import plain, scenario_from
from factory_sim.scenario.scenario import Scenario

ALIKE = ("random",)
"""Routers that deal to a replica in the same way however many there are."""

NO_PODS = ("cache-aware", "sticky")

TAILS = 10.0 / 3.0
"""How much wider than that of a mean the interval of a 99th percentile may be."""

LEAST_STEP, LARGEST_STEP = 1.25, 4.0
"""By how much a share grows that was too small: as much as its intervals ask for, within these."""

Play = Callable[[Scenario], Run]
Summary = dict[str, Any]


def sample(
    scenario: Scenario,
    share: float = 0.05,
    progress: Callable[[Progress], None] | None = None,
    *,
    precision: float | None = None,
    workers: int | None = None,
    dask: Any = None,
) -> Run:
    """Run about that share of a scenario's replicas, and have them stand for all.

    The summary's `confidence` holds half widths of the 95 % intervals of what a run of the whole
    site would have come to. Where a deployment has one router that looks at, or takes turns among,
    all its replicas, it is run twice, and `routing_bias`, by how much that may shift latencies, is
    part of them. So is `failure_bias` where things fail at random, which the sample leaves out.
    precision: the share grows from that given until the half widths of means are within so much of
    the mean, 0.03 say, and those of 99th percentiles within 10 / 3 of that; `sample` in the summary
    holds the share that it took, 1 where that is the whole site. progress, workers, dask: as of
    `simulate`.
    Raises InputError for what cannot be sampled.
    """

    def play(one: Scenario) -> Run:
        return simulate(one, progress, workers=workers, dask=dask)

    few, gone = sampled(scenario, share), away(scenario)
    if precision is None:
        return _sampled(few, gone, play)
    if not 0.0 < precision < 1.0:
        said = f"must be above 0 and below 100 %, such as 3 %, not {100 * precision:.4g} %"
        raise InputError(Problem("precision", said))
    tried: list[float] = []
    while True:
        run = _sampled(few, gone, play)
        share = max(share, _share(few))
        over = excess(run.summary, precision)
        if over <= 1.0:
            return _told(run, _share(few), precision, tried)
        tried.append(_share(few))
        grown = _grown(scenario, few, share * min(max(over**2, LEAST_STEP), LARGEST_STEP))
        if grown is None:
            return _told(play(scenario), 1.0, precision, tried)
        few, share = grown


def excess(summary: Mapping[str, Any], precision: float) -> float:
    """Return the widest interval over what it may be; 2 where one is not known yet."""
    widths = relative_widths(dict(summary))
    known = [
        width / (precision * (TAILS if name.endswith("p99") else 1.0))
        for name, width in widths.items()
    ]
    latencies = [key for key in ("ttft_ms", "tpot_ms", "e2e_ms") if key in summary]
    whole = all(key in widths and f"{key}.p99" in widths for key in latencies)
    return max([*known, 0.0 if whole and known else 2.0])


def _sampled(few: Scenario, gone: Away | None, play: Play) -> Run:
    """Return the run of a few, whose intervals include what else may be off."""
    run = play(few)
    halved = _halved(few)
    if halved is not None:
        run = _with(run, with_routing, play(halved).summary)
    if gone is not None:
        if gone.most:
            busier = play(scenario_from(at_load(plain(few), gone.load))).summary
            run = _with(run, lambda own, other: with_failures(own, other, gone), busier)
        told = {"mean": gone.mean, "p95": gone.most}
        run = replace(run, summary={**run.summary, "replicas_away": told})
    return run


def _with(run: Run, bias: Callable[[Summary, Summary], Summary], other: Mapping[str, Any]) -> Run:
    """Return a run with a bias of the whole and of each deployment, by another run's summary."""
    summary = bias(run.summary, dict(other))
    deployments = {
        name: bias(own, other["deployments"][name]) for name, own in summary["deployments"].items()
    }
    return replace(run, summary={**summary, "deployments": deployments})


def _grown(scenario: Scenario, few: Scenario, share: float) -> tuple[Scenario, float] | None:
    """Return more than a few, and their share; None where the whole is no more work."""
    times = 1 if _halved(few) is None else 2
    while times * share < 1.0:
        try:
            more = sampled(scenario, share)
        except InputError:  # that is all
            return None
        if _share(more) > _share(few):
            return (more, share) if times * _share(more) < 1.0 else None
        share *= LEAST_STEP
    return None


def _share(few: Scenario) -> float:
    """Return the share of all replicas that is simulated."""
    fleets = fleets_of(lay_out_sites(few))
    return sum(len(fleet.replicas) for fleet in fleets) / sum(f.represented for f in fleets)


def _told(run: Run, share: float, precision: float, tried: list[float]) -> Run:
    said = {"share": share, "precision": precision, "tried": tried}
    return replace(run, summary={**run.summary, "sample": said})


def sampled(scenario: Scenario, share: float) -> Scenario:
    """Return a scenario of which about that share of the replicas is simulated, and nothing fails.

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
    given = plain(scenario)
    given.pop("failures", None)
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
