"""Levers: what may be moved a little, and what the scenario and its catalogue then say.

A lever moves one thing only. Where a scenario has no such thing, or reads it from a file, it says
why it is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from factory_sim.catalog import Catalog
from factory_sim.experiments.sensitivity.forms import facts, length, plus, signal, times
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out_sites
from factory_sim.scenario.load import scenario_from
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import ARCHETYPES

Given = dict[str, Any]
Overlay = dict[str, dict[str, dict[str, Any]]]
"""Fields of the catalogue that differ: by section (a file of it), entry and field."""

COOLER_K = 5.0
"""How much cooler the weather is that is tried."""


class Ground(NamedTuple):
    """What levers are moved on. given: the resolved data of `scenario`. share: how far to move."""

    given: Given
    scenario: Scenario
    fleets: list[Fleet]
    share: float

    @property
    def facts(self) -> Catalog:
        """Return the catalogue that the scenario's names point into."""
        return self.scenario.facts

    def copied(self) -> Given:
        """Return the data, to be changed in place."""
        return copy.deepcopy(self.given)


class Change(NamedTuple):
    """What a lever came to. before, after: of the first thing that is moved, in `unit`."""

    given: Given
    overlay: Overlay
    before: float
    after: float
    unit: str


class Lever(NamedTuple):
    """title: what is moved, for people. better: whether it is expected to give more goodput, and
    never less. move: the change, or why there is none. ours: whether it is the site's to move."""

    title: str
    better: bool
    move: Callable[[Ground], Change | str]
    ours: bool = True


def _sites(given: Given) -> list[dict[str, Any]]:
    return list(given["sites"].values()) if given.get("sites") else [given["site"]]


def _gpus(given: Given) -> int:
    return sum(len(layout.site.gpus) for layout in lay_out_sites(scenario_from(given)))


# The site.


def _grid_limit(ground: Ground) -> Change | str:
    given = ground.copied()
    for site in _sites(given):
        site["grid_limit"] = signal(site["grid_limit"], times(1.0 + ground.share))
        if site["grid_limit"] is None:
            return "it is read from a file"
    sites = ground.scenario.sites or {"": ground.scenario.site}
    limit = sum(site.grid_limit.at(0.0) for site in sites.values()) / 1e6
    return Change(given, {}, limit, limit * (1.0 + ground.share), "MW")


def _racks(ground: Ground) -> Change | str:
    given = ground.copied()
    rows = [row for row in given["racks"] if row["count"] != "fill"]
    if not rows:
        return "racks fill the grid limit, which is moved itself"
    before = rows[0]["count"]
    rows[0]["count"] += max(1, round(before * ground.share))
    return Change(given, {}, before, rows[0]["count"], "racks")


def _replicas(ground: Ground) -> Change | str:
    given = ground.copied()
    for own in given["deployments"].values():
        before = own.get("replicas", "fill")
        if isinstance(before, int):
            own["replicas"] = before + max(1, round(before * ground.share))
            return Change(given, {}, before, own["replicas"], "replicas")
    return "replicas fill the GPUs"


def _oversubscription(ground: Ground) -> Change | str:
    given = ground.copied()
    if all(row["count"] != "fill" for row in given["racks"]):
        return "the racks are counted"
    written = given.get("provisioning") or {}
    before = ground.scenario.provisioning.oversubscribe
    given["provisioning"] = {**written, "oversubscribe": before * (1.0 + ground.share)}
    if _gpus(given) == _gpus(ground.given):
        return "racks come whole, and so little adds none"
    return Change(given, {}, before, before * (1.0 + ground.share), "times")


def _pue(ground: Ground) -> Change | str:
    given, before = ground.copied(), 0.0
    for site in _sites(given):
        if site.get("pue") is not None:
            before = before or site["pue"]
            site["pue"] = 1.0 + (site["pue"] - 1.0) * (1.0 - ground.share)
    if before <= 1.0:
        return "the site has a cooling plant" if not before else "a PUE of 1 has no overhead"
    return Change(given, {}, before, 1.0 + (before - 1.0) * (1.0 - ground.share), "PUE")


def _weather(ground: Ground) -> Change | str:
    given, temperatures = ground.copied(), []
    for site in _sites(given):
        weather = site.get("weather")
        if weather is None:
            continue
        if "epw" in weather:
            return "the weather is read from a file"
        for bulb in ("dry_bulb", "wet_bulb"):
            if bulb in weather:
                weather[bulb] = signal(weather[bulb], plus(-COOLER_K), wave=False)
                if weather[bulb] is None:
                    return "the weather is read from a file"
        temperatures.append(weather["dry_bulb"])
    if not temperatures:
        return "a constant PUE knows no weather"
    return Change(given, {}, 0.0, -COOLER_K, "K")


def _plant(ground: Ground) -> Change | str:
    sites = (ground.scenario.sites or {"": ground.scenario.site}).values()
    names = {site.cooling.plant for site in sites if site.cooling is not None}
    if not names:
        return "the site has no cooling plant"
    overlay: Overlay = {"cooling": {}}
    for name in names:
        written = ground.facts.cooling_plant(name).model_dump(mode="json", exclude_none=True)
        turn, note = _turned(-ground.share)
        overlay["cooling"][written["name"]] = {
            loop: written[loop]
            | {key: facts(written[loop][key], turn, note) for key in ("movers", "pumps", "roof")}
            for loop in ("air", "liquid")
            if loop in written
        }
    return Change(ground.copied(), overlay, 1.0, 1.0 - ground.share, "times")


# The hardware.


def _turned(share: float) -> tuple[Callable[[Any], Any], str]:
    more = "more" if share > 0.0 else "less"
    return times(
        1.0 + share
    ), f"{abs(share):.3g} of it {more} than given, to see what that is worth"


def _chip(field: str, unit: str, size: float, sign: float = 1.0, *others: str) -> Any:
    """Return a move of figures of the accelerators in use. size: of the unit, in SI."""

    def move(ground: Ground) -> Change | str:
        overlay: Overlay = {"accelerators": {}}
        seen = []
        for fleet in ground.fleets:
            entry = ground.facts.accelerator(fleet.accelerator.name)
            written = entry.model_dump(mode="json", exclude_none=True)
            turn, note = _turned(sign * ground.share)
            if field not in written:
                return f"{entry.title} has no figure for it"
            known = [key for key in (field, *others) if key in written]
            fields = {key: facts(written[key], turn, note) for key in known}
            overlay["accelerators"][entry.name] = fields
            fact = getattr(entry, field)
            fact = fact[entry.arithmetic(fleet.precision)] if field == "flops" else fact
            seen.append(fact.value / size)
        return Change(
            ground.copied(), overlay, seen[0], seen[0] * (1.0 + sign * ground.share), unit
        )

    return move


def _scaleup(ground: Ground) -> Change | str:
    if all(fleet.spec.parallelism.gpus == 1 for fleet in ground.fleets):
        return "every replica is one GPU"
    moved: Change | str = _chip("scaleup_bandwidth", "GB/s", 1e9)(ground)
    return moved


def _nic(ground: Ground) -> Change | str:
    network = ground.scenario.network
    if network is not None and network.fabric is not None and network.fabric.nic is not None:
        given = ground.copied()
        fabric = given["network"]["fabric"]
        fabric["nic"] = times(1.0 + ground.share)(fabric["nic"])
        before = network.fabric.nic / 1e9
        return Change(given, {}, before, before * (1.0 + ground.share), "GB/s")
    spans = any(fleet.spec.parallelism.gpus > fleet.system.scaleup_gpus for fleet in ground.fleets)
    if (network is None or network.fabric is None) and not spans:
        return "nothing crosses the network between servers"
    moved: Change | str = _chip("scaleout_bandwidth", "GB/s", 1e9)(ground)
    return moved


def _links(ground: Ground) -> Change | str:
    network = ground.scenario.network
    if network is None or not network.links:
        return "there are no links with names"
    given = ground.copied()
    for link in given["network"]["links"].values():
        link["bandwidth"] = times(1.0 + ground.share)(link["bandwidth"])
    before = next(iter(network.links.values())).bandwidth / 1e9
    return Change(given, {}, before, before * (1.0 + ground.share), "GB/s")


def _host_link(ground: Ground) -> Change | str:
    engines = [fleet.spec.engine for fleet in ground.fleets]
    if not any(engine.cache_tiers or engine.preemption == "swap" for engine in engines):
        return "no KV cache is kept in host memory"
    moved: Change | str = _chip("host_bandwidth", "GB/s", 1e9)(ground)
    return moved


_ENGINE = (
    "per_step",
    "per_sequence",
    "per_request",
    "launch_per_layer",
    "launch_per_moe_layer",
    "quantise_per_layer",
    "eager_per_layer",
)
_FAMILY = ("per_layer", "moe_per_layer")


def _overheads(ground: Ground) -> Change | str:
    overlay: Overlay = {"engines": {}, "efficiency": {}}
    turn, note = _turned(-ground.share)
    for fleet in ground.fleets:
        if fleet.engine.name not in ground.facts.engines:
            return f"the engine '{fleet.engine.name}' is read from a file"
        engine = fleet.engine.model_dump(mode="json", exclude_none=True)
        overlay["engines"][fleet.engine.name] = {k: facts(engine[k], turn, note) for k in _ENGINE}
        rows = {id(row): name for name, row in ground.facts.families.items()}
        family = fleet.efficiency.model_dump(mode="json", exclude_none=True)
        name = rows[id(ground.facts.efficiency_of(fleet.accelerator, fleet.precision))]
        overlay["efficiency"][name] = {key: facts(family[key], turn, note) for key in _FAMILY}
    return Change(ground.copied(), overlay, 1.0, 1.0 - ground.share, "times")


# How it is run.


def _max_num_seqs(ground: Ground) -> Change | str:
    given, before, after = ground.copied(), 0, 0
    for fleet in ground.fleets:
        if fleet.computes_prompts or fleet.encodes:
            continue
        engine = given["deployments"][fleet.deployment].setdefault("engine", {})
        more = fleet.max_num_seqs + max(1, round(fleet.max_num_seqs * ground.share))
        engine["max_num_seqs"] = more
        before, after = before or fleet.max_num_seqs, after or more
    return Change(given, {}, before, after, "requests")


def _clock(ground: Ground) -> Change | str:
    given = ground.copied()
    before = ground.scenario.racks[0].gpu_clock or 1.0
    for row, spec in zip(given["racks"], ground.scenario.racks, strict=True):
        row["gpu_clock"] = (spec.gpu_clock or 1.0) * (1.0 - ground.share)
    return Change(given, {}, before, before * (1.0 - ground.share), "of the reference")


# What is asked.


def _lengths(which: str) -> Callable[[Ground], Change | str]:
    def move(ground: Ground) -> Change | str:
        given, factor, found = ground.copied(), 1.0 + ground.share, False
        for own, name in _with_lengths(given):
            written = own.get("lengths", ARCHETYPES.get(name))
            if isinstance(written, str):
                entry = ground.facts.lengths[written]
                known = ("prompt", "output", "rank_correlation")
                written = {key: entry[key] for key in known if key in entry}
            if not isinstance(written, Mapping) or "trace" in written:
                continue
            own["lengths"] = {**written, which: length(written[which], factor)}
            found = True
        if not found:
            return "lengths come from a trace"
        return Change(given, {}, 1.0, factor, "times")

    return move


def _with_lengths(given: Given) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield what has lengths in a workload, with the name of its archetype."""
    for spec in given["workload"].values():
        yield from ((kind, name) for name, kind in (spec.get("mix") or {}).items())
        if "lengths" in spec:
            yield spec, ""


LEVERS: Mapping[str, Lever] = {
    "grid_limit": Lever("grid limit", True, _grid_limit),
    "racks": Lever("racks", True, _racks),
    "replicas": Lever("replicas", True, _replicas),
    "oversubscription": Lever("racks, same grid limit", False, _oversubscription),
    "pue": Lever("PUE beyond 1", True, _pue),
    "weather": Lever("weather", True, _weather),
    "cooling_fans_and_pumps": Lever("fans and pumps", True, _plant),
    "gpu_compute": Lever("GPU compute", True, _chip("flops", "Tflop/s", 1e12)),
    "hbm_bandwidth": Lever("HBM bandwidth", True, _chip("hbm_bandwidth", "TB/s", 1e12)),
    "hbm_capacity": Lever("HBM capacity", True, _chip("hbm", "GB", 1e9)),
    "gpu_power": Lever("GPU watts", True, _chip("tdp", "W", 1.0, -1.0, "idle")),
    "scaleup_bandwidth": Lever("links between GPUs", True, _scaleup),
    "nic_bandwidth": Lever("NICs", True, _nic),
    "link_bandwidth": Lever("links of the network", True, _links),
    "host_bandwidth": Lever("links to host memory", True, _host_link),
    "overheads": Lever("overheads", True, _overheads),
    "max_num_seqs": Lever("largest batch", False, _max_num_seqs),
    "gpu_clock": Lever("highest GPU clock", False, _clock),
    "prompt_length": Lever("prompts", False, _lengths("prompt"), ours=False),
    "output_length": Lever("answers", False, _lengths("output"), ours=False),
}
"""Every lever, by name."""
