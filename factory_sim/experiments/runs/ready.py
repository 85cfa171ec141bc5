"""Imported by the process that others are forked from: what all of them need is read once."""

from __future__ import annotations

from factory_sim.catalog import load_catalog
from factory_sim.experiments.runs.task import release

load_catalog()
release()
