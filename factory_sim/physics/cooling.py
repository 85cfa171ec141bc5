"""How heat leaves a hall: it is moved to water, the water to the roof, and the roof to the weather.

A loop carries heat from racks to the air outside in three stages, each with its watts:

    movers    fans of air handlers, or pumps of coolant distribution units (CDUs)
    pumps     facility water between them and the roof
    roof      dry coolers against the dry bulb, or towers against the wet bulb, and their fans

Where the weather cannot cool the water as far as wanted, a chiller does the rest, or, without
one, the water comes back warmer. Speeds follow heat and watts follow speed cubed (affinity laws),
down to a lowest speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from factory_sim.physics.psychrometrics import Ambient

LATENT_J_PER_KG = 2.45e6
"""Heat that a kilogram of water takes along as it evaporates, at some 20 to 30 C."""

KELVIN = 273.15


class LoopDraw(NamedTuple):
    """Watts of a loop by part, water evaporated and blown down, and the water it sends to racks.

    free: the share of heat that goes without a chiller. unserved_w: heat beyond its capacity.
    """

    movers_w: float
    pumps_w: float
    roof_w: float
    chillers_w: float
    water_kg_per_s: float
    supply_c: float
    free: float
    unserved_w: float

    @property
    def total_w(self) -> float:
        """Return the watts of all parts."""
        return self.movers_w + self.pumps_w + self.roof_w + self.chillers_w

    def stopped(self, heat_w: float) -> LoopDraw:
        """Return the same with a plant that does not work: movers alone, and no heat leaves."""
        return LoopDraw(self.movers_w, 0.0, 0.0, 0.0, 0.0, self.supply_c, self.free, heat_w)


@dataclass(frozen=True, slots=True)
class Chiller:
    """A vapour-compression chiller.

    Its full-load coefficient of performance is `carnot` of the ideal between its evaporator, as
    warm as the water it makes less `evaporator_approach_k`, and its condenser, `condenser_k` above
    the sink at full load; at least `least_lift_k` lie between. At part load it draws up to
    `part_load` more for the heat: 1 + part_load * (1 - load).
    """

    carnot: float
    evaporator_approach_k: float
    condenser_k: float
    least_lift_k: float
    part_load: float

    def cop(self, supply_c: float, sink_c: float, load: float = 1.0) -> float:
        """Return heat moved over watts drawn. load: of the heat it was made for, 0 to 1."""
        evaporator_c = supply_c - self.evaporator_approach_k
        lift_k = sink_c + self.condenser_k * load - evaporator_c
        full = self.carnot * (evaporator_c + KELVIN) / max(lift_k, self.least_lift_k)
        return full / (1.0 + self.part_load * (1.0 - load))


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop, made for `design_w` of heat from its racks.

    movers, pumps, roof: watts at full speed per watt of design heat. floor: the lowest speed.
    supply_c: of the water (or air) that racks are to get; range_k: by how much it warms there.
    approach_k: how near the roof brings water to the sink at full load. wet: the sink is the wet
    bulb, and `latent` of the heat leaves as vapour, of which `cycles` concentrations are blown
    down. economiser: water may come cool from the roof past the chiller. chiller: absent, supply
    follows the weather up.
    """

    design_w: float
    movers: float
    pumps: float
    roof: float
    floor: float
    supply_c: float
    range_k: float
    approach_k: float
    wet: bool
    latent: float
    cycles: float
    economiser: bool
    chiller: Chiller | None

    def draw(self, heat_w: float, ambient: Ambient, moving: float = 1.0) -> LoopDraw:
        """Return what it takes to carry `heat_w` of its racks to the weather.

        moving: the share of its movers that work; their heat is all there is to carry.
        """
        design_w = self.design_w
        if design_w <= 0.0:
            return LoopDraw(0.0, 0.0, 0.0, 0.0, 0.0, self.supply_c, 1.0, heat_w)
        sink_c = ambient.wet_c if self.wet else ambient.dry_c
        carried_w = min(heat_w, design_w)
        movers_w = moving * self.movers * design_w * self._cube(carried_w, moving * design_w)
        pumps_w = self.pumps * design_w * self._cube(carried_w, design_w)
        moved_w = carried_w + movers_w + pumps_w  # fans and pumps warm what they move
        load = moved_w / (design_w * (1.0 + self.movers + self.pumps))
        free_c = sink_c + self.approach_k * load  # the coolest water the roof can make
        free, supply_c, chillers_w = 1.0, self.supply_c, 0.0
        if self.chiller is None:
            supply_c = max(supply_c, free_c)
        else:
            # With some help of the roof at full speed, or by chillers alone: the cheaper.
            options = []
            for share in {self._free(free_c), 0.0}:
                cop = self.chiller.cop(supply_c, sink_c, (1.0 - share) * load)
                watts = (1.0 - share) * moved_w / cop
                options.append((watts + self._roof_w(share, free_c, sink_c, load), share, watts))
            _, free, chillers_w = min(options)
        roof_w = self._roof_w(free, free_c, sink_c, load)
        return LoopDraw(
            movers_w,
            pumps_w,
            roof_w,
            chillers_w,
            self._water(moved_w + chillers_w),
            supply_c,
            free,
            heat_w - carried_w,
        )

    def _cube(self, carried_w: float, most_w: float) -> float:
        """Return the cube of the speed, from the floor to 1, that carries a part of the most."""
        speed = max(self.floor, min(1.0, carried_w / most_w)) if most_w > 0.0 else 0.0
        return speed * speed * speed

    def _free(self, free_c: float) -> float:
        """Return the share of the heat that the roof takes before the chiller does the rest."""
        if not self.economiser:
            return 0.0
        return min(1.0, max(0.0, (self.supply_c + self.range_k - free_c) / self.range_k))

    def _roof_w(self, free: float, free_c: float, sink_c: float, load: float) -> float:
        """Return the watts of the roof's fans: only as fast as the water must be cool."""
        if free == 0.0:
            speed = load
        elif free_c >= self.supply_c:
            speed = 1.0
        else:
            speed = self.approach_k * load / (self.supply_c - sink_c)
        speed = min(1.0, max(self.floor, speed))
        return self.roof * self.design_w * speed * speed * speed

    def _water(self, rejected_w: float) -> float:
        if not self.wet:
            return 0.0
        evaporated = self.latent * rejected_w / LATENT_J_PER_KG
        return evaporated * (1.0 + 1.0 / (self.cycles - 1.0))
