"""What is broken in each hour: the failures of a year, drawn as in a run, without its requests.

The same processes let the same domains fail (`factory.failures`); here they only take replicas
away. A lost plant or CDU takes those that it cools at once, and who has lost weights comes back
after they were loaded and the engine has started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from factory_sim.factory.failures.chance import domains_of, set_going
from factory_sim.factory.failures.domains import CUTS, STOPS, Domain
from factory_sim.factory.layout import Layout, lay_out, lay_out_sites
from factory_sim.factory.timetable import Timetable
from factory_sim.scenario.load import scenario_from
from factory_sim.scenario.scenario import Scenario

Floats = NDArray[np.float64]

_OTHERS = ("storage",)
"""Kinds that stop nobody who runs."""


class Register:
    """Counts the replicas of a site that are up while domains fail and are mended.

    away: how many things each replica waits for. log: times, and the replicas up from then on.
    Where pools start again in unlike times, all take the longest.
    """

    def __init__(self, env: Timetable, layout: Layout) -> None:
        bay_of = {rack.name: bay for bay, rack in enumerate(layout.building.bays)}
        self._gpus: dict[int, list[int]] = {}
        self._bays: dict[int, list[int]] = {}
        held = [gpus for fleet in layout.fleets for gpus in fleet.replicas]
        for number, gpus in enumerate(held):
            self._bays.setdefault(bay_of[gpus[0].rack], []).append(number)
            for gpu in gpus:
                self._gpus.setdefault(gpu.index, []).append(number)
        self._many = len(held)
        road = layout.scenario.failures
        per_s = road.storage.per_server if road is not None else float("inf")
        self._restart_s = max(
            fleet.engine.start.value + fleet.weight_bytes / per_s for fleet in layout.fleets
        )
        self.begin(env)

    def begin(self, env: Timetable) -> None:
        """Count from now on, with everything up."""
        self._env = env
        self._failed: Counter[str] = Counter()
        self._away = [0] * self._many
        self._up = self._many
        self.log = [(0.0, self._up)]

    def up_s(self, edges: Floats) -> Floats:
        """Return the seconds that replicas were up between edges, all together."""
        times, up = np.array([*self.log, (max(edges[-1], self.log[-1][0]), self.log[-1][1])]).T
        done = np.concatenate(([0.0], np.cumsum(up[:-1] * np.diff(times))))
        return np.asarray(np.diff(np.interp(edges, times, done)))

    def strike(self, domain: Domain) -> None:
        """Let a module of a domain fail."""
        self._failed[domain.name] += 1
        if self._failed[domain.name] == domain.spares + 1:
            for replica in self._behind(domain):
                self._away[replica] += 1
                self._up -= self._away[replica] == 1
            self._note()

    def mend(self, domain: Domain) -> None:
        """Let a failed module of a domain work again."""
        self._failed[domain.name] -= 1
        if self._failed[domain.name] == domain.spares:
            self._env.process(self._back(domain))

    def _back(self, domain: Domain) -> Generator[Event, Any, None]:
        yield self._env.timeout(0.0 if domain.kind in CUTS else self._restart_s)
        for replica in self._behind(domain):
            self._away[replica] -= 1
            self._up += not self._away[replica]
        self._note()

    def _behind(self, domain: Domain) -> set[int]:
        if domain.kind in _OTHERS:
            return set()
        if domain.kind in STOPS or domain.kind in CUTS:
            return {each for gpu in domain.gpus for each in self._gpus.get(gpu, ())}
        return {each for bay in domain.bays for each in self._bays.get(bay, ())}

    def _note(self) -> None:
        self.log.append((self._env.now, self._up))


def up_shares(scenario: Scenario, given: dict[str, Any], edges: Floats) -> Floats:
    """Return the mean share of replicas that are up between edges, from 0 on.

    given: the scenario's data with every rack counted, and without failures.
    """
    if scenario.failures is None:
        return np.ones(len(edges) - 1)
    spec = scenario.model_dump(mode="json", exclude_none=True, exclude_unset=True)["failures"]
    whole = given | {"failures": spec}
    (name,) = scenario.deployments
    replicas = whole["deployments"][name].get("replicas", "fill")
    if isinstance(replicas, dict):  # what may fail must be there by itself
        alone = replicas.get("represent", "fill")
        whole["deployments"] = {name: whole["deployments"][name] | {"replicas": alone}}
    layout = lay_out(scenario_from(whole))
    env = Timetable()
    register: Any = Register(env, layout)
    seed = np.random.SeedSequence([scenario.seed, len(edges)])
    set_going(env, register, layout, scenario.failures, seed)
    env.run(until=float(edges[-1]))
    return np.asarray(register.up_s(edges) / np.diff(edges) / register.log[0][1])


def shares_away(scenario: Scenario, histories: int) -> Floats:
    """Return the mean share of a scenario's replicas that failures keep away while it is measured,
    in each of so many histories, all of which begin with everything up."""
    edges = np.array([scenario.warmup, scenario.duration])
    lost_s, many = np.zeros(histories), 0
    for site, layout in enumerate(lay_out_sites(scenario)):
        spec = layout.scenario.failures
        if spec is None or not layout.fleets:
            continue
        register: Any = Register(Timetable(), layout)
        known = domains_of(layout)
        for number in range(histories):
            env = Timetable()
            register.begin(env)
            seed = np.random.SeedSequence([scenario.seed, histories, site, number])
            set_going(env, register, layout, spec, seed, known)
            env.run(until=scenario.duration)
            whole_s = register.log[0][1] * (edges[1] - edges[0])
            lost_s[number] += whole_s - register.up_s(edges)[0]
        many += register.log[0][1]
    return np.asarray(lost_s / max(many * (edges[1] - edges[0]), 1e-9))
