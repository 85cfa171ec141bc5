"""What is sought: the fewest replicas or racks for a traffic, or the most traffic for a site.

Each is a whole number to be found: that many, or a rung of a ladder of loads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import ceil, exp, floor, inf, log
from typing import Any, Protocol

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.sizing.bounds import MOST, Bounds, Perfect, bounds
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.experiments.sizing.search import threshold
from factory_sim.factory.fleets.fleet import ENCODE, PREFILL, deployment_of
from factory_sim.factory.layout import lay_out_sites
from factory_sim.scenario.load import scenario_from

Given = dict[str, Any]
"""A scenario's resolved data."""

PARTS = {"": "", PREFILL: "prefill", ENCODE: "encoder"}
"""Where a deployment has the replicas of a pool, by the end of the pool's name."""

LEAST_LOAD, MOST_LOAD = 1e-3, 2.0
"""Shares of the best load between which the most that is carried is sought. Beyond the best it is
sought too: in a short run, what cannot last may pass."""

LEAST_REQUESTS = 100.0
"""Requests of a run, in the mean, below which no load is looked at: promises to nobody are kept."""


class Question(Protocol):
    """What is varied. unit: of `size`. bounds: of a perfect system, where the search starts."""

    unit: str
    bounds: Bounds
    start: int
    lowest: int
    highest: int
    stride: int
    more_is_better: bool
    """Whether promises are kept from some number on, or up to one."""

    def at(self, place: int) -> Given:
        """Return the scenario at a number."""
        ...

    def size(self, place: int) -> float:
        """Return what a number stands for."""
        ...


class Demand:
    """The fewest racks for a traffic, where replicas fill them; else the fewest replicas, those of
    all pools in the proportion that is given, on as few racks as hold them.

    A place is so many racks, or so many replicas of the largest pool.
    """

    more_is_better = True

    def __init__(self, given: Given) -> None:
        self._given = given
        _check_sizable(given)
        self._counts = counted_replicas(given)
        self.unit = "replicas" if self._counts else "racks"
        self._racks = 1.0  # for each place, at the least
        self.lowest = 1 if self._counts else self._fewest()
        one = scenario_from(self.at(self.lowest))
        (layout,) = lay_out_sites(one)
        if self._counts:
            most = max(self._counts.values())
            gpus = sum(fleet.gpus_per_replica * self._counts[fleet.name] for fleet in layout.fleets)
            self._racks = gpus / most * len(layout.site.racks) / len(layout.site.gpus)
        self.bounds = bounds(one)
        self.highest = self._highest()
        self.start = max(1, *map(self._enough, self.bounds.pools))
        self.stride = max(1, self.start // 8)

    def at(self, place: int) -> Given:
        """Return the scenario with so many racks; or with so many replicas, and racks for them.

        Raises InputError where the site has no room for them.
        """
        if not self._counts:
            return self._with(place, self._given["deployments"])
        deployments = copy.deepcopy(self._given["deployments"])
        for pool, count in self._at(place).items():
            name, part = deployment_of(pool), PARTS[pool.removeprefix(deployment_of(pool))]
            (deployments[name][part] if part else deployments[name])["replicas"] = count
        racks = max(1, ceil(self._racks * place - 1e-9))
        while True:
            found = self._with(racks, deployments)
            try:
                lay_out_sites(scenario_from(found))
            except InputError as error:
                if not _lacks_gpus(error):
                    raise
                racks += 1
            else:
                return found

    def size(self, place: int) -> float:
        """Return the replicas of all pools, or the racks."""
        return sum(self._at(place).values()) if self._counts else place

    def _at(self, place: int) -> dict[str, int]:
        """Return the replicas of each pool, where the largest has so many."""
        most = max(self._counts.values())
        return {pool: ceil(place * count / most) for pool, count in self._counts.items()}

    def _enough(self, pool: Perfect) -> int:
        """Return the place where a pool has what the queueing formula asks for; without one,
        somewhat more than a perfect system needs, as batches are never always full."""
        needed = 1.0 if pool.needed is None else 1.25 * pool.needed
        wanted = needed if pool.queued is None else pool.queued
        if not self._counts:
            return ceil(wanted * self.lowest / pool.replicas)
        return ceil(wanted * max(self._counts.values()) / self._counts[pool.pool])

    def _with(self, racks: int, deployments: Mapping[str, Any]) -> Given:
        (row,) = self._given["racks"]
        return {**self._given, "racks": [{**row, "count": racks}], "deployments": deployments}

    def _fewest(self) -> int:
        """Return the fewest racks that hold a replica of every pool, and those that are counted."""

        def holds(place: int) -> bool:
            try:
                lay_out_sites(scenario_from(self.at(place)))
            except InputError as error:
                return not _lacks_gpus(error)
            return True

        return threshold(holds, 1, 1, MOST) or MOST

    def _highest(self) -> int:
        """Return the most that the limit of the site has room for."""

        def crowded(place: int) -> bool:
            try:
                lay_out_sites(scenario_from(self.at(place)))
            except InputError:
                return True
            return False

        first = threshold(crowded, self.lowest + 7, self.lowest + 1, MOST, 8)
        return MOST if first is None else first - 1


class Cap:
    """The most traffic that a site carries, as a multiple of what is given.

    precision: from one load that is looked at to the next.
    """

    unit = "load"
    more_is_better = False

    def __init__(self, given: Given, precision: float) -> None:
        self._given = given
        self.bounds = bounds(scenario_from(given))
        load = self.bounds.load
        self._best = 1.0 if load is None else 1.0 / load
        self._step = log(1.0 + precision)
        asked = [pool.asked_per_s for pool in self.bounds.pools if pool.asked_per_s is not None]
        sent = max(asked, default=inf) * scenario_from(given).duration * self._best
        least = min(max(LEAST_LOAD, LEAST_REQUESTS / sent), MOST_LOAD)
        self.lowest, self.highest = (floor(log(each) / self._step) for each in (least, MOST_LOAD))
        self.start = floor(log(self.bounds.queued_load or 0.8) / self._step)
        self.stride = max(1, round(0.1 / self._step))
        at_load(given, 1.0)  # refuses what has no rate

    def at(self, place: int) -> Given:
        """Return the scenario at a load."""
        return at_load(self._given, self.size(place))

    def size(self, place: int) -> float:
        """Return the load, as a multiple of what the scenario gives."""
        return self._best * exp(self._step * place)


def _lacks_gpus(error: InputError) -> bool:
    """Tell whether all that is wrong with a site is that it has too few racks for its replicas."""
    return all(problem.path.endswith((".replicas", ".simulate")) for problem in error.problems)


def _check_sizable(given: Mapping[str, Any]) -> None:
    """Raise InputError for a site of which nobody knows yet what to vary."""
    said = "--for demand sizes one site that only serves, not {}; use --for cap, or a sweep"
    for field, what in (("sites", "several sites"), ("training", "training jobs")):
        if given.get(field):
            raise InputError(Problem(field, said.format(what)))
    if len(given["racks"]) != 1:
        rows = len(given["racks"])
        told = f"the racks that fit a demand are sought in one row of racks, not in {rows}"
        raise InputError(Problem("racks", f"{told}; leave one, or use --for cap"))
    for name, spec in given["deployments"].items():
        if spec.get("autoscaling") or (spec.get("prefill") or {}).get("autoscaling"):
            told = "the number of replicas is not sought beside 'autoscaling' yet"
            where = f"deployments.{name}.autoscaling"
            raise InputError(Problem(where, f"{told}; use --for cap, or a sweep"))


def counted_replicas(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the replicas of each pool; nothing where one of them fills the racks."""
    found: dict[str, int] = {}
    for name, spec in given["deployments"].items():
        for pool, part in PARTS.items():
            if part and spec.get(part) is None:
                continue
            count = (spec[part] if part else spec).get("replicas", "fill")
            if not isinstance(count, int):
                return {}
            found[name + pool] = count
    return found
