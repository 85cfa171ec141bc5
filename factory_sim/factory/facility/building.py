"""The building: what the whole site draws, from what its GPU boards draw and the weather.

No state and no clock: racks, then the power chain from them up to the feed, then the cooling of
everything that became heat on the way. What comes and goes with time is in `facility.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from factory_sim.factory.facility.chain import ChainStage
from factory_sim.factory.facility.climate import INDOORS
from factory_sim.factory.facility.plant import Heat, Plant, PlantDraw
from factory_sim.factory.site import Rack
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.physics.server import ServerModel

PARTS = (
    "gpus",
    "hosts",
    "fans",
    "server_supplies",
    "switches",
    "pdu",
    "ups",
    "transformer",
    "air_movers",
    "coolant_pumps",
    "water_pumps",
    "roof_fans",
    "chillers",
    "building",
    "battery",
)
"""Where a joule from the meter may end, from the GPUs outwards. Losses are named by what loses.

air_movers: fans of air handlers. coolant_pumps: of CDUs. water_pumps, roof_fans, chillers: of both
cooling loops. building: of a constant PUE, everything around IT. battery: lost in it, and held.
"""

_AIR_MOVERS, _COOLANT_PUMPS, _WATER_PUMPS, _ROOF_FANS, _CHILLERS, _BUILDING = map(
    PARTS.index,
    ("air_movers", "coolant_pumps", "water_pumps", "roof_fans", "chillers", "building"),
)

IT_PARTS = 5
"""The first parts are IT: server fans, server supplies and the racks' switches included."""


class Condition(NamedTuple):
    """What of the building does not work now, and what heat waits to be removed.

    dark: bays without power; off: blocks of the power chain without any; still: bays without
    coolant flow. plant: whether it works; feed: whether any power comes in.
    backlog_w: of each loop, heat that its water has gathered and the plant is to remove beside
    that of the racks. reduced: of bays some of whose servers are off, what the others draw.
    """

    dark: frozenset[int] = frozenset()
    off: frozenset[str] = frozenset()
    still: frozenset[int] = frozenset()
    plant: bool = True
    feed: bool = True
    backlog_w: tuple[float, float] = (0.0, 0.0)
    reduced: Mapping[int, ServerModel] = MappingProxyType({})


WELL = Condition()


class Flow(NamedTuple):
    """Watts through the building at one time.

    parts: by PARTS. bays_w: IT watts of each simulated rack. stages: what each block of each
    stage delivers. it_w, load_w: of all racks, and of the whole site before its own generation.
    """

    parts: list[float]
    bays_w: list[float]
    stages: list[list[float]]
    heat: Heat
    plant: PlantDraw
    it_w: float
    load_w: float


class Building:
    """Racks, power chain and cooling plant.

    bays: the racks that are simulated; bay_of: of every rack, the bay it behaves like. stages:
    from the racks to the feed. most_w: the most that the blocks of each stage can be asked for.
    rack_limit_w: what the feed of a rack may carry, where that is limited.
    """

    def __init__(
        self,
        bays: Sequence[Rack],
        bay_of: Sequence[int],
        stages: Sequence[ChainStage],
        plant: Plant,
        rack_limit_w: float | None = None,
        hottest: Ambient = INDOORS,
    ) -> None:
        self.bays, self.bay_of = tuple(bays), tuple(bay_of)
        self.rack_limit_w = rack_limit_w
        self.stages, self.plant = tuple(stages), plant
        self.counts = [self.bay_of.count(bay) for bay in range(len(self.bays))]
        self._bays = [
            (rack.load, rack.switches_w, rack.liquid_share, float(count))
            for rack, count in zip(self.bays, self.counts, strict=True)
        ]
        # What a transformer loses outdoors is no heat of the hall.
        placed = [(stage, PARTS.index(stage.name)) for stage in self.stages]
        self._indoors = [place for place in placed if place[0].name != "transformer"]
        self._outdoors = next((place for place in placed if place[0].name == "transformer"), None)
        self.most_w = self.draw([rack.gpu_peak_w for rack in self.bays], hottest).stages

    @property
    def can_bind(self) -> bool:
        """Tell whether a block or a rack's feed could be asked for more than it may carry."""
        blocks = any(
            most_w > block.rating_w * (1 + 1e-9)
            for stage, outputs_w in zip(self.stages, self.most_w, strict=True)
            for block, most_w in zip(stage.blocks, outputs_w, strict=True)
        )
        limit_w = self.rack_limit_w
        return blocks or (limit_w is not None and any(r.peak_w > limit_w for r in self.bays))

    def draw(self, gpu_w: Sequence[float], ambient: Ambient, condition: Condition = WELL) -> Flow:
        """Return the flow with boards of each bay that draw `gpu_w`, in this condition."""
        if not condition.feed:
            return self._nothing()
        dark, still, reduced = condition.dark, condition.still, condition.reduced
        gpus = hosts = fans = supplies = switches = liquid_w = 0.0
        bays_w = []
        for bay, (load, switches_w, liquid, count) in enumerate(self._bays):
            if bay in dark:
                bays_w.append(0.0)
                continue
            watts = reduced.get(bay, load).draw(gpu_w[bay])
            bay_w = watts[4] + switches_w
            bays_w.append(bay_w)
            gpus += count * watts[0]
            hosts += count * watts[1]
            fans += count * watts[2]
            supplies += count * watts[3]
            switches += count * switches_w
            if bay not in still:
                liquid_w += count * bay_w * liquid
        parts = [gpus, hosts, fans, supplies, switches, *[0.0] * (len(PARTS) - IT_PARTS)]
        return self._upstream(parts, bays_w, liquid_w, ambient, condition)

    def grid_w(self, bays_w: Sequence[float], ambient: Ambient) -> float:
        """Return the watts of the whole site with racks of each bay that draw `bays_w`."""
        liquid_w = sum(
            count * watts * rack.liquid_share
            for rack, watts, count in zip(self.bays, bays_w, self.counts, strict=True)
        )
        it_w = sum(count * watts for watts, count in zip(bays_w, self.counts, strict=True))
        parts = [it_w, *[0.0] * (len(PARTS) - 1)]
        return self._upstream(parts, list(bays_w), liquid_w, ambient, WELL).load_w

    def _nothing(self) -> Flow:
        """Return the flow of a site without feed."""
        delivered = [[0.0] * len(stage.blocks) for stage in self.stages]
        nothing = PlantDraw(None, None, 0.0)
        heat = Heat(0.0, 0.0, 0.0)
        return Flow([0.0] * len(PARTS), [0.0] * len(self.bays), delivered, heat, nothing, 0.0, 0.0)

    def _upstream(
        self,
        parts: list[float],
        bays_w: list[float],
        liquid_w: float,
        ambient: Ambient,
        condition: Condition,
    ) -> Flow:
        """Add what stands between the racks and the feed to `parts`, which hold the IT watts."""
        it_w = sum(parts)
        behind = bays_w if len(self.bay_of) == len(bays_w) else [bays_w[b] for b in self.bay_of]
        delivered: list[list[float]] = []
        lost_w = 0.0
        for stage, part in self._indoors:
            inputs, outputs = stage.through(behind, condition.off)
            delivered.append(outputs)
            parts[part] = stage_w = sum(inputs) - sum(outputs)
            lost_w += stage_w
            behind = inputs
        air_more_w, liquid_more_w = condition.backlog_w
        air_w = self._air_w(bays_w, it_w, liquid_w, condition) + lost_w
        heat = Heat(air_w + air_more_w, liquid_w + liquid_more_w, it_w)
        plant = self.plant.draw(heat, ambient, condition.plant, self._flowing(condition.still))
        _book_plant(parts, plant)
        if self._outdoors is not None:
            # It feeds the plant too, each block in proportion to its racks.
            stage, part = self._outdoors
            fed_w = sum(behind)
            scale = 1.0 + sum(parts[part + 1 :]) / fed_w if fed_w else 1.0
            inputs, outputs = stage.through([watts * scale for watts in behind], condition.off)
            delivered.append(outputs)
            parts[part] = sum(inputs) - sum(outputs)
        return Flow(parts, bays_w, delivered, heat, plant, it_w, sum(parts))

    def off_without(self, failed: Collection[str]) -> frozenset[str]:
        """Return the blocks without power when some have failed: those, and all behind them."""
        off: set[str] = set()
        behind: tuple[int, ...] = ()
        for stage in reversed(self.stages):
            found = [
                block
                for index, block in enumerate(stage.blocks)
                if block.name in failed or index in behind
            ]
            off.update(block.name for block in found)
            behind = tuple(index for block in found for index in block.feeds)
        return frozenset(off)

    def fed_by(self, off: frozenset[str]) -> bool:
        """Tell whether anything comes in: some transformer works, where there are any."""
        if self._outdoors is None or not off:
            return True
        return not all(block.name in off for block in self._outdoors[0].blocks)

    def _flowing(self, still: frozenset[int]) -> float:
        """Return the share of CDUs that work, by the heat that their racks may give them."""
        if not still:
            return 1.0
        most_w = [
            count * rack.nameplate_w * rack.liquid_share
            for count, rack in zip(self.counts, self.bays, strict=True)
        ]
        return 1.0 - sum(most_w[bay] for bay in still) / sum(most_w)

    def _air_w(
        self, bays_w: list[float], it_w: float, liquid_w: float, condition: Condition
    ) -> float:
        """Return the heat that leaves racks as warm air; in racks without flow the rest stays."""
        if not condition.still:
            return it_w - liquid_w
        kept_w = sum(
            self.counts[bay] * bays_w[bay] * self.bays[bay].liquid_share for bay in condition.still
        )
        return it_w - liquid_w - kept_w


def _book_plant(parts: list[float], plant: PlantDraw) -> None:
    """Put the plant's watts where they belong among the parts."""
    air, liquid, parts[_BUILDING] = plant
    if air is not None:
        parts[_AIR_MOVERS] = air.movers_w
    if liquid is not None:
        parts[_COOLANT_PUMPS] = liquid.movers_w
    for loop in (air, liquid):
        if loop is not None:
            parts[_WATER_PUMPS] += loop.pumps_w
            parts[_ROOF_FANS] += loop.roof_w
            parts[_CHILLERS] += loop.chillers_w
