"""What is sought: the fewest replicas or racks for a traffic, or the most traffic for a site.

Each is a whole number to be found: that many, or a rung of a ladder of loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, exp, floor, inf, log
from typing import Any, Protocol

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.sizing.bounds import MOST, Bounds, bounds
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.experiments.sizing.search import threshold
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.scenario.load import scenario_from

Given = dict[str, Any]
"""A scenario's resolved data."""

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
    """The fewest replicas for a traffic, each rack as full as it gets; racks, where replicas fill
    them."""

    more_is_better = True

    def __init__(self, given: Given) -> None:
        self._given, self._name = given, _alone(given)
        self._fills = not isinstance(given["deployments"][self._name].get("replicas", "fill"), int)
        self.unit = "racks" if self._fills else "replicas"
        self._per_rack = _held(self._with(1, None))
        self.bounds = bounds(scenario_from(self._with(1, None)))
        needed = self.bounds.pools[0].needed
        self.lowest = 1
        self.highest = self._highest()
        perfect = 1.0 if needed is None else needed / (self._per_rack if self._fills else 1)
        queued = self.bounds.pools[0].queued
        if queued is None:  # batches are never always full: somewhat more than a perfect system
            self.start = ceil(1.25 * perfect)
        else:
            self.start = ceil(queued / self._per_rack) if self._fills else queued
        self.stride = max(1, self.start // 8)

    def at(self, place: int) -> Given:
        """Return the scenario with so many racks, or with so many replicas and racks for them."""
        if self._fills:
            return self._with(place, None)
        return self._with(ceil(place / self._per_rack), place)

    def size(self, place: int) -> float:
        """Return the replicas or racks."""
        return place

    def _with(self, racks: int, replicas: int | None) -> Given:
        (row,) = self._given["racks"]
        deployment = dict(self._given["deployments"][self._name])
        if replicas is not None:
            deployment["replicas"] = replicas
        elif not isinstance(deployment.get("replicas"), Mapping):
            deployment["replicas"] = "fill"
        deployments = {self._name: deployment}
        return {**self._given, "racks": [{**row, "count": racks}], "deployments": deployments}

    def _highest(self) -> int:
        """Return the most that the limit of the site has room for."""

        def crowded(place: int) -> bool:
            try:
                lay_out_sites(scenario_from(self.at(place)))
            except InputError:
                return True
            return False

        first = threshold(crowded, 8, 1, MOST, 8)
        if first == 1:  # say why
            lay_out_sites(scenario_from(self.at(1)))
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


def _alone(given: Mapping[str, Any]) -> str:
    """Return the name of the deployment that a demand is of: the only one, on one row of racks."""
    deployments = given["deployments"]
    if given.get("sites") is not None or len(deployments) != 1 or given.get("training"):
        what = "several sites" if given.get("sites") is not None else "training jobs"
        what = "several deployments" if len(deployments) != 1 else what
        said = f"what fits a demand is sought for one deployment at one site, not for {what}"
        raise InputError(Problem("--for", f"{said}; use --for cap, or a sweep over their replicas"))
    if len(given["racks"]) != 1:
        rows = len(given["racks"])
        said = f"the racks that fit a demand are sought in one row of racks, not in {rows}"
        raise InputError(Problem("racks", f"{said}; leave one, or use --for cap"))
    ((name, spec),) = deployments.items()
    for key in ("prefill", "encoder", "autoscaling"):
        if spec.get(key) is not None:
            said = f"the number of replicas is not sought beside '{key}' yet; use --for cap, or a"
            raise InputError(Problem(f"deployments.{name}.{key}", f"{said} sweep"))
    return str(name)


def _held(given: Given) -> int:
    """Return how many replicas the racks hold."""
    (fleet,) = fleets_of(lay_out_sites(scenario_from(given)))
    return fleet.represented
