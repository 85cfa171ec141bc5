"""The record of a run: versions, sizes, and the kinds of figures that it rests on."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import simpy
from pydantic import BaseModel

from factory_sim import __version__
from factory_sim.catalog import Fact
from factory_sim.factory.layout import Layout
from factory_sim.metrics import SCHEMA_VERSION
from factory_sim.scenario.facility import PowerChainSpec
from factory_sim.scenario.scenario import Scenario


def record_of(scenario: Scenario, layout: Layout, wall_s: float, now_s: float) -> dict[str, Any]:
    """Return what `run.json` says. wall_s: the run took; now_s: simulated when it ended."""
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "seed": scenario.seed,
        "engine": "simpy",
        "simulated_s": now_s,
        "wall_s": wall_s,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "simpy": simpy.__version__,
        },
        "period_s": layout.period_s,
        "racks": len(layout.site.racks),
        "gpus": len(layout.site.gpus),
        "kinds": _kinds(layout),
    } | _weight_only(layout)


def _weight_only(layout: Layout) -> dict[str, Any]:
    """Return whose weights are in a precision that their GPUs cannot multiply."""
    found = {
        fleet.name: {"weights": fleet.precision, "multiplied_in": fleet.weight_only}
        for fleet in layout.fleets
        if fleet.weight_only is not None
    }
    return {"weight_only": found} if found else {}


def _kinds(layout: Layout) -> dict[str, int]:
    """Return how many of the catalogue figures behind the run are of each kind."""
    systems = {rack.system.name: rack for rack in layout.site.racks}
    found: Counter[str] = Counter()
    for rack in systems.values():
        found.update(_kinds_in(rack.system))
        found.update(_kinds_in(rack.enclosure))
    site, facts = layout.scenario.site, layout.scenario.facts
    if site.cooling is not None:
        found.update(_kinds_in(facts.cooling_plant(site.cooling.plant)))
        found.update(_kinds_in(facts.power_chain((site.power_chain or PowerChainSpec()).kind)))
    for fleet in layout.fleets:
        for part in (fleet.accelerator, fleet.model, fleet.engine, fleet.efficiency):
            found.update(_kinds_in(part))
        found.update(_kinds_in(fleet.power_curve))
    for holding in layout.holdings:
        for entry in (holding.accelerator, holding.efficiency, holding.power_curve):
            found.update(_kinds_in(entry))
    return dict(sorted(found.items()))


def _kinds_in(thing: object) -> Iterator[str]:
    """Yield the kind of every Fact inside an entry of the catalogue."""
    if isinstance(thing, Fact):
        yield thing.kind
    elif isinstance(thing, BaseModel):
        for _, value in thing:
            yield from _kinds_in(value)
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _kinds_in(value)
