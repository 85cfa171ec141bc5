"""The record of a run: versions, sizes, and the kinds of figures that it rests on."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    entries = _entries(layouts).values()
    found = Counter(fact.kind for entry in entries for _, fact in _facts_in(entry, ""))
    return dict(sorted(found.items()))


def assumptions(layouts: Sequence[Layout]) -> list[dict[str, Any]]:
    """Return every figure of the catalogue that a run rests on: `assumptions.json`.

    of: the entry; figure: its dotted path there; value: as a catalogue file has it; kind; source;
    note and date, where there are.
    """
    return [
        {
            "of": name,
            "figure": path,
            "value": fact.model_dump(mode="json")["value"],
            "kind": fact.kind,
            "source": fact.source,
            **({"note": fact.note} if fact.note else {}),
            **({"date": fact.date} if fact.date else {}),
        }
        for name, entry in _entries(layouts).items()
        for path, fact in _facts_in(entry, "")
    ]


def _entries(layouts: Sequence[Layout]) -> dict[str, BaseModel | Mapping[str, Any]]:
    """Return the entries of the catalogue that sites are built of, each by what it is called."""
    found: dict[str, BaseModel | Mapping[str, Any]] = {}
    for layout in layouts:
        site, facts = layout.scenario.site, layout.scenario.facts
        for rack in layout.site.racks:
            if f"system {rack.system.name}" not in found:
                found[f"system {rack.system.name}"] = rack.system
                found[f"rack of {rack.system.name}"] = rack.enclosure
        if site.cooling is not None:
            plant = site.cooling.plant
            found[f"cooling plant {plant}"] = facts.cooling_plant(plant)
            chain = (site.power_chain or PowerChainSpec()).kind
            found[f"power chain {chain}"] = facts.power_chain(chain)
        network = layout.scenario.network
        if network is not None and network.fabric is not None:
            kind = network.fabric.kind
            found[f"fabric {kind}"] = facts.fabric(kind)
        for fleet in layout.fleets:
            found[f"model {fleet.model.name}"] = fleet.model
            found[f"engine {fleet.engine.name}"] = fleet.engine
            name = fleet.accelerator.name
            found[f"accelerator {name}"] = fleet.accelerator
            found[f"efficiency of {name} in {fleet.precision}"] = fleet.efficiency
            found[f"power curve of {name}"] = fleet.power_curve
        for holding in layout.holdings:
            name = holding.accelerator.name
            found[f"accelerator {name}"] = holding.accelerator
            found[f"efficiency of {name} for {holding.name}"] = holding.efficiency
            found[f"power curve of {name}"] = holding.power_curve
        found |= layout.terms.facts if layout.terms else {}
        prices = layout.scenario.prices
        if prices is not None and prices.like is not None:
            found[f"prices of tokens {prices.like}"] = facts.token_price(prices.like)
    return found


def _facts_in(thing: object, path: str) -> Iterator[tuple[str, Fact[Any]]]:
    """Yield every Fact inside an entry of the catalogue, with its dotted path there."""
    if isinstance(thing, Fact):
        yield path, thing
    elif isinstance(thing, BaseModel | Mapping):
        for name, value in thing.items() if isinstance(thing, Mapping) else thing:
            yield from _facts_in(value, f"{path}.{name}" if path else str(name))
