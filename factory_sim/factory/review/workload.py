"""A workload before it runs: who sends what, how much, and from where."""

from __future__ import annotations

from pathlib import Path

from factory_sim.factory.build import workload_seeds
from factory_sim.factory.review import Section
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import ClosedArrivals, WorkloadSpec
from factory_sim.workload.sessions import mean_turns
from factory_sim.workload.stream import open_blocks, trace_reports

ENOUGH = 1_000_000
"""Requests drawn to see the load of an open workload."""


def workload(scenario: Scenario, name: str, means: tuple[float, float, float]) -> Section:
    spec, where = scenario.workload[name], f"workload.{name}"
    prompt, output, cached = means
    most = "" if spec.sessions is None else "at most "
    rows = {
        "to": _to(scenario, spec),
        "arrivals": spec.arrivals.process,
        "mean lengths": f"{prompt:,.0f} prompt tokens"
        + (f" ({most}{cached:,.0f} of them cached)" if cached else "")
        + f", {output:,.0f} output tokens",
    }
    if scenario.regions is not None:
        rows["from"] = _from(scenario, name)
    for report in trace_reports(spec, Path(), where):
        rows["trace"] = str(report)
    if spec.sessions is not None:
        turns = mean_turns(spec.sessions)
        rows["sessions"] = (
            f"{turns:,.1f} turns in the mean; the prompt of a turn is all that was said before and "
            "what it asks"
        )
    if isinstance(spec.arrivals, ClosedArrivals):
        rows["load"] = f"{spec.arrivals.concurrency} clients, each waiting for its answer"
        return rows
    arrivals, seconds = _drawn(scenario, name)
    turns = 1.0 if spec.sessions is None else mean_turns(spec.sessions)
    rate = arrivals / seconds * turns
    what, when = ("requests", "") if spec.sessions is None else ("sessions", ", in the long run")
    rows["load"] = (
        f"{arrivals:,} {what} in the first {seconds:,.0f} s: {rate:,.2f} requests/s, "
        f"{rate * output:,.0f} output tokens/s in the mean{when}"
    )
    return rows


def offered_per_s(scenario: Scenario, name: str) -> float | None:
    """Return the requests that a workload brings a second, in the mean; None of a closed loop."""
    spec = scenario.workload[name]
    if isinstance(spec.arrivals, ClosedArrivals):
        return None
    arrivals, seconds = _drawn(scenario, name)
    return arrivals / seconds * (1.0 if spec.sessions is None else mean_turns(spec.sessions))


def _drawn(scenario: Scenario, name: str) -> tuple[int, float]:
    """Return how many come in how many seconds: in the run, or until ENOUGH have come."""
    spec, where, count = scenario.workload[name], f"workload.{name}", 0
    seed = workload_seeds(scenario)[name]
    for block in open_blocks(spec, scenario.facts, scenario.duration, seed, Path(), where):
        count += len(block.arrival_s)
        if count >= ENOUGH:
            return count, float(block.arrival_s[-1])
    return count, scenario.duration


def _to(scenario: Scenario, spec: WorkloadSpec) -> str:
    """Return the deployment that a workload sends to, or the service with its deployments."""
    service = (scenario.services or {}).get(spec.deployment)
    if service is None:
        return spec.deployment
    return f"{spec.deployment}: {service.policy} over {', '.join(service.deployments)}"


def _from(scenario: Scenario, name: str) -> str:
    """Return the regions that a workload's requests come from, with their shares."""
    shares = scenario.shares_of(name)
    whole = sum(shares.values())
    return ", ".join(f"{region} {share / whole:.0%}" for region, share in shares.items())
