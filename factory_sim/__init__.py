"""factory_sim simulates an AI factory: megawatts in, tokens out.

import factory_sim as fs
run = fs.simulate(fs.load())
run.summary["output_tokens_per_s"], run.requests, run.timeseries
"""

from __future__ import annotations

__version__ = "0.1.0"

from factory_sim.factory.check import Check, check
from factory_sim.factory.run import Progress, Run, simulate
from factory_sim.scenario.load import load

__all__ = ["Check", "Progress", "Run", "__version__", "check", "load", "simulate"]
