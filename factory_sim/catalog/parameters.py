"""Parameters of the physics by name: `families.hopper-bf16.gemm_memory`, `engines.vllm.per_step`.

A calibration, an uncertainty band and a what-if all turn the same few knobs: figures of the
catalogue that are properties of a GPU family, of an engine, never of a model or a case. A `*`
for the entry means all of a section at once: `families.*.expert_spread`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from factory_sim.catalog.calibration import EVERY, parts
from factory_sim.catalog.catalog import Catalog
from factory_sim.catalog.facts import Fact

SECTIONS = ("families", "engines", "power")


def fact_of(facts: Catalog, name: str) -> Fact[Any]:
    """Return the catalogue's figure called `name`; KeyError if there is none."""
    section, entry, field = parts(name)
    if section not in SECTIONS:
        raise KeyError(name)
    entries = getattr(facts, section)
    fact = getattr(next(iter(entries.values())) if entry == EVERY else entries[entry], field)
    if not isinstance(fact, Fact):
        raise KeyError(name)
    return fact


def values_of(facts: Catalog, names: list[str]) -> dict[str, float]:
    """Return the values of these parameters, SI units."""
    return {name: float(fact_of(facts, name).value) for name in names}


def with_values(facts: Catalog, values: Mapping[str, float]) -> Catalog:
    """Return a catalogue with other values of these parameters."""
    changed: dict[str, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for name, value in values.items():
        section, entry, field = parts(name)
        fact = fact_of(facts, name).model_copy(update={"value": value})
        for one in getattr(facts, section) if entry == EVERY else (entry,):
            changed[section][one][field] = fact
    sections = {
        section: {
            **getattr(facts, section),
            **{
                entry: getattr(facts, section)[entry].model_copy(update=dict(fields))
                for entry, fields in entries.items()
            },
        }
        for section, entries in changed.items()
    }
    return replace(facts, **sections)
