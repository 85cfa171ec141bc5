"""Laying out the factory: racks under the cap, and the deployments on their GPUs.

This is all that can be known before a run. It finds every problem of a scenario that its
text alone does not show: a model too big for its GPUs, racks that do not fit under the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleet import Fleet, make_fleet
from factory_sim.factory.site import Gpu, Rack, Server, Site
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.site import Racks


@dataclass(frozen=True)
class Layout:
    """The factory before it runs. provisioned_it_w: set aside for its racks, at their inlets."""

    scenario: Scenario
    site: Site
    fleets: tuple[Fleet, ...]

    @property
    def spare_gpus(self) -> int:
        """Return the GPUs that no replica uses; they draw idle power."""
        used = sum(len(gpus) for fleet in self.fleets for gpus in fleet.replicas)
        return len(self.site.gpus) - used

    @property
    def provisioned_grid_w(self) -> float:
        """Return the utility watts set aside: nameplates with PUE, at most the grid limit."""
        nameplate = self.site.nameplate_it_w() * self.site.pue
        return min(nameplate, _limit_w(self.scenario))


def lay_out(scenario: Scenario) -> Layout:
    """Return the factory that `scenario` describes; InputError with every problem found."""
    problems: list[Problem] = []
    racks = _racks(scenario, problems)
    site = Site(racks, _pue(scenario))
    free: dict[str, list[Gpu]] = {}
    for rack in racks:
        gpus = free.setdefault(rack.system.name, [])
        gpus += [gpu for server in rack.servers for gpu in server.gpus]
    fleets = []
    racks_short = bool(problems)
    # Deployments that count their replicas choose first; 'fill' takes what is left.
    for name, spec in sorted(
        scenario.deployments.items(), key=lambda item: item[1].replicas == "fill"
    ):
        try:
            fleets.append(make_fleet(scenario, name, spec, free))
        except InputError as error:
            problems += [
                Problem(p.path or f"deployments.{name}", p.message)
                for p in error.problems
                if not (racks_short and p.path.endswith(".replicas"))  # that follows
            ]
    if problems:
        raise InputError(problems)
    order = list(scenario.deployments)
    return Layout(scenario, site, tuple(sorted(fleets, key=lambda f: order.index(f.name))))


# -- racks -----------------------------------------------------------------------------


def _pue(scenario: Scenario) -> float:
    if scenario.site.cooling is not None:
        return scenario.facts.cooling_plant(scenario.site.cooling).pue.value
    return float(scenario.site.pue or 1.0)


def _limit_w(scenario: Scenario) -> float:
    return float(scenario.site.grid_limit.at(0.0))


def _racks(scenario: Scenario, problems: list[Problem]) -> list[Rack]:
    """Return the racks, with 'fill' resolved, and check their sum against the limit."""
    limit_w = _limit_w(scenario)
    pue = _pue(scenario)
    basis = scenario.provisioning.basis
    allowed_w = limit_w * scenario.provisioning.oversubscribe
    used_w = 0.0
    rows: list[tuple[int, Racks, int]] = []
    for index, row in sorted(enumerate(scenario.racks), key=lambda item: item[1].count == "fill"):
        try:
            one = _rack(scenario, row, "", 0)
            need_w = pue * (one.nameplate_w if basis == "nameplate" else one.peak_w)
        except InputError as error:
            problems += [
                Problem(f"racks.{index}.{p.path if p.path in ROW else 'system'}", p.message)
                for p in error.problems
            ]
            continue
        if row.count != "fill":
            used_w += need_w * row.count
            rows.append((index, row, row.count))
            continue
        count = int((allowed_w - used_w) / need_w + 1e-9)
        if count < 1:
            missing_w = (need_w + used_w - allowed_w) / scenario.provisioning.oversubscribe
            problems.append(
                Problem(
                    f"racks.{index}.count",
                    f"no rack fits: one {row.system} rack needs {need_w / 1e3:.1f} kW at the "
                    f"meter ({basis}), and {max(0.0, allowed_w - used_w) / 1e3:.1f} kW are free; "
                    f"raise site.grid_limit by {missing_w / 1e3:.1f} kW, or "
                    "take a smaller racks.servers_per_rack",
                )
            )
        else:
            used_w += need_w * count
            rows.append((index, row, count))
    if used_w > allowed_w * (1 + 1e-9):
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
    for _, row, count in sorted(rows, key=lambda item: item[0]):
        for _ in range(count):
            gpus = sum(len(server.gpus) for rack in racks for server in rack.servers)
            racks.append(_rack(scenario, row, f"rack-{len(racks)}", gpus))
    lowest_w = scenario.site.grid_limit.min_over(0.0, scenario.duration + scenario.drain)
    idle_w = sum(rack.idle_w for rack in racks) * pue
    if idle_w > lowest_w:
        problems.append(
            Problem(
                "site.grid_limit",
                f"falls to {lowest_w / 1e3:.1f} kW, but the racks draw {idle_w / 1e3:.1f} kW "
                f"even when idle; raise it by {(idle_w - lowest_w) / 1e3:.1f} kW or have fewer "
                "racks",
            )
        )
    return racks


ROW = ("gpu_power_limit",)
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
                    f"{name}/domain-{place // system.scaleup_gpus}",
                )
            )
        servers.append(Server(f"{name}/server-{number}", tuple(gpus)))
    return Rack(name, system, accelerator, tuple(servers), limit_w)
