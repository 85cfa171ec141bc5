"""factory_sim simulates an AI factory: megawatts in, tokens out.

import factory_sim as fs
run = fs.simulate(fs.load())
run.summary["output_tokens_per_s"], run.requests, run.timeseries
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from factory_sim.experiments.apart import simulate
    from factory_sim.experiments.compare import compare
    from factory_sim.experiments.planning.candidates import Axes
    from factory_sim.experiments.planning.run import plan
    from factory_sim.experiments.sampling import sample
    from factory_sim.experiments.sensitivity.run import sensitivity
    from factory_sim.experiments.sizing.size import size
    from factory_sim.experiments.sweep.run import sweep
    from factory_sim.experiments.year.year import year
    from factory_sim.factory.check import Check, check
    from factory_sim.factory.run import Progress, Run
    from factory_sim.scenario.load import load

__all__ = [
    "Axes",
    "Check",
    "Progress",
    "Run",
    "__version__",
    "check",
    "compare",
    "load",
    "plan",
    "sample",
    "sensitivity",
    "simulate",
    "size",
    "sweep",
    "year",
]

_HOMES = {
    "Check": "factory.check",
    "check": "factory.check",
    "Progress": "factory.run",
    "Run": "factory.run",
    "simulate": "experiments.apart",
    "load": "scenario.load",
    "sample": "experiments.sampling",
    "Axes": "experiments.planning.candidates",
    "plan": "experiments.planning.run",
    "sensitivity": "experiments.sensitivity.run",
    "size": "experiments.sizing.size",
    "sweep": "experiments.sweep.run",
    "compare": "experiments.compare",
    "year": "experiments.year.year",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `factory-sim --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'factory_sim' has no attribute {name!r}")
    return getattr(import_module(f"factory_sim.{_HOMES[name]}"), name)
