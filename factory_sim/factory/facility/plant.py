"""The cooling plant of a site: the loops that carry its heat, sized for its racks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from factory_sim.catalog import Cooling, LoopFacts
from factory_sim.errors import InputError, Problem
from factory_sim.physics.cooling import Chiller, Loop, LoopDraw
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.scenario.facility import CoolingSpec


class Heat(NamedTuple):
    """Watts of heat by where they leave: into air, and into coolant. it_w: the IT part of both."""

    air_w: float
    liquid_w: float
    it_w: float


class PlantDraw(NamedTuple):
    """What a plant draws for some heat: by loop, and what no loop accounts for."""

    air: LoopDraw | None
    liquid: LoopDraw | None
    other_w: float

    @property
    def total_w(self) -> float:
        """Return the watts of the whole plant."""
        loops_w = sum(loop.total_w for loop in (self.air, self.liquid) if loop is not None)
        return loops_w + self.other_w


class Plant(Protocol):
    """Carries heat out of the building."""

    def draw(
        self, heat: Heat, ambient: Ambient, running: bool = True, flowing: float = 1.0
    ) -> PlantDraw:
        """Return what it takes to carry `heat` away in this weather.

        running: whether pumps, roof and chillers work. flowing: the share of CDUs that do.
        """


@dataclass(frozen=True, slots=True)
class ConstantPue:
    """A building known by one ratio: losses and cooling together follow IT watts."""

    pue: float

    def draw(
        self, heat: Heat, ambient: Ambient, running: bool = True, flowing: float = 1.0
    ) -> PlantDraw:
        """Return the watts that make the ratio come out."""
        return PlantDraw(None, None, (self.pue - 1.0) * heat.it_w)


@dataclass(frozen=True, slots=True)
class Loops:
    """A loop for heat in air and, where racks have coolant, one for that. overhead_w: always."""

    air: Loop
    liquid: Loop | None
    overhead_w: float
    air_capacity_j_per_k: float
    liquid_capacity_j_per_k: float

    def draw(
        self, heat: Heat, ambient: Ambient, running: bool = True, flowing: float = 1.0
    ) -> PlantDraw:
        """Return what both loops draw; air handlers and CDUs move on when the plant has failed."""
        liquid = None
        if self.liquid is not None:
            liquid = self.liquid.draw(heat.liquid_w, ambient, flowing)
        air = self.air.draw(heat.air_w, ambient)
        if not running:
            air = air.stopped(heat.air_w)
            liquid = None if liquid is None else liquid.stopped(heat.liquid_w)
        return PlantDraw(air, liquid, self.overhead_w)


def loops(entry: Cooling, spec: CoolingSpec, most: Heat) -> Loops:
    """Return the plant for at most so much heat.

    Raises InputError where racks give heat to coolant and the plant has no loop for it, or where
    a capacity that the scenario states is less than the heat.
    """
    liquid = None
    liquid_mass = 0.0
    if most.liquid_w > 0.0:
        if entry.liquid is None:
            raise InputError(
                Problem(
                    "site.cooling.plant",
                    f"'{entry.name}' has no loop for coolant, and the racks give "
                    f"{most.liquid_w / 1e3:,.1f} kW to it; take a plant that has, such as "
                    "'liquid', or racks cooled by air",
                )
            )
        liquid, liquid_mass = _loop(
            entry.liquid, "liquid", spec.liquid_capacity, spec.liquid_supply, most.liquid_w
        )
    elif spec.model_fields_set & {"liquid_capacity", "liquid_supply", "cdu_racks"}:
        raise InputError(
            Problem("site.cooling", "no rack gives heat to coolant; leave out what is of liquid")
        )
    air, air_mass = _loop(entry.air, "air", spec.air_capacity, spec.air_supply, most.air_w)
    overhead_w = entry.overhead.value * (air.design_w + (liquid.design_w if liquid else 0.0))
    return Loops(air, liquid, overhead_w, air_mass, liquid_mass)


def _loop(
    facts: LoopFacts, name: str, capacity_w: float | None, supply_c: float | None, most_w: float
) -> tuple[Loop, float]:
    """Return a loop and its heat capacity (J/K)."""
    if capacity_w is not None and capacity_w < most_w:
        raise InputError(
            Problem(
                f"site.cooling.{name}_capacity",
                f"{capacity_w / 1e3:,.1f} kW are less than the {most_w / 1e3:,.1f} kW of heat that "
                "the racks give it at their nameplates; give it more, or have fewer racks",
            )
        )
    design_w = capacity_w or most_w * (1.0 + facts.margin.value)
    given = facts.chiller
    chiller = None
    if given is not None:
        chiller = Chiller(
            given.carnot.value,
            given.evaporator_approach.value,
            given.condenser_rise.value,
            given.least_lift.value,
            given.part_load.value,
        )
    loop = Loop(
        design_w=design_w,
        movers=facts.movers.value,
        pumps=facts.pumps.value,
        roof=facts.roof.value,
        floor=facts.floor.value,
        supply_c=facts.supply.value if supply_c is None else supply_c,
        range_k=facts.range.value,
        approach_k=facts.approach.value,
        wet=facts.sink == "wet-bulb",
        latent=facts.latent.value if facts.latent else 0.0,
        cycles=facts.cycles.value if facts.cycles else 2.0,
        economiser=facts.economiser,
        chiller=chiller,
    )
    return loop, facts.heat_capacity.value * design_w
