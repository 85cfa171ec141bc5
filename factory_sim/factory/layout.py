"""Laying out the factory: at each site racks under the cap, and deployments on their GPUs.

This is all that can be known before a run. It finds every problem of a scenario that its
text alone does not show: a model too big for its GPUs, racks that do not fit under the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from factory_sim.economics.terms import Terms, terms_of
from factory_sim.errors import InputError, Problem
from factory_sim.factory.facility.building import Building, Flow
from factory_sim.factory.facility.climate import Climate
from factory_sim.factory.facility.design import design
from factory_sim.factory.fleets.encoders import make_encoders
from factory_sim.factory.fleets.fleet import ENCODE, Fleet, path_of, pools_of
from factory_sim.factory.fleets.make import make_fleet
from factory_sim.factory.network.review import check_fabric
from factory_sim.factory.network.wiring import Wiring
from factory_sim.factory.racks import connected_w, horizon_s, own_w, racks_of
from factory_sim.factory.site import Gpu, Rack, Site
from factory_sim.factory.training.holding import Holding, hold
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.scenario.places import Part, parts_of
from factory_sim.scenario.scenario import Scenario

BUSY_PERIOD_S, QUIET_PERIOD_S = 1.0, 10.0
"""Between readings of the meter: where a level can bind or a thing can fail, and elsewhere."""


@dataclass(frozen=True)
class Layout:
    """A site before it runs. part: the scenario's part that it is. hottest: the worst weather it
    will see. holdings: training jobs on their GPUs. terms: of what it costs."""

    part: Part
    site: Site
    building: Building
    climate: Climate
    hottest: Ambient
    fleets: tuple[Fleet, ...]
    holdings: tuple[Holding, ...] = ()
    terms: Terms | None = None

    def wiring(self) -> Wiring | None:
        """Return the ports of its fabric, none of them used yet, if it has one."""
        network = self.scenario.network
        if network is None or network.fabric is None:
            return None
        return Wiring(network.fabric, self.site.racks, self.scenario.facts)

    @property
    def scenario(self) -> Scenario:
        """Return what is at this site."""
        return self.part.scenario

    @property
    def spare_gpus(self) -> int:
        """Return the GPUs that no replica and no job uses; they draw idle power."""
        used = sum(fleet.gpus for fleet in self.fleets)
        used += sum(len(holding.gpus) for holding in self.holdings)
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
        return min(self.nameplate_grid_w, connected_w(self.scenario))

    @property
    def provisioned_it_w(self) -> float:
        """Return the IT watts set aside: the nameplates, or their share under the grid limit."""
        share = self.provisioned_grid_w / self.nameplate_grid_w
        return self.site.nameplate_it_w() * share


def lay_out(scenario: Scenario) -> Layout:
    """Return the site that a scenario of one describes; InputError with every problem found."""
    (layout,) = lay_out_sites(scenario)
    return layout


def lay_out_sites(scenario: Scenario) -> tuple[Layout, ...]:
    """Return every site that `scenario` describes; InputError with every problem found."""
    found: list[Layout] = []
    problems: list[Problem] = []
    wirings: list[tuple[Wiring | None, Sequence[Fleet]]] = []
    for part in parts_of(scenario):
        try:
            layout = _lay_out(part)
            found.append(layout)
            wirings.append((layout.wiring(), layout.fleets))
        except InputError as error:
            problems += map(part.told, error.problems)
    if problems:
        # What all sites have in common is wrong once.
        raise InputError(dict.fromkeys(problems))
    check_fabric(scenario, [(wiring, fleets) for wiring, fleets in wirings if wiring is not None])
    return tuple(found)


def fleets_of(layouts: Sequence[Layout]) -> list[Fleet]:
    """Return the pools of all sites, in the order of the whole scenario."""
    order = list(pools_of(layouts[0].part.whole))
    found = (fleet for layout in layouts for fleet in layout.fleets)
    return sorted(found, key=lambda fleet: order.index(fleet.name))


def _lay_out(part: Part) -> Layout:
    """Return the layout of one site."""
    scenario = part.scenario
    problems: list[Problem] = []
    climate = Climate(scenario.site.weather)
    hottest = climate.hottest(horizon_s(scenario))
    racks = racks_of(scenario, hottest, problems)
    racks_short = bool(problems)
    free = _free(racks)
    # Jobs stand on the last racks, so that replicas stand where they would without them.
    holdings: list[Holding] = []
    for name, job in (scenario.training or {}).items():
        with _noting(problems, f"training.{name}", ".gpus" if racks_short else None):
            holdings.append(hold(scenario, name, job, free, {rack.name: rack for rack in racks}))
    # Pools that count their replicas choose first; 'fill' takes what is left.
    fleets: list[Fleet] = []
    pools = pools_of(scenario)
    for name, spec in sorted(pools.items(), key=lambda item: item[1].fills):
        with _noting(problems, path_of(name), ".replicas" if racks_short else None):
            make = make_encoders if name.endswith(ENCODE) else make_fleet
            fleets.append(make(scenario, name, spec, free))
    problems += _unlike(racks, fleets)
    problems += _crowded(fleets, holdings)
    building = terms = None
    if not racks_short:
        with _noting(problems):
            building = design(scenario, racks, _bays(scenario, racks, fleets, holdings), hottest)
    if scenario.costs is not None:
        with _noting(problems):
            kinds = {rack.accelerator.name for rack in racks}
            terms = terms_of(scenario.costs, scenario.facts, kinds)
    if problems or building is None:
        raise InputError(problems)
    order = list(pools)
    found = Layout(
        part,
        Site(racks),
        building,
        climate,
        hottest,
        tuple(sorted(fleets, key=lambda f: order.index(f.name))),
        tuple(holdings),
        terms,
    )
    _check_idle(found)
    _check_failures(found)
    return found


@contextmanager
def _noting(problems: list[Problem], where: str = "", follows: str | None = None) -> Iterator[None]:
    """Note what turns out to be wrong, and go on.

    where: of what names no field. follows: how fields end whose problems follow from those before.
    """
    try:
        yield
    except InputError as error:
        problems += [
            Problem(problem.path or where, problem.message)
            for problem in error.problems
            if follows is None or not problem.path.endswith(follows)
        ]


def _free(racks: Sequence[Rack]) -> dict[str, list[Gpu]]:
    """Return all GPUs of the racks, by system."""
    free: dict[str, list[Gpu]] = {}
    for rack in racks:
        gpus = free.setdefault(rack.system.name, [])
        gpus += [gpu for server in rack.servers for gpu in server.gpus]
    return free


def _unlike(racks: list[Rack], fleets: list[Fleet]) -> Iterator[Problem]:
    """Yield a problem for each deployment of which a rack stands for one that is not like it."""
    kinds = {
        rack.name: (rack.gpu_limit_w, rack.gpu_clock, rack.liquid_share, len(rack.servers))
        for rack in racks
    }
    for fleet in fleets:
        for rack, like in fleet.like.items():
            if kinds[rack] != kinds[like]:
                yield Problem(
                    f"{fleet.where}.replicas",
                    f"{like} would stand for {rack}, whose power limit, clock, liquid_share or "
                    "servers are other ones; simulate every replica ('replicas: N'), or make the "
                    "rows of racks alike",
                )
                break


def _crowded(fleets: list[Fleet], holdings: list[Holding]) -> Iterator[Problem]:
    """Yield a problem for each job in a rack that stands for others, or that another stands for."""
    shown = {name for fleet in fleets for pair in fleet.like.items() for name in pair}
    for holding in holdings:
        if shown.intersection(holding.gpus_in):
            yield Problem(
                f"{holding.where}.gpus",
                "some of them share a rack with replicas that stand for many; give the job whole "
                "racks of its own, or simulate every replica ('replicas: N')",
            )


def _bays(
    scenario: Scenario, racks: list[Rack], fleets: list[Fleet], holdings: list[Holding]
) -> list[int]:
    """Return, for each rack, the index of the one that stands for it: mostly itself.

    Racks of one row without any replica are alike, if jobs have as many GPUs in each.
    """
    index = {rack.name: number for number, rack in enumerate(racks)}
    stands = {index[rack]: index[like] for fleet in fleets for rack, like in fleet.like.items()}
    used = {gpus[0].rack for fleet in fleets for gpus in fleet.replicas}
    empty: dict[tuple[object, ...], int] = {}
    for number, rack in enumerate(racks):
        # What may fail must be there by itself.
        if scenario.failures is None and rack.name not in used and number not in stands:
            held = tuple(holding.gpus_in.get(rack.name, 0) for holding in holdings)
            kind = (rack.system.name, len(rack.servers), rack.gpu_limit_w, rack.liquid_share, held)
            stands[number] = empty.setdefault(kind, number)
    return [stands.get(number, number) for number in range(len(racks))]


def _check_idle(layout: Layout) -> None:
    """Refuse a site whose racks, at rest, already draw more than the limit at its lowest."""
    scenario = layout.scenario
    end_s = scenario.duration + scenario.drain
    lowest_w = scenario.site.grid_limit.min_over(0.0, end_s)
    idle_w = layout.idle.load_w - own_w(scenario, end_s)
    if idle_w > lowest_w:
        raise InputError(
            Problem(
                "site.grid_limit",
                f"falls to {lowest_w / 1e3:.1f} kW, but the racks draw {idle_w / 1e3:.1f} kW "
                f"even when idle; raise it by {(idle_w - lowest_w) / 1e3:.1f} kW or have fewer "
                "racks",
            )
        )


def _check_failures(layout: Layout) -> None:
    """Refuse failures of racks that stand for others."""
    if layout.scenario.failures is not None and any(fleet.like for fleet in layout.fleets):
        raise InputError(
            Problem(
                "failures",
                "a rack that stands for many cannot fail for itself; simulate every replica "
                "('replicas: N'), or leave out the failures",
            )
        )
