"""The premises: one site as it runs, its racks behind one meter and everyone who minds them."""

from __future__ import annotations

import numpy as np

from factory_sim.factory.board import Board
from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.facility.governor import Governor
from factory_sim.factory.failures.chance import set_going
from factory_sim.factory.failures.outages import Outages
from factory_sim.factory.layout import Layout
from factory_sim.factory.logbook import Carrier
from factory_sim.factory.meter import Meter
from factory_sim.factory.network.weights import OverFabric, OverLink, Road, Store
from factory_sim.factory.pools import Pools
from factory_sim.factory.power import POLICIES
from factory_sim.factory.power.allowance import Allowance
from factory_sim.factory.power.manager import Manager
from factory_sim.factory.presence import Place, Presence
from factory_sim.factory.rounds import Line
from factory_sim.factory.scaling import SCALING
from factory_sim.factory.scaling.gateway import ScaledGateway
from factory_sim.factory.scaling.scaler import Scaler
from factory_sim.factory.servers import Servers, Stand
from factory_sim.factory.timetable import Timetable
from factory_sim.factory.training.job import Job
from factory_sim.scenario.failures import Storage


class Premises:
    """A site ready to run: its facility, its meter, its power manager, and what may fail there.

    pools: of all sites; those of the layout are here. period_s: how often the meter is read.
    chance, training: seeds of what fails at random and of training jobs; each site spawns its own
    streams from them in turn.
    """

    def __init__(
        self,
        env: Timetable,
        layout: Layout,
        pools: Pools,
        period_s: float,
        chance: np.random.SeedSequence,
        training: np.random.SeedSequence,
    ) -> None:
        scenario = layout.scenario
        self.env, self.layout, self.name = env, layout, layout.part.name
        self._gateways, self._period_s = pools.gateways, period_s
        self.fabric = pools.fabrics.get(self.name)
        crossed = scenario.network.links if scenario.network else {}
        self.links = {name: pools.links[name] for name in crossed}
        bay_of, rack_of = layout.building.bay_of, layout.site.rack_of
        lines = []
        for fleet in layout.fleets:
            gateway = pools.gateways[fleet.name]
            bays = [bay_of[rack_of[replica.gpus[0]]] for replica in gateway.replicas]
            lines.append(Line(fleet, gateway, bays))
        allowance = Allowance(scenario.site.grid_limit, scenario.power, period_s)
        kept = 1.0 - scenario.power.margin
        self.facility = facility = Facility(
            layout.building, layout.climate, scenario.site, lambda now: kept * allowance.at(now)
        )

        def allowed_w(now: float) -> float:
            return allowance.at(now) + facility.reserve_w(allowance.lead_s)

        self.jobs = self._jobs(training)
        groups = self.fabric.groups.values() if self.fabric else ()
        carriers: list[Carrier] = [*self.links.values(), *groups]
        self.meter = Meter(env, facility, lines, allowed_w, carriers, self.jobs)
        policy = POLICIES[scenario.power.policy](
            scenario.power, list(layout.fleets), layout.holdings
        )
        self.presence = self._presence(lines)
        self.outages = self._outages(chance)
        guards = [self.outages.look]
        if scenario.site.cooling is not None:
            outages = self.outages
            governor = Governor(env, self.meter, lines, outages.overheat, outages.cooled, self.jobs)
            outages.cooling_changed = governor.mind
            guards.append(governor.look)
        self.manager = Manager(env, self.meter, policy, scenario.power, period_s, guards)
        env.process(self.manager.watch())
        for line in lines:
            self._limit_boards(line)
        self.scalers = self._scale(lines)

    def _jobs(self, seed: np.random.SeedSequence) -> list[Job]:
        """Start the training jobs."""
        layout = self.layout
        building, names = layout.building, [rack.name for rack in layout.site.racks]
        jobs = []
        for holding, own in zip(layout.holdings, seed.spawn(len(layout.holdings)), strict=True):
            bays = {
                building.bay_of[index]: holding.gpus_in[name]
                for index, name in enumerate(names)
                if name in holding.gpus_in
            }
            jobs.append(Job(self.env, holding, bays, own))
        return jobs

    def _presence(self, lines: list[Line]) -> Presence:
        """Make what keeps replicas from serving, and lets them come back."""
        scenario, env, bays = self.layout.scenario, self.env, self.layout.building.bays
        store = scenario.failures.storage if scenario.failures else Storage()
        storage = Store(env, store.bandwidth or float("inf"), store.per_server)
        fabric = self.fabric if self.fabric and self.fabric.wiring.storage else None
        places, stands = [], []
        for line in lines:
            scaling = line.fleet.spec.autoscaling
            link: Road | None = None
            if scaling is not None and scaling.weights_link is not None:
                link = OverLink(self.links[scaling.weights_link], scaling.per_replica)
            boot_s = scaling.boot_s if scaling and scaling.stopped == "off" else None
            gateway = self._gateways[line.fleet.name]
            for replica, bay in zip(line.replicas, line.bays, strict=True):
                gpus = frozenset(replica.gpus)
                each = bays[bay].system.gpus_per_server
                servers = [(bay, gpu // each) for gpu in replica.gpus]
                if link is not None:
                    road = link
                elif fabric is not None:
                    road = OverFabric(fabric, line.fleet.replicas[replica.number])
                else:
                    road = storage.road_to(servers)
                places.append(Place(line.fleet, gateway, replica, gpus, bay, road))
                stands.append(Stand(frozenset(servers), boot_s))
        return Presence(env, self.facility, places, Servers(env, self.meter, stands))

    def _outages(self, seed: np.random.SeedSequence) -> Outages:
        """Make what breaks and mends, and set its failures going."""
        spec = self.layout.scenario.failures
        outages = Outages(self.env, self.meter, self.presence, self._period_s, self.jobs)
        if spec is not None:
            set_going(self.env, outages, self.layout, spec, seed)
        return outages

    def _scale(self, lines: list[Line]) -> dict[str, Scaler]:
        """Let the deployments that are scaled have as many replicas up as their policies want."""
        found = {}
        first = 0
        for line in lines:
            many, scaling = len(line.replicas), line.fleet.spec.autoscaling
            if scaling is not None:
                gateway = line.gateway
                assert isinstance(gateway, ScaledGateway)
                policy = SCALING[scaling.policy](scaling, many)
                places = range(first, first + many)
                scaler = Scaler(self.env, gateway, self.presence, places, policy, scaling)
                self.env.process(scaler.watch())
                found[line.fleet.name] = scaler
            first += many
        return found

    def _limit_boards(self, line: Line) -> None:
        """Let boards with a power limit or a clock below that of their kind keep it."""
        fleet = line.fleet
        floor = fleet.power_curve.clock_floor.value
        for replica in line.replicas:
            rack = self.layout.site.rack(replica.gpus[0])
            if rack.gpu_limit_w < fleet.power.tdp_w:
                replica.board = Board(self.env, rack.gpu_limit_w, fleet.power, floor)
            replica.hold_clock("locked", rack.gpu_clock)
