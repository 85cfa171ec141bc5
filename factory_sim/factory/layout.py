"""Laying out the factory: racks under the cap, and the deployments on their GPUs.

This is all that can be known before a run. It finds every problem of a scenario that its
text alone does not show: a model too big for its GPUs, racks that do not fit under the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from factory_sim.errors import InputError, Problem
from factory_sim.factory.facility.building import Building, Flow
from factory_sim.factory.facility.climate import Climate
from factory_sim.factory.facility.design import design
from factory_sim.factory.fleet import Fleet, make_fleet
from factory_sim.factory.site import Gpu, Rack, Server, Site, server_model
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.site import Racks

BUSY_PERIOD_S, QUIET_PERIOD_S = 1.0, 10.0
"""Between readings of the meter: where a level can bind or a thing can fail, and elsewhere."""


@dataclass(frozen=True)
class Layout:
    """The factory before it runs. hottest: the worst weather it will see."""

    scenario: Scenario
    site: Site
    building: Building
    climate: Climate
    hottest: Ambient
    fleets: tuple[Fleet, ...]

    @property
    def spare_gpus(self) -> int:
        """Return the GPUs that no replica uses; they draw idle power."""
        used = sum(fleet.represented * fleet.gpus_per_replica for fleet in self.fleets)
        return len(self.site.gpus) - used

    def flow(self, gpu_w: Callable[[Rack], float], ambient: Ambient | None = None) -> Flow:
        """Return the watts of the site with boards that draw `gpu_w` of each rack together.

        ambient: the hottest of the run without.
        """
        watts = [gpu_w(rack) for rack in self.building.bays]
        return self.building.draw(watts, ambient or self.hottest)

    @property
    def idle(self) -> Flow:
        """Return the watts of the site at rest, in the hottest weather."""
        return self.flow(lambda rack: rack.gpu_idle_w)

    @property
    def peak(self) -> Flow:
        """Return the watts with every GPU at its power limit, in the hottest weather."""
        return self.flow(lambda rack: rack.gpu_peak_w)

    @property
    def period_s(self) -> float:
        """Return how often the meter is read: seldom where nobody would act on it."""
        scenario, building = self.scenario, self.building
        if scenario.power.period is not None:
            return scenario.power.period
        end_s = scenario.duration + scenario.drain
        acts = (
            self.peak.load_w > scenario.site.grid_limit.min_over(0.0, end_s)
            or building.can_bind
            or scenario.power.preference is not None
            or scenario.failures is not None
        )
        return BUSY_PERIOD_S if acts else QUIET_PERIOD_S

    @property
    def nameplate_grid_w(self) -> float:
        """Return the watts at the meter with racks at their nameplates, in the hottest weather."""
        return self.building.grid_w([rack.nameplate_w for rack in self.building.bays], self.hottest)

    @property
    def provisioned_grid_w(self) -> float:
        """Return the utility watts set aside: for the nameplates, at most the grid limit."""
        return min(self.nameplate_grid_w, _limit_w(self.scenario))

    @property
    def provisioned_it_w(self) -> float:
        """Return the IT watts set aside: the nameplates, or their share under the grid limit."""
        share = self.provisioned_grid_w / self.nameplate_grid_w
        return self.site.nameplate_it_w() * share


def lay_out(scenario: Scenario) -> Layout:
    """Return the factory that `scenario` describes; InputError with every problem found."""
    problems: list[Problem] = []
    climate = Climate(scenario.site.weather)
    hottest = climate.hottest(scenario.duration + scenario.drain)
    racks = _racks(scenario, hottest, problems)
    site = Site(racks)
    free: dict[str, list[Gpu]] = {}
    for rack in racks:
        gpus = free.setdefault(rack.system.name, [])
        gpus += [gpu for server in rack.servers for gpu in server.gpus]
    fleets = []
    racks_short = bool(problems)
    # Deployments that count their replicas choose first; 'fill' takes what is left.
    for name, spec in sorted(scenario.deployments.items(), key=lambda item: item[1].fills):
        try:
            fleets.append(make_fleet(scenario, name, spec, free))
        except InputError as error:
            problems += [
                Problem(p.path or f"deployments.{name}", p.message)
                for p in error.problems
                if not (racks_short and p.path.endswith(".replicas"))  # that follows
            ]
    building = None
    if not racks_short:
        try:
            building = design(scenario, racks, _bays(scenario, racks, fleets), hottest)
        except InputError as error:
            problems += error.problems
    if problems or building is None:
        raise InputError(problems)
    order = list(scenario.deployments)
    found = Layout(
        scenario,
        site,
        building,
        climate,
        hottest,
        tuple(sorted(fleets, key=lambda f: order.index(f.name))),
    )
    _check_idle(found)
    if scenario.failures is not None and any(fleet.like for fleet in fleets):
        raise InputError(
            Problem(
                "failures",
                "a rack that stands for many cannot fail for itself; simulate every replica "
                "('replicas: N'), or leave out the failures",
            )
        )
    return found


def _bays(scenario: Scenario, racks: list[Rack], fleets: list[Fleet]) -> list[int]:
    """Return, for each rack, the index of the one that stands for it: mostly itself.

    Racks of one row without any replica are alike.
    """
    index = {rack.name: number for number, rack in enumerate(racks)}
    stands = {index[rack]: index[like] for fleet in fleets for rack, like in fleet.like.items()}
    used = {gpus[0].rack for fleet in fleets for gpus in fleet.replicas}
    empty: dict[tuple[str, int, float, float], int] = {}
    for number, rack in enumerate(racks):
        # What may fail must be there by itself.
        if scenario.failures is None and rack.name not in used and number not in stands:
            kind = (rack.system.name, len(rack.servers), rack.gpu_limit_w, rack.liquid_share)
            stands[number] = empty.setdefault(kind, number)
    return [stands.get(number, number) for number in range(len(racks))]


# -- racks -----------------------------------------------------------------------------


def _limit_w(scenario: Scenario) -> float:
    return float(scenario.site.grid_limit.at(0.0))


def _racks(scenario: Scenario, hottest: Ambient, problems: list[Problem]) -> list[Rack]:
    """Return the racks, with 'fill' resolved, and check their sum against the limit."""
    limit_w = _limit_w(scenario)
    basis = scenario.provisioning.basis
    allowed_w = limit_w * scenario.provisioning.oversubscribe
    kinds: dict[int, Rack] = {}
    for index, row in enumerate(scenario.racks):
        try:
            kinds[index] = _rack(scenario, row, "", 0)
        except InputError as error:
            problems += [
                Problem(f"racks.{index}.{p.path if p.path in ROW else 'system'}", p.message)
                for p in error.problems
            ]
    if problems:
        return []

    def needed_w(counts: dict[int, int]) -> float:
        """Return what the meter must provide for so many racks of each row."""
        racks = [kinds[index] for index, count in counts.items() for _ in range(count)]
        return _needed_w(scenario, racks, hottest) if racks else 0.0

    counts = {i: row.count for i, row in enumerate(scenario.racks) if row.count != "fill"}
    try:
        for index, row in enumerate(scenario.racks):
            if row.count == "fill":
                needed_w(counts | {index: 1})  # says what is wrong if not even one can be
                counts[index] = _most(partial(_with, needed_w, counts, index), allowed_w)
                if not counts[index]:
                    problems.append(_no_rack(scenario, row, index, needed_w, counts, allowed_w))
        used_w = needed_w(counts)
    except InputError as error:
        problems += error.problems
        return []
    if used_w > allowed_w * (1 + 1e-9) and not problems:
        ratio = used_w / limit_w
        problems.append(
            Problem(
                "racks",
                f"need {used_w / 1e3:.1f} kW at the meter ({basis}), more than site.grid_limit "
                f"({limit_w / 1e3:.1f} kW) allows; have fewer racks, or ask for it with "
                f"'provisioning: {{oversubscribe: {ratio + 0.005:.2f}}}'",
            )
        )
    racks: list[Rack] = []
    gpus = 0
    for index, row in enumerate(scenario.racks):
        for _ in range(counts[index]):
            racks.append(_rack(scenario, row, f"rack-{len(racks)}", gpus))
            gpus += racks[-1].gpus
    return racks


def _needed_w(scenario: Scenario, racks: list[Rack], hottest: Ambient) -> float:
    """Return the watts at the meter for racks at their provisioned draw, in the hottest weather."""
    # A building for more racks is designed for them: ratings that are stated are checked later.
    building = design(scenario, racks, list(range(len(racks))), hottest)
    if scenario.provisioning.basis == "nameplate":
        return building.grid_w([rack.nameplate_w for rack in racks], hottest)
    peak_w = building.draw([rack.gpu_peak_w for rack in racks], hottest).load_w
    return peak_w * (1.0 + scenario.provisioning.margin)


def _with(
    needed_w: Callable[[dict[int, int]], float], counts: dict[int, int], index: int, count: int
) -> float:
    """Return what the meter must provide with `count` racks of one row beside the others.

    More than a stated rating or capacity carries can never be provided.
    """
    try:
        return needed_w(counts | {index: count})
    except InputError:
        return float("inf")


def _most(needed_w: Callable[[int], float], allowed_w: float) -> int:
    """Return the largest count whose need is allowed; the need grows with the count."""
    one_w = needed_w(1)
    if one_w > allowed_w * (1 + 1e-9):
        return 0
    low, high = 1, 1 + int(2.0 * allowed_w / one_w)
    while low < high:
        middle = (low + high + 1) // 2
        if needed_w(middle) <= allowed_w * (1 + 1e-9):
            low = middle
        else:
            high = middle - 1
    return low


def _no_rack(
    scenario: Scenario,
    row: Racks,
    index: int,
    needed_w: Callable[[dict[int, int]], float],
    counts: dict[int, int],
    allowed_w: float,
) -> Problem:
    others = {key: count for key, count in counts.items() if key != index}
    used_w = needed_w(others)
    need_w = needed_w(others | {index: 1}) - used_w
    missing_w = (need_w + used_w - allowed_w) / scenario.provisioning.oversubscribe
    return Problem(
        f"racks.{index}.count",
        f"no rack fits: one {row.system} rack needs {need_w / 1e3:.1f} kW at the "
        f"meter ({scenario.provisioning.basis}), and {max(0.0, allowed_w - used_w) / 1e3:.1f} kW "
        f"are free; raise site.grid_limit by {missing_w / 1e3:.1f} kW, or "
        "take a smaller racks.servers_per_rack",
    )


def _check_idle(layout: Layout) -> None:
    """Refuse a site whose racks, at rest, already draw more than the limit at its lowest."""
    scenario = layout.scenario
    end_s = scenario.duration + scenario.drain
    lowest_w = scenario.site.grid_limit.min_over(0.0, end_s)
    generation = scenario.site.generation
    own_w = 0.0 if generation is None else generation.min_over(0.0, end_s)
    idle_w = layout.idle.load_w - own_w
    if idle_w > lowest_w:
        raise InputError(
            Problem(
                "site.grid_limit",
                f"falls to {lowest_w / 1e3:.1f} kW, but the racks draw {idle_w / 1e3:.1f} kW "
                f"even when idle; raise it by {(idle_w - lowest_w) / 1e3:.1f} kW or have fewer "
                "racks",
            )
        )


ROW = ("gpu_power_limit", "gpu_clock")
"""Fields of a row that a rack's own problems name; all others are of its system."""


def _rack(scenario: Scenario, row: Racks, name: str, first_gpu: int) -> Rack:
    """Return one rack of the row; its GPUs are numbered from `first_gpu` on."""
    system = scenario.facts.system(row.system)
    accelerator = scenario.facts.accelerator(system.accelerator)
    tdp_w, idle_w = accelerator.need("tdp"), accelerator.need("idle")
    limit_w = row.gpu_power_limit or tdp_w
    if not idle_w < limit_w <= tdp_w:
        raise InputError(
            Problem(
                "gpu_power_limit",
                f"must lie between {idle_w:g} W, the draw of {accelerator.name} at rest, and "
                f"{tdp_w:g} W, its limit as sold; not {limit_w:g} W",
            )
        )
    servers = []
    for number in range(row.servers_per_rack or system.servers_per_rack):
        gpus = []
        for slot in range(system.gpus_per_server):
            place = number * system.gpus_per_server + slot
            gpus.append(
                Gpu(
                    first_gpu + place,
                    f"{name}/server-{number}/gpu-{slot}",
                    name,
                    f"{name}/domain-{place // system.scaleup_gpus}",
                )
            )
        servers.append(Server(f"{name}/server-{number}", tuple(gpus)))
    if row.gpu_clock is not None:
        floor = scenario.facts.power_curve(accelerator.family).clock_floor.value
        if row.gpu_clock < floor:
            raise InputError(
                Problem(
                    "gpu_clock",
                    f"must be at least {floor:.0%}, the lowest useful clock of "
                    f"{accelerator.name}, not {row.gpu_clock:.0%}",
                )
            )
    enclosure = scenario.facts.enclosure(system.cooling)
    liquid = enclosure.liquid_share.value if row.liquid_share is None else row.liquid_share
    load = server_model(system, accelerator, enclosure).times(len(servers))
    clock = row.gpu_clock or 1.0
    return Rack(name, system, accelerator, enclosure, tuple(servers), limit_w, clock, liquid, load)
