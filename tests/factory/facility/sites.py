"""Sites for tests: a few racks, a plant, and no more work than a test needs."""

from __future__ import annotations

from typing import Any

from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario

MILD = {"dry_bulb": "20 degC", "humidity": "50 %"}


def site_of(**changes: Any) -> Scenario:
    """Return a scenario of two H100 racks cooled by air; `changes` replace its top-level fields."""
    given: dict[str, Any] = {
        "name": "site",
        "seed": 5,
        "duration": "60 s",
        "site": building(),
        "racks": [{"system": "dgx-h100", "count": 2}],
        "deployments": {"d": {"model": "llama-3.1-8b", "replicas": 8}},
        "workload": {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "closed", "concurrency": 400},
                "lengths": {"prompt": 300, "output": 100},
            }
        },
    }
    return validate(Scenario, given | changes)


def building(**changes: Any) -> dict[str, Any]:
    """Return a site behind a meter that limits nothing, on a mild day."""
    return {"grid_limit": "1 MW", "cooling": "air", "weather": MILD} | changes
