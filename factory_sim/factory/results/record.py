"""The record of a run: versions, sizes, and the kinds of figures that it rests on."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import simpy
from pydantic import BaseModel

from factory_sim import __version__
from factory_sim.catalog import Fact
from factory_sim.factory.build import Factory
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import Layout
from factory_sim.metrics import SCHEMA_VERSION
from factory_sim.metrics.spread import ERROR
from factory_sim.scenario.facility import PowerChainSpec
from factory_sim.scenario.recording import Recording


def record_of(factory: Factory, wall_s: float) -> dict[str, Any]:
    """Return what `run.json` says. wall_s: the run took."""
    layouts = [premises.layout for premises in factory.premises]
    beyond = factory.beyond.items()
    record = {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "seed": factory.scenario.seed,
        "recording": recorded_as(factory.scenario.recording),
        "engine": {name: f"simpy ({why})" if why else "compiled" for name, why in beyond},
        "simulated_s": factory.env.now,
        "wall_s": wall_s,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "simpy": simpy.__version__,
        },
        "period_s": factory.period_s,
        "racks": sum(len(layout.site.racks) for layout in layouts),
        "gpus": sum(len(layout.site.gpus) for layout in layouts),
        "kinds": _kinds(layouts),
    } | _weight_only(factory.fleets)
    if factory.scenario.sites is not None:
        record["sites"] = {
            layout.part.name: {"racks": len(layout.site.racks), "gpus": len(layout.site.gpus)}
            for layout in layouts
        }
    return record


def recorded_as(recording: Recording) -> dict[str, Any]:
    """Return what was kept of requests, and how far percentiles may be off where rows were not."""
    if recording.keep == "full":
        return {"keep": "full"}
    drawn = {"share": recording.sampled} if recording.sampled else {}
    return {"keep": recording.keep, **drawn, "quantile_error": ERROR}


def _weight_only(fleets: Sequence[Fleet]) -> dict[str, Any]:
    """Return whose weights are in a precision that their GPUs cannot multiply."""
    found = {
        fleet.name: {"weights": fleet.precision, "multiplied_in": fleet.weight_only}
        for fleet in fleets
        if fleet.weight_only is not None
    }
    return {"weight_only": found} if found else {}


def _kinds(layouts: Sequence[Layout]) -> dict[str, int]:
    """Return how many of the catalogue figures behind the run are of each kind."""
    racks = (rack for layout in layouts for rack in layout.site.racks)
    systems = {rack.system.name: rack for rack in racks}
    found: Counter[str] = Counter()
    for rack in systems.values():
        found.update(_kinds_in(rack.system))
        found.update(_kinds_in(rack.enclosure))
    for layout in layouts:
        site, facts = layout.scenario.site, layout.scenario.facts
        if site.cooling is not None:
            found.update(_kinds_in(facts.cooling_plant(site.cooling.plant)))
            found.update(_kinds_in(facts.power_chain((site.power_chain or PowerChainSpec()).kind)))
        network = layout.scenario.network
        if network is not None and network.fabric is not None:
            found.update(_kinds_in(facts.fabric(network.fabric.kind)))
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
