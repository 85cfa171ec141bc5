"""The terms of a site: its scenario's costs with what the catalogue says of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory_sim.catalog import Catalog, Fact, GpuPrice, SiteCosts
from factory_sim.economics.capital import YEAR_S, per_second
from factory_sim.errors import InputError, Problem
from factory_sim.scenario.money import Costs, Equipment, Facility

Used = dict[str, dict[str, Fact[float]]]
"""Figures of the catalogue by entry and name."""


@dataclass(frozen=True)
class Terms:
    """What things cost by the second.

    equipment_usd: the price of a GPU with all IT of its own, by accelerator, of which
    equipment_per_s is the share in a second; spares_per_s and maintenance_per_s are shares of it
    too. facility, colocation, staff: USD/s of a watt of IT that is provisioned. rent: USD/s of a
    GPU, by accelerator. demand: USD/s of a watt of the highest mean of interval_s. embodied_kg:
    CO2e of a GPU's equipment, spread over embodied_s. counted: the components that are paid.
    facts: figures of the catalogue among them, by entry.
    """

    equipment_usd: Mapping[str, float] = field(default_factory=dict)
    equipment_per_s: float = 0.0
    spares_per_s: float = 0.0
    maintenance_per_s: float = 0.0
    facility: float = 0.0
    colocation: float = 0.0
    staff: float = 0.0
    rent: Mapping[str, float] = field(default_factory=dict)
    demand: float = 0.0
    interval_s: float = 900.0
    embodied_kg: Mapping[str, float] = field(default_factory=dict)
    embodied_s: float = YEAR_S
    counted: tuple[str, ...] = ()
    facts: Used = field(default_factory=dict)


def terms_of(costs: Costs, facts: Catalog, accelerators: Iterable[str]) -> Terms:
    """Return the terms of a site with these accelerators.

    Raises InputError where the catalogue has no price of one and the scenario gives none.
    """
    kinds = sorted(set(accelerators))
    used: Used = {}
    if costs.rent is not None:
        rent = dict(_priced(costs.rent, facts, kinds, "costs.rent", used))
        return Terms(rent=rent, counted=costs.counted, facts=used)
    site = _Rest(facts.site_cost(costs.like) if costs.like else None, used)
    rate = site.figure(costs.cost_of_capital, "cost_of_capital")
    found: dict[str, Any] = {}
    equipment = costs.equipment or (Equipment() if costs.like else None)
    if equipment is not None:
        life_s = site.figure(equipment.life, "equipment_life")
        paid = per_second(life_s, rate, costs.method)
        found["equipment_usd"] = dict(
            _priced(equipment.price, facts, kinds, "costs.equipment.price", used)
        )
        found["equipment_per_s"] = paid
        found["maintenance_per_s"] = site.figure(costs.maintenance, "maintenance") / YEAR_S
        found["spares_per_s"] = site.figure(costs.spares, "spares") * paid
        found["embodied_kg"] = dict(_embodied(equipment, facts, kinds, used))
        found["embodied_s"] = life_s
    facility = costs.facility or (Facility() if costs.like and costs.colocation is None else None)
    if facility is not None:
        life_s = site.figure(facility.life, "facility_life")
        price = site.figure(facility.price, "construction")
        found["facility"] = price * per_second(life_s, rate, costs.method)
    found["colocation"] = costs.colocation or 0.0
    found["staff"] = site.figure(costs.staff, "staff")
    if costs.demand is not None:
        found |= {"demand": costs.demand.charge, "interval_s": costs.demand.interval}
    return Terms(**found, counted=costs.counted, facts=used)


class _Rest:
    """What an entry of the catalogue says of figures that the scenario does not give."""

    def __init__(self, entry: SiteCosts | None, used: Used) -> None:
        self._entry, self._used = entry, used

    def figure(self, given: float | None, name: str) -> float:
        """Return the given figure, else that of the entry, else nothing."""
        if given is not None or self._entry is None:
            return given or 0.0
        fact: Fact[float] = getattr(self._entry, name)
        _note(self._used, f"costs of a site {self._entry.name}", name, fact)
        return fact.value


def _priced(
    given: float | str | None, facts: Catalog, kinds: list[str], path: str, used: Used
) -> Iterator[tuple[str, float]]:
    """Yield the price of each accelerator: the given one, else the catalogue's.

    given: a price, or whose (`neocloud`); None for that of equipment.
    """
    for kind in kinds:
        if isinstance(given, float):
            yield kind, given
            continue
        of = given or "equipment"
        fact = _fact(facts.gpu_prices.get(kind), of)
        if fact is None:
            example = "48000 USD" if given is None else "1.41 USD/h"
            raise InputError(
                Problem(
                    path,
                    f"the catalogue has no price ({of}) of '{kind}'; give one, for example "
                    f"'{example}' (`factory-sim catalog gpu_prices` lists those known)",
                )
            )
        _note(used, f"price of {kind}", of, fact)
        yield kind, fact.value


def _embodied(
    equipment: Equipment, facts: Catalog, kinds: list[str], used: Used
) -> Iterator[tuple[str, float]]:
    """Yield the CO2e in kg of each accelerator's equipment, of all or of none."""
    if equipment.embodied is not None:
        yield from ((kind, equipment.embodied) for kind in kinds)
        return
    known = {kind: _fact(facts.gpu_prices.get(kind), "embodied") for kind in kinds}
    if None not in known.values():
        for kind, fact in known.items():
            if fact is not None:
                _note(used, f"price of {kind}", "embodied", fact)
                yield kind, fact.value


def _note(used: Used, entry: str, figure: str, fact: Fact[float]) -> None:
    used.setdefault(entry, {})[figure] = fact


def _fact(entry: GpuPrice | None, figure: str) -> Fact[float] | None:
    found: Fact[float] | None = getattr(entry, figure) if entry is not None else None
    return found
