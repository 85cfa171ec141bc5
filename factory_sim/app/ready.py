"""Imported by the process that children are forked from: what every job needs is read once.

Not only modules: units that are understood, the catalogue, and what the first look at a site finds.
"""

from __future__ import annotations

from factory_sim.app import work
from factory_sim.experiments.runs.task import release
from factory_sim.experiments.sizing.bounds import bounds
from factory_sim.scenario.load import load

release()
bounds(load())
JOBS = tuple(work.KINDS)
