"""What a year is a year of: one deployment at one site, and the runs that are asked of it.

The building is laid out for all that the year will bring. Two kinds of scenario are made of it:
one run of a surface, which has nothing but GPUs at a clock and a load; and the whole site in one
hour, which is what the year is checked against.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.experiments.year.hours import Hours
from factory_sim.factory.build import step_time_of
from factory_sim.factory.check import asked_by_all, asked_of
from factory_sim.factory.facility.building import Flow
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import Layout, lay_out
from factory_sim.factory.prefixes import caching_pools
from factory_sim.factory.review.deployment import best
from factory_sim.factory.review.workload import Asked
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.scenario.arrivals import (
    ConstantArrivals,
    GammaArrivals,
    MmppArrivals,
    PoissonArrivals,
)
from factory_sim.scenario.load import plain, scenario_from
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.signal import DAY_S, Constant
from factory_sim.scenario.workload import WorkloadSpec

Given = dict[str, Any]

UNBOUND = "1e15 W"
"""A limit that nothing comes near."""

CLEARER = 8
"""Times as many replicas stand for a site as the scenario says, where the compiled kernel serves
them: that takes no longer. Watts of few swing together as those of many do not, and a policy that
keeps under a limit follows them; and routers deal among many more evenly than among few."""

_NOT_YET = {
    "prefill": "leave it out, or look at single hours with `factory-sim run`",
    "encoder": "leave it out, or look at single hours with `factory-sim run`",
    "autoscaling": "leave it out: an hour is taken with all its replicas up",
}


@dataclass(frozen=True)
class Subject:
    """A deployment at its site. given: the scenario's plain data, with every rack counted and
    nothing that fails. asked: of it in the mean; per_s: requests/s where the shape is one."""

    scenario: Scenario
    given: Given
    layout: Layout
    fleet: Fleet
    asked: Asked
    per_s: float

    @cached_property
    def clocks(self) -> list[float]:
        """Return the clocks that the power policy may choose, the highest first."""
        row = max(float(rack.gpu_clock) for rack in self.layout.site.racks)
        if self.scenario.power.policy == "none":
            return [row]
        step, floor = self.scenario.power.step, self.fleet.power_curve.clock_floor.value
        rungs = [1.0 - down * step for down in range(int((1.0 - floor) / step + 1e-9) + 1)]
        return [row, *(clock for clock in rungs if clock < row - 1e-9)]

    def best_per_s(self, clock: float) -> float:
        """Return the requests/s of a perfect replica at a clock, its batch always full."""
        return best(self.fleet, self.asked, clock=clock).requests_per_s * self.fleet.batches

    def flow(self, gpu_w: float, ambient: Ambient) -> Flow:
        """Return the watts of the site with boards of replicas that draw `gpu_w` each."""
        idle_w = self.fleet.power.idle_w
        bays = zip(self.layout.building.bays, self._used, strict=True)
        watts = [rack.gpu_idle_w + used * (gpu_w - idle_w) for rack, used in bays]
        return self.layout.building.draw(watts, ambient)

    @cached_property
    def _used(self) -> list[int]:
        """Return how many GPUs of each bay belong to replicas."""
        gpus = {gpu.name: gpu.rack for replica in self.fleet.replicas for gpu in replica}
        count = Counter(gpus.values())
        return [count[rack.name] for rack in self.layout.building.bays]

    def run_at(self, clock: float, requests_per_s: float) -> Given:
        """Return the run of a surface: replicas at a clock, each with so many requests/s."""
        found = self._loaded(requests_per_s * self.fleet.represented / self.per_s)
        found["site"] = {"grid_limit": UNBOUND, "pue": 1.0}
        found["power"] = {"policy": "none"}
        found.pop("provisioning", None)
        for row, own in zip(found["racks"], self.scenario.racks, strict=True):
            row["gpu_clock"] = min(clock, own.gpu_clock or 1.0)
        self._clearer(found)
        return found

    def hour_at(self, hours: Hours, index: int, seed: int) -> Given:
        """Return the whole site in one hour, at its mean load, weather and limit.

        Its building is that of the year: signals end, after the run, at what it was designed for.
        Software that is faster is taken as a lower load, as in `Hours`.
        """
        up = float(hours.up[index])
        found = self._loaded(float(hours.load[index] / hours.speed[index]))
        found["seed"] = seed
        site, ends_s = found["site"], max(DAY_S, self.scenario.duration + self.scenario.drain)
        hottest, ambient = self.layout.hottest, hours.ambient[index]

        def then(now: float, designed: float, unit: str) -> Given:
            pairs = [(0.0, now), (ends_s, designed)]
            return {"steps": [[f"{time!r} s", f"{float(value)!r} {unit}"] for time, value in pairs]}

        own = self.scenario.site
        most_w = own.grid_limit.max_over(0.0, hours.end_s)
        site["grid_limit"] = then(hours.limit_w[index], most_w, "W")
        if own.weather is not None:
            site["weather"] = {
                "dry_bulb": then(ambient.dry_c, hottest.dry_c, "degC"),
                "wet_bulb": then(ambient.wet_c, hottest.wet_c, "degC"),
            }
        if own.generation is not None:
            least_w = own.generation.min_over(0.0, hours.end_s)
            site["generation"] = then(hours.generation_w[index], least_w, "W")
        for key in ("price", "carbon"):
            site.pop(key, None)
        found.get("power", {}).pop("preference", None)  # it is in the limit
        if up < 1.0:
            self._fewer(found, up * self.fleet.represented)
        self._clearer(found)
        return found

    def _loaded(self, factor: float) -> Given:
        """Return the scenario at `factor` times its traffic, the same all the time."""
        found = copy.deepcopy(self.given)
        for workload in found["workload"].values():
            workload["arrivals"].pop("shape", None)
        return at_load(found, factor)

    @cached_property
    def _slow(self) -> bool:
        """Tell whether SimPy serves the replicas, since it is asked to or has to."""
        if self.given.get("kernel") == "simpy":
            return True
        # Here, since numba takes a second to import.
        from factory_sim.factory.kernel.choice import beyond

        caching = caching_pools(self.scenario, [self.fleet])
        return any(beyond([self.layout], "auto", caching, step_time_of, False).values())

    def _clearer(self, found: Given) -> None:
        """Have more replicas stand for all, where that takes no longer."""
        if self._slow:
            return
        spec = found["deployments"][self.fleet.deployment]
        told = spec.get("replicas")
        if isinstance(told, Mapping):
            whole = told.get("represent", "fill")
            whole = self.fleet.represented if whole == "fill" else whole
            many = CLEARER * int(told["simulate"])
            spec["replicas"] = {**told, "simulate": many} if many < whole else whole
            found.setdefault("kernel", "auto")

    def _fewer(self, found: Given, replicas: float) -> None:
        """Have fewer replicas, in whole racks where few stand for all: other GPUs are at rest."""
        spec = found["deployments"][self.fleet.deployment]
        simulated = len(self.fleet.replicas)
        if not isinstance(spec.get("replicas"), Mapping):
            spec["replicas"] = max(1, round(replicas))
            return
        rack = simulated // len({gpus[0].rack for gpus in self.fleet.replicas})
        whole = max(rack, rack * round(replicas / rack))
        few = {"simulate": simulated, "represent": whole}
        spec["replicas"] = few if whole > simulated else whole


def subject_of(scenario: Scenario, seconds: float) -> Subject:
    """Return what a year of so many seconds is of; InputError for what it cannot be of."""
    problems = list(_refused(scenario))
    if problems:
        raise InputError(problems)
    given = plain(scenario)
    given.pop("failures", None)
    # What is built is built for all that comes: limits and weather are looked at to the end.
    layout = lay_out(scenario_from(given | {"duration": f"{seconds!r} s"}))
    if layout.building.can_bind:
        said = "may be asked for more than it carries, and a year looks at the meter alone"
        raise InputError(Problem("site.power_chain", f"{said}; raise its ratings"))
    _count(given, len(layout.site.racks))
    (fleet,) = layout.fleets
    steady = copy.deepcopy(given)
    for workload in steady["workload"].values():
        workload["arrivals"].pop("shape", None)
    whole = scenario_from(steady)
    asked = asked_of(whole, fleet, asked_by_all(whole))
    assert asked is not None
    per_s = sum(map(_per_s, scenario.workload.values()))
    return Subject(scenario, given, layout, fleet, asked, per_s)


def _refused(scenario: Scenario) -> Iterator[Problem]:
    """Yield what a year does not know."""
    site = scenario.site if scenario.sites is None else None
    if site is None:
        yield Problem("sites", "a year is of one site; take them one by one")
    if scenario.training:
        yield Problem("training", "a year is of inference alone; leave it out")
    if scenario.services:
        yield Problem("services", "a year is of one deployment; send workloads to it")
    if len(scenario.deployments) != 1:
        yield Problem("deployments", "a year is of one deployment; take them one by one")
    for name, spec in scenario.deployments.items():
        for key, mend in _NOT_YET.items():
            if getattr(spec, key) is not None:
                yield Problem(f"deployments.{name}.{key}", f"is not in a year yet; {mend}")
    if scenario.starts_at is None:
        said = "a year needs the moment at which it starts, for example"
        yield Problem("starts_at", f"{said} '2025-01-01T00:00+01:00'")
    if site is not None and site.battery is not None:
        yield Problem("site.battery", "what it holds is not followed over a year yet; leave it out")
    if scenario.power.policy not in ("clock", "none"):
        said = f"'{scenario.power.policy}' is not in a year yet; take clock, or none"
        yield Problem("power.policy", said)
    if sum(row.count == "fill" for row in scenario.racks) > 1:
        yield Problem("racks", "only one row may fill the limit in a year; count the others")
    if scenario.failures is not None and scenario.failures.schedule:
        yield Problem("failures.schedule", "a year has failures by chance; leave the schedule out")
    yield from _refused_traffic(scenario)


def _refused_traffic(scenario: Scenario) -> Iterator[Problem]:
    shapes = set()
    for name, workload in scenario.workload.items():
        where, arrivals = f"workload.{name}.arrivals", workload.arrivals
        if not isinstance(arrivals, _Rated):
            said = f"'{arrivals.process}' has no rate that a year could vary"
            yield Problem(where, f"{said}; take poisson, constant, gamma or mmpp")
            continue
        if arrivals.requests is not None:
            yield Problem(f"{where}.requests", "a year has no last request; leave it out")
        for kind, mixed in (workload.mix or {}).items():
            if not isinstance(mixed.weight, Constant):
                said = "does not change over a year yet; give one value"
                yield Problem(f"workload.{name}.mix.{kind}.weight", said)
        if workload.sessions is not None:
            said = "last longer than the short runs that a year rests on; leave them out"
            yield Problem(f"workload.{name}.sessions", said)
        shapes.add(arrivals.shape)
    if len(shapes) > 1:
        said = "all traffic of a year comes and goes together: give every workload the same 'shape'"
        yield Problem("workload", said)


_Rated = ConstantArrivals | PoissonArrivals | GammaArrivals | MmppArrivals


def _per_s(workload: WorkloadSpec) -> float:
    """Return the requests/s of a workload where its shape is one."""
    arrivals: Any = workload.arrivals
    if isinstance(arrivals, MmppArrivals):
        stays_s = sum(state.mean_duration for state in arrivals.states)
        return sum(state.rate * state.mean_duration for state in arrivals.states) / stays_s
    return float(arrivals.rate)


def _count(given: Given, racks: int) -> None:
    """Put the number of racks in place of 'fill'."""
    counted = sum(row["count"] for row in given["racks"] if row["count"] != "fill")
    for row in given["racks"]:
        if row["count"] == "fill":
            row["count"] = racks - counted
