"""The facility in time: energy goes in at the meter and every joule of it is put in its place.

Like a bookkeeper who comes by once a period: what the boards drew since the last visit is turned
into watts, the building says what that meant at every level, and the joules are written down.
Between visits draws count as constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add, sub, truediv
from typing import NamedTuple

from factory_sim.factory.facility.building import PARTS, WELL, Building, Condition, Flow
from factory_sim.factory.facility.climate import PERIOD_S, Climate
from factory_sim.factory.facility.storage import Storage
from factory_sim.factory.facility.warmth import Warmth
from factory_sim.physics.server import ServerModel
from factory_sim.scenario.signal import Constant, Signal
from factory_sim.scenario.site import Site

BATTERY = PARTS.index("battery")


class Limit(NamedTuple):
    """A level that may only carry so much: a name, the bays behind it, and its watts over time."""

    name: str
    bays: tuple[int, ...]
    watts: Signal


class Books(NamedTuple):
    """The sums of a facility at one time: joules by PARTS, at limited levels and through stages of
    the power chain, grams of carbon by PARTS, and the rest."""

    joules: tuple[float, ...]
    carried_j: tuple[float, ...]
    stage_j: tuple[float, ...]
    carbon_g: tuple[float, ...]
    meter_j: float
    generation_j: float
    it_j: float
    air_water_kg: float
    liquid_water_kg: float
    cost_usd: float

    def since(self, before: Books) -> Books:
        """Return what has come since `before`."""
        return Books(
            tuple(map(sub, self.joules, before.joules)),
            tuple(map(sub, self.carried_j, before.carried_j)),
            tuple(map(sub, self.stage_j, before.stage_j)),
            tuple(map(sub, self.carbon_g, before.carbon_g)),
            *map(sub, self[4:], before[4:]),
        )


class Facility:
    """The building, the weather and the meter of a site, with running sums of its energy.

    target: the watts at the meter, by time, that a battery keeps to; asked in order of time.
    joules, carbon_g: by PARTS; the latter is what the metered energy emitted. meter_j,
    generation_j: energy in. air_water_kg, liquid_water_kg: what the two loops drank. cost_usd: of
    the metered energy. carried_j, rest_w: joules until now, and watts with idle GPUs, of each of
    `limits`, of which the first is the meter. stage_j, fullest: of each stage of the power chain,
    joules delivered, and the highest load of a block over its rating. outdoors: whether weather
    plays a part. dark: bays without power.
    """

    def __init__(
        self, building: Building, climate: Climate, site: Site, target: Callable[[float], float]
    ) -> None:
        self.building, self._climate, self._target = building, climate, target
        self.limits = _limits(building, site.grid_limit)
        self.outdoors = site.weather is not None
        self.storage = Storage(site.battery) if site.battery else None
        self._generation: Signal | None = site.generation
        self._price: Signal | None = site.price
        self._carbon: Signal | None = site.carbon
        self.warmth = Warmth(building.bays, building.plant)
        self.dark: frozenset[int] = frozenset()
        self._fed = self._powered = True
        self._dark_by: dict[str, frozenset[int]] = {}
        self._failed_blocks: set[str] = set()
        self._off: frozenset[str] = frozenset()
        self._reduced: dict[int, ServerModel] = {}  # bays some of whose servers are off
        self._rest_w = [rack.gpu_idle_w for rack in building.bays]
        self.stage_j = [0.0] * len(building.stages)
        self.fullest = [0.0] * len(building.stages)
        self._ratings = [[block.rating_w for block in stage.blocks] for stage in building.stages]
        self.joules = [0.0] * len(PARTS)
        self.carried_j = [0.0] * len(self.limits)
        self.meter_j = self.generation_j = self.it_j = 0.0
        self.air_water_kg = self.liquid_water_kg = self.cost_usd = 0.0
        self.carbon_g = [0.0] * len(PARTS)
        self._last_s = 0.0
        self._last_bay_j = [0.0] * len(building.bays)
        self._ambient_until_s = PERIOD_S
        self.ambient = climate.at(0.0)
        self.flow = building.draw(self._rest_w, self.ambient)
        self._places = [_place_of(building, limit.name) for limit in self.limits[1:]]
        self.rest_w = self._at_rest()

    def set_dark(self, why: str, bays: frozenset[int]) -> None:
        """Leave bays without power, because of `why`, until it names others (or none)."""
        self._dark_by[why] = bays
        self.dark = frozenset().union(*self._dark_by.values())
        self.rest_w = self._at_rest()

    def set_servers_off(self, bay: int, servers: int) -> None:
        """Have so many servers of a bay off: they and their GPUs draw nothing."""
        rack = self.building.bays[bay]
        left = 1.0 - servers / len(rack.servers)
        self._rest_w[bay] = left * rack.gpu_idle_w
        self._reduced = {b: model for b, model in self._reduced.items() if b != bay}
        if servers:
            self._reduced[bay] = rack.load.times(left)
        self.rest_w = self._at_rest()

    def set_block(self, name: str, works: bool) -> None:
        """Lose a block of the power chain, or have it back."""
        (self._failed_blocks.discard if works else self._failed_blocks.add)(name)
        self._off = self.building.off_without(self._failed_blocks)
        self.rest_w = self._at_rest()

    def set_feed(self, live: bool) -> None:
        """Lose the utility feed, or have it back; battery and own generation may go on."""
        self._fed = live
        if live:
            self._powered = True
            self.rest_w = self._at_rest()

    def go_black(self) -> None:
        """Lose all power, until the feed is back."""
        self._powered = False
        self.rest_w = self._at_rest()

    def reserve_w(self, seconds: float) -> float:
        """Return what the battery can give for so long; nothing without one."""
        return self.storage.available_w(seconds) if self.storage is not None else 0.0

    def holds_alone(self, now: float, seconds: float) -> bool:
        """Tell whether battery and own generation carry the site as it draws now for so long."""
        if self._fed:
            return True
        generated_w = self._generation.at(now) if self._generation is not None else 0.0
        need_w = self.flow.load_w - generated_w
        return need_w <= 0.0 or (self.storage is not None and self.storage.lasts(need_w, seconds))

    def _condition(self) -> Condition:
        """Return what does not work now."""
        warmth = self.warmth
        if not (self.dark or warmth.troubled or self._reduced) and self._powered:
            return WELL
        backlog_w = (0.0, 0.0)
        if warmth.running and (self.dark or warmth.troubled or not self._powered):
            backlog_w = warmth.backlog_w(self.flow)
        return Condition(
            self.dark,
            self._off,
            warmth.still,
            warmth.running,
            self._live(),
            backlog_w,
            self._reduced,
        )

    def _live(self) -> bool:
        """Tell whether any power comes into the building."""
        return self._powered and self.building.fed_by(self._off)

    def books(self) -> Books:
        """Return all sums as they stand after the last visit."""
        return Books(
            tuple(self.joules),
            tuple(self.carried_j),
            tuple(self.stage_j),
            tuple(self.carbon_g),
            self.meter_j,
            self.generation_j,
            self.it_j,
            self.air_water_kg,
            self.liquid_water_kg,
            self.cost_usd,
        )

    def _at_rest(self) -> list[float]:
        """Return the watts of each limited level with idle GPUs, in the weather of now."""
        dark = Condition(self.dark, self._off, feed=self._live(), reduced=self._reduced)
        flow = self.building.draw(self._rest_w, self.ambient, dark)
        return [flow.load_w, *self._levels_w(flow)]

    def _levels_w(self, flow: Flow) -> list[float]:
        """Return the watts of each limited level but the meter."""
        return [
            flow.bays_w[block] if stage < 0 else flow.stages[stage][block]
            for stage, block in self._places
        ]

    def advance(self, now: float, bay_j: Sequence[float]) -> None:
        """Book the time until `now`. bay_j: joules above rest of each bay's boards, until now."""
        seconds = now - self._last_s
        if seconds <= 0.0:
            return
        gpu_w = [
            rest_w + (after_j - before_j) / seconds
            for rest_w, after_j, before_j in zip(self._rest_w, bay_j, self._last_bay_j, strict=True)
        ]
        self.flow = flow = self.building.draw(gpu_w, self.ambient, self._condition())
        self._book(flow, seconds)
        if self.outdoors:
            for bay in self.dark:
                gpu_w[bay] = 0.0
            self.warmth.advance(flow, gpu_w, seconds)
        self._last_s, self._last_bay_j = now, list(bay_j)
        if now >= self._ambient_until_s:
            self.ambient = self._climate.at(now)
            self._ambient_until_s = now + PERIOD_S
            self.rest_w = self._at_rest()

    def _book(self, flow: Flow, seconds: float) -> None:
        """Write down the joules of some seconds of this flow."""
        start_s, end_s = self._last_s, self._last_s + seconds
        joules = [watts * seconds for watts in flow.parts]
        generated_w = into_w = 0.0
        if self._generation is not None:
            generated_w = self._generation.mean_over(start_s, end_s)
        if self.storage is not None and self._live():
            need_w = flow.load_w - generated_w
            if self._fed:
                into_w = self.storage.take(need_w, self._target(start_s), seconds)
            else:
                into_w = self.storage.carry(need_w, seconds)
            joules[BATTERY] = into_w * seconds
        # What neither the site nor its battery can use of its own generation is lost.
        generated_w = min(generated_w, flow.load_w + max(into_w, 0.0))
        self.generation_j += generated_w * seconds
        meter_w = flow.load_w + into_w - generated_w
        self.joules = list(map(add, self.joules, joules))
        self.meter_j += meter_w * seconds
        self.it_j += flow.it_w * seconds
        air, liquid, _ = flow.plant
        if air is not None:
            self.air_water_kg += air.water_kg_per_s * seconds
        if liquid is not None:
            self.liquid_water_kg += liquid.water_kg_per_s * seconds
        whole_j = sum(joules)
        if self._carbon is not None and whole_j:
            # Of what the meter brings and of own generation each part has the same mix.
            grams_per_j = self._carbon.mean_over(start_s, end_s)
            per_j = meter_w * seconds * grams_per_j / whole_j
            parts_g = [part_j * per_j for part_j in joules]
            self.carbon_g = list(map(add, self.carbon_g, parts_g))
        if self._price is not None:
            self.cost_usd += meter_w * seconds * self._price.mean_over(start_s, end_s)
        for index, outputs in enumerate(flow.stages):
            self.stage_j[index] += sum(outputs) * seconds
            fullest = max(map(truediv, outputs, self._ratings[index]))
            if fullest > self.fullest[index]:
                self.fullest[index] = fullest
        self.carried_j[0] += meter_w * seconds
        if self._places:
            for index, watts in enumerate(self._levels_w(flow), start=1):
                self.carried_j[index] += watts * seconds


def _limits(building: Building, grid_limit: Signal) -> list[Limit]:
    """Return the meter's limit, then those of blocks and rack feeds that could be exceeded."""
    found = [Limit("meter", tuple(range(len(building.bays))), grid_limit)]
    behind = [{bay} for bay in building.bay_of]
    for stage, most in zip(building.stages, building.most_w, strict=True):
        behind = [set().union(*(behind[index] for index in b.feeds)) for b in stage.blocks]
        found += [
            Limit(block.name, tuple(sorted(bays)), Constant(block.rating_w))
            for block, bays, most_w in zip(stage.blocks, behind, most, strict=True)
            if most_w > block.rating_w * (1 + 1e-9)
        ]
    if building.rack_limit_w is not None:
        found += [
            Limit(rack.name, (bay,), Constant(building.rack_limit_w))
            for bay, rack in enumerate(building.bays)
            if rack.peak_w > building.rack_limit_w * (1 + 1e-9)
        ]
    return found


def _place_of(building: Building, name: str) -> tuple[int, int]:
    """Return where a limited level stands: its stage (-1: the racks) and its block (or bay)."""
    for index, stage in enumerate(building.stages):
        for number, block in enumerate(stage.blocks):
            if block.name == name:
                return index, number
    return -1, [rack.name for rack in building.bays].index(name)
