"""What users send: whose way to a deployment takes time, and what must be known of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from factory_sim.errors import Problem
from factory_sim.scenario.deployment import Represented

if TYPE_CHECKING:
    from factory_sim.scenario.scenario import Scenario


def uploads_timed(scenario: Scenario, workload: str) -> bool:
    """Tell whether a line or a link bounds what the users of a workload send."""
    links = (scenario.deployments[name].users_link for name in scenario.reach(workload))
    regions = scenario.regions or {}
    lines = (regions[name].uplink for name in scenario.shares_of(workload))
    return any(bound is not None for bound in (*links, *lines))


def mistimed(scenario: Scenario) -> Iterator[Problem]:
    """Yield images without a size where it counts, or with one where nothing looks at it."""
    for name, spec in scenario.workload.items():
        timed = uploads_timed(scenario, name)
        for where, images in spec.pictures:
            path = f"workload.{name}.{where}.size"
            if timed and images.size is None:
                yield Problem(
                    path,
                    "is missing: what users send takes time here, by the 'uplink' of a region or "
                    "the 'users_link' of a deployment; say how large the file of an image is, for "
                    "example 'size: 400 kB'",
                )
            elif images.size is not None and not timed:
                yield Problem(
                    path,
                    "what users send takes no time here; leave it out, or give a region an "
                    "'uplink', or a deployment a 'users_link'",
                )
    for name, deployment in scenario.deployments.items():
        if deployment.users_link is not None and isinstance(deployment.replicas, Represented):
            yield Problem(
                f"deployments.{name}.replicas",
                "with 'users_link' every request is simulated, as all share one link; give "
                "'replicas' as one number",
            )
