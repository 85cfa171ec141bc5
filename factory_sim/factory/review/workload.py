"""A workload before it runs: who sends what, how much, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np

from factory_sim.factory.dispatch.doors import line_of, user_pace
from factory_sim.factory.review import Section
from factory_sim.factory.seeds import workload_seeds
from factory_sim.physics.upload import upload_bytes
from factory_sim.scenario.arrivals import ClosedArrivals
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.uploads import uploads_timed
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.means import images_per_request, mean_lengths
from factory_sim.workload.sessions import mean_turns
from factory_sim.workload.sometimes import mean_image_bytes, mean_image_tokens
from factory_sim.workload.stream import open_blocks, trace_reports

ENOUGH = 1_000_000
"""Requests drawn to see the load of an open workload."""


class Asked(NamedTuple):
    """What is asked: tokens and images of a mean request, and how many requests come a second.

    per_s: None where clients wait for answers, or nobody knows whom they will come to. sends: of a
    workload, what it sends in the run, in words. spread: of output tokens, the variance over the
    square of the mean; 1, as if they were exponential, where nobody has drawn them.
    """

    prompt: float
    output: float
    cached: float
    images: float
    per_s: float | None
    sends: str = ""
    spread: float = 1.0


def asked_by(scenario: Scenario, name: str, keeps: bool) -> Asked:
    """Return what a workload asks. keeps: whether replicas may keep what was said in a session.

    Raises InputError for what cannot be read or drawn.
    """
    spec, where, seconds = scenario.workload[name], f"workload.{name}", scenario.duration
    tokens = mean_lengths(spec, scenario.facts, Path(), where, seconds, keeps)
    images = images_per_request(spec, where, seconds)
    if isinstance(spec.arrivals, ClosedArrivals):
        clients = f"{spec.arrivals.concurrency} clients, each waiting for its answer"
        return Asked(*tokens, images, None, clients)
    count, seed = 0, workload_seeds(scenario)[name]
    said = squared = 0.0
    for block in open_blocks(spec, scenario.facts, seconds, seed, Path(), where):
        count += len(block.arrival_s)
        said += float(block.output.sum())
        squared += float(np.square(block.output, dtype=float).sum())
        if count >= ENOUGH:
            seconds = float(block.arrival_s[-1])
            break
    turns = 1.0 if spec.sessions is None else mean_turns(spec.sessions)
    rate = count / seconds * turns
    what, when = ("requests", "") if spec.sessions is None else ("sessions", ", in the long run")
    sends = (
        f"{count:,} {what} in the first {seconds:,.0f} s: {rate:,.2f} requests/s, "
        f"{rate * tokens[1]:,.0f} output tokens/s in the mean{when}"
    )
    spread = count * squared / said**2 - 1.0 if count else 1.0
    return Asked(*tokens, images, rate, sends, spread)


def together(parts: Sequence[Asked]) -> Asked | None:
    """Return what all these ask as one, if there are any.

    Where the rate of one is not known, that of all is not, and the first stands for the others.
    """
    if not parts:
        return None
    rates = [part.per_s for part in parts if part.per_s is not None]
    if len(rates) < len(parts) or not sum(rates):
        return parts[0]._replace(per_s=None)
    means = np.average([part[:4] for part in parts], axis=0, weights=rates).tolist()
    prompt, output, cached, images = means
    squares = [(part.spread + 1.0) * part.output**2 for part in parts]
    spread = float(np.average(squares, weights=rates)) / output**2 - 1.0
    return Asked(prompt, output, cached, images, sum(rates), spread=spread)


def workload(scenario: Scenario, name: str, asked: Asked) -> Section:
    """Return what a workload comes to."""
    spec, most = scenario.workload[name], ""
    rows = {"to": _to(scenario, spec), "arrivals": spec.arrivals.process}
    if spec.sessions is not None:
        most = "at most "
    rows["mean lengths"] = (
        f"{asked.prompt:,.0f} prompt tokens"
        + (f" ({most}{asked.cached:,.0f} of them cached)" if asked.cached else "")
        + f", {asked.output:,.0f} output tokens"
    )
    if scenario.regions is not None:
        rows["from"] = _from(scenario, name)
    for report in trace_reports(spec, Path(), f"workload.{name}"):
        rows["trace"] = str(report)
    if spec.sessions is not None:
        rows["sessions"] = (
            f"{mean_turns(spec.sessions):,.1f} turns in the mean; the prompt of a turn is all that "
            "was said before and what it asks"
        )
    if uploads_timed(scenario, name):
        rows |= _uploads(scenario, name, asked)
    return rows | {"load": asked.sends}


def _uploads(scenario: Scenario, name: str, asked: Asked) -> Section:
    """Return what a mean request of a workload sends, and how long that takes where it is alone."""
    spec, given = scenario.workload[name], (f"workload.{name}", scenario.duration)
    shown = images_per_request(spec, *given, mean_image_tokens)
    size = upload_bytes(
        asked.prompt - shown, 1.0, images_per_request(spec, *given, mean_image_bytes)
    )
    told = f"{size / 1e3:,.1f} kB a mean request"
    if asked.per_s is not None:
        told += f", {8e-6 * size * asked.per_s:,.1f} Mbit/s in all"
    rows = {"sends": told}
    links = scenario.network.links if scenario.network else {}
    for link in dict.fromkeys(scenario.deployments[d].users_link for d in scenario.reach(name)):
        if link is not None:
            rows[f"by link {link}"] = f"{8e-6 * links[link].bandwidth:,.1f} Mbit/s, shared"
    for region in scenario.shares_of(name):
        users = (scenario.regions or {})[region]
        pace = min(
            user_pace(users, line_of(users, deployment)) for deployment in scenario.reach(name)
        )
        if pace < inf:
            rows[f"from {region}"] = f"{size / pace * 1e3:,.0f} ms at {8e-6 * pace:,.1f} Mbit/s"
    return rows


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
