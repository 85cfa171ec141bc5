"""How warm things are: the water of each loop, the coolant (or air) in each rack, and its GPUs.

Two thermal masses in a row (equation: physics/thermal.py). Racks warm their coolant, coolant is
held near the loop's water by the flow of its CDU (or air handlers), and the water is held at its
supply by the plant. Without flow a rack is on its own; without plant the water is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory_sim.factory.facility.building import Flow
from factory_sim.factory.facility.plant import Loops
from factory_sim.factory.site import Rack
from factory_sim.physics.cooling import Loop, LoopDraw
from factory_sim.physics.thermal import warmed_c


@dataclass(slots=True)
class _Rack:
    """A rack's coolant: what warms it, and what holds it near the water of its loop."""

    wet: bool
    capacity_j_per_k: float
    conductance_w_per_k: float
    rise_k_per_w: float
    rest_w: float
    liquid_share: float
    board_w: float = 0.0
    coolant_c: float = 0.0
    gpu_c: float = 0.0
    flowing: bool = True
    gathered: bool = False  # warmer than its heat makes it, since it stood still


class Warmth:
    """Temperatures of a site whose cooling is known; a site with a constant PUE has none.

    running: whether the plant works. water_c: of the air loop and of the liquid loop.
    """

    def __init__(self, bays: Sequence[Rack], plant: object) -> None:
        self.loops = plant if isinstance(plant, Loops) else None
        self.running = True
        self._troubled = False
        self._released_w = 0.0
        self._racks = [_rack(rack) for rack in bays]
        self.water_c = (0.0, 0.0)
        if self.loops is not None:
            liquid = self.loops.liquid
            self.water_c = (self.loops.air.supply_c, liquid.supply_c if liquid else 0.0)
        for rack in self._racks:
            rack.coolant_c = rack.gpu_c = self.water_c[rack.wet]

    @property
    def gpu_c(self) -> list[float]:
        """Return how warm the GPUs of each bay are in the mean."""
        return [rack.gpu_c for rack in self._racks]

    def resting_c(self, bay: int) -> float:
        """Return how warm a bay's GPUs would be at rest, in the coolant of now."""
        rack = self._racks[bay]
        return rack.coolant_c + rack.rise_k_per_w * rack.rest_w

    def gpu_c_at(self, bay: int, factor: float) -> float:
        """Return how warm a bay's GPUs were if what they draw above rest were times `factor`."""
        rack = self._racks[bay]
        board_w = rack.rest_w + factor * (rack.board_w - rack.rest_w)
        return rack.coolant_c + rack.rise_k_per_w * board_w

    @property
    def coolant_c(self) -> list[float]:
        """Return how warm the coolant, or inlet air, of each bay is."""
        return [rack.coolant_c for rack in self._racks]

    @property
    def still(self) -> frozenset[int]:
        """Return the bays without flow."""
        return frozenset(bay for bay, rack in enumerate(self._racks) if not rack.flowing)

    @property
    def troubled(self) -> bool:
        """Tell whether flow or plant has failed, or water is still warm from such a time."""
        return self._troubled

    def backlog_w(self, flow: Flow) -> tuple[float, float]:
        """Return the heat that each loop's water gives the plant beside that of its racks.

        It is what the water's own conductance carries from where it is to where it should be, and
        what coolant gave back in the last step that it had gathered without flow.
        """
        if self.loops is None:
            return 0.0, 0.0
        return (
            _backlog_w(self.loops.air, flow.plant.air, self.water_c[0]),
            _backlog_w(self.loops.liquid, flow.plant.liquid, self.water_c[1]) + self._released_w,
        )

    def states(self) -> tuple[float, float, float, float]:
        """Return the water of the air loop and of the liquid loop, and the hottest coolant and GPU.

        All zero where the cooling is not known; zero of a loop that is not there.
        """
        if self.loops is None:
            return 0.0, 0.0, 0.0, 0.0
        return (*self.water_c, max(self.coolant_c), max(self.gpu_c))

    def set_flow(self, bays: frozenset[int], flowing: bool) -> None:
        """Let coolant flow through racks, or stand."""
        for bay in bays:
            self._racks[bay].flowing = flowing
            self._racks[bay].gathered = True
        self._troubled = True

    def set_running(self, running: bool) -> None:
        """Let the plant work, or not."""
        self.running = running
        self._troubled = True

    def advance(self, flow: Flow, gpu_w: Sequence[float], seconds: float) -> None:
        """Let some seconds pass with this flow, and boards of each bay that draw `gpu_w`."""
        if self.loops is None:
            return
        air, liquid, _ = flow.plant
        loops, heat = self.loops, flow.heat
        air_c, liquid_c = self.water_c
        if air is not None:
            air_c = self._water(
                air_c, loops.air, air, heat.air_w, loops.air_capacity_j_per_k, seconds
            )
        if liquid is not None and loops.liquid is not None:
            liquid_c = self._water(
                liquid_c,
                loops.liquid,
                liquid,
                heat.liquid_w,
                loops.liquid_capacity_j_per_k,
                seconds,
            )
        self.water_c = (air_c, liquid_c)
        water_c = self.water_c
        self._released_w = 0.0
        for rack, heat_w, board_w in zip(self._racks, flow.bays_w, gpu_w, strict=True):
            before_c = rack.coolant_c
            rack.coolant_c = warmed_c(
                rack.coolant_c,
                seconds,
                heat_w,
                rack.capacity_j_per_k,
                rack.conductance_w_per_k if rack.flowing else 0.0,
                water_c[rack.wet],
            )
            if rack.gathered and rack.flowing:
                stored_j = rack.capacity_j_per_k * (before_c - rack.coolant_c)
                self._released_w += max(0.0, rack.liquid_share * stored_j / seconds)
                final_c = water_c[rack.wet] + heat_w / rack.conductance_w_per_k
                rack.gathered = rack.coolant_c > final_c + 0.1
            rack.board_w = board_w
            rack.gpu_c = rack.coolant_c + rack.rise_k_per_w * board_w
        if self._troubled and self.running and not self.still:
            gathered = any(rack.gathered for rack in self._racks)
            self._troubled = gathered or max(self.backlog_w(flow)) > 0.0

    def _water(
        self,
        water_c: float,
        loop: Loop,
        draw: LoopDraw,
        heat_w: float,
        capacity_j_per_k: float,
        seconds: float,
    ) -> float:
        """Return how warm a loop's water is after some seconds."""
        if capacity_j_per_k <= 0.0:  # no rack gives it any heat
            return water_c
        if not self.running:
            return warmed_c(water_c, seconds, heat_w, capacity_j_per_k, 0.0, 0.0)
        # At full flow the water takes its whole heat within its range.
        conductance = loop.design_w / loop.range_k
        return warmed_c(
            water_c, seconds, draw.unserved_w, capacity_j_per_k, conductance, draw.supply_c
        )


def _rack(rack: Rack) -> _Rack:
    facts = rack.enclosure
    return _Rack(
        rack.liquid_share > 0.0,
        facts.heat_capacity.value * rack.nameplate_w,
        rack.nameplate_w / facts.coolant_rise.value,
        facts.gpu_rise.value / (rack.accelerator.need("tdp") * rack.gpus),
        rack.gpu_idle_w,
        rack.liquid_share,
    )


def _backlog_w(loop: Loop | None, draw: LoopDraw | None, water_c: float) -> float:
    """Return the watts that bring a loop's water back; nothing within a tenth of a kelvin."""
    if loop is None or draw is None or water_c <= draw.supply_c + 0.1:
        return 0.0
    return loop.design_w / loop.range_k * (water_c - draw.supply_c)
