"""Small scenarios for tests: one server of eight GPUs, an eight-billion model, a few seconds."""

from __future__ import annotations

from typing import Any

from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario


def small_scenario(
    *,
    seed: int = 3,
    duration: str = "10 s",
    replicas: int = 1,
    router: Any = "round-robin",
    engine: dict[str, Any] | None = None,
    rate: str = "5 /s",
    arrivals: dict[str, Any] | None = None,
    lengths: dict[str, Any] | None = None,
    **workload: Any,
) -> Scenario:
    """Return a scenario of one deployment, `d`, and one workload, `w`; Poisson unless told."""
    arrivals = arrivals or {"process": "poisson", "rate": rate}
    if arrivals["process"] != "trace":  # which has its own
        workload["lengths"] = lengths or {"prompt": 100, "output": 20}
    return validate(
        Scenario,
        {
            "name": "small",
            "seed": seed,
            "duration": duration,
            "site": {"grid_limit": "100 kW", "pue": 1.25},
            "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
            "deployments": {
                "d": {
                    "model": "llama-3.1-8b",
                    "replicas": replicas,
                    "router": router,
                    "engine": engine or {},
                }
            },
            "workload": {
                "w": {
                    "deployment": "d",
                    "arrivals": arrivals,
                    **workload,
                }
            },
        },
    )
