"""Failures by schedule and by chance: when each domain fails, and for how long."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
from simpy import Container, Event

from factory_sim.catalog import FailureRate
from factory_sim.errors import InputError, Problem
from factory_sim.factory.failures.domains import Domain, domains
from factory_sim.factory.failures.outages import Outages
from factory_sim.factory.layout import Layout
from factory_sim.factory.timetable import CONTROL, Timetable
from factory_sim.scenario.failures import KINDS, Failures, Scheduled

Story = Generator[Event, object, None]


class Shelf(NamedTuple):
    """Servers that stand by, and the time until one of them has taken over."""

    spares: Container
    takeover_s: float


def check_failures(layouts: Sequence[Layout]) -> None:
    """Raise InputError, with what there is, where a scenario lets fail what no site has."""
    problems: list[Problem] = []
    here: set[str] = set()
    for layout in layouts:
        known = domains_of(layout)
        here |= {domain.kind for domain in known.values()}
        problems += map(layout.part.told, _misnamed(layout, known))
    spec = layouts[0].part.whole.failures
    if spec is not None and spec.chance is not None and spec.chance.kinds != KINDS:
        alone = len(layouts) == 1
        no, has = ("this site has no", "it has") if alone else ("no site has a", "they have")
        problems += [
            Problem("failures.chance.kinds", f"{no} '{kind}'; {has} {_listed(here)}")
            for kind in spec.chance.kinds
            if kind not in here
        ]
    if problems:
        raise InputError(problems)


def domains_of(layout: Layout) -> dict[str, Domain]:
    """Return everything that can fail at a site, by name."""
    cooling = layout.scenario.site.cooling
    return domains(layout, cooling.cdu_racks if cooling else 1)


def _misnamed(layout: Layout, known: dict[str, Domain]) -> Iterator[Problem]:
    """Yield a problem for what a schedule names that is not there, or strikes after the end."""
    spec = layout.scenario.failures
    end_s = layout.scenario.duration + layout.scenario.drain
    for index, when in enumerate(spec.schedule if spec else ()):
        if when.what not in known:
            close = get_close_matches(when.what, known, n=3)
            examples = close or [name for name in known if "/" not in name][:6]
            yield Problem(
                f"failures.schedule.{index}.what",
                f"this site has no '{when.what}'; it has, for example, {', '.join(examples)}",
            )
        if when.at >= end_s:
            yield Problem(
                f"failures.schedule.{index}.at",
                f"{when.at:g} s is after the run has ended ({end_s:g} s at the latest)",
            )


def _listed(kinds: set[str]) -> str:
    return ", ".join(kind for kind in KINDS if kind in kinds)


def set_going(
    env: Timetable,
    outages: Outages,
    layout: Layout,
    spec: Failures,
    seed: np.random.SeedSequence,
    known: Mapping[str, Domain] | None = None,
) -> None:
    """Start every failure that a scenario asks for at a site; all that it names are there.

    known: everything that can fail there, by name, from who has asked `domains_of` already.
    """
    known = known or domains_of(layout)
    for when in spec.schedule:
        env.process(scheduled(env, outages, known[when.what], when))
    chance = spec.chance
    if chance is None:
        return
    shelf = None
    if spec.spares is not None:
        spares = Container(env, spec.spares.servers, spec.spares.servers)
        shelf = Shelf(spares, spec.spares.takeover)
    # One stream for each kind, whether it fails here or not.
    for kind, own in zip(KINDS, seed.spawn(len(KINDS)), strict=True):
        units = [domain for domain in known.values() if domain.kind == kind]
        if kind in chance.kinds and units:
            rate = layout.scenario.facts.failure_rate(kind)
            stock = shelf if kind in ("gpu", "server") else None
            env.process(by_chance(env, outages, units, rate, chance.times, stock, own))


def scheduled(env: Timetable, outages: Outages, domain: Domain, when: Scheduled) -> Story:
    """Fail at the time that the scenario says."""
    yield env.at(when.at, CONTROL)
    outages.strike(domain)
    if when.lasts is not None:
        yield env.at(when.at + when.lasts, CONTROL)
        outages.mend(domain)


def by_chance(
    env: Timetable,
    outages: Outages,
    units: list[Domain],
    rate: FailureRate,
    times: float,
    shelf: Shelf | None,
    seed: np.random.SeedSequence,
) -> Story:
    """Let units of one kind fail at random, each for a random time.

    Failures of all units together come as a Poisson process; a repair is log-normal. times: how
    much more often than the catalogue says. shelf: what stands in for a failed unit.
    """
    rng = np.random.default_rng(seed)
    modules = sum(unit.modules for unit in units)
    mean_s = rate.mtbf.value / (modules * times)
    sigma = rate.spread.value
    while True:
        yield env.timeout(float(rng.exponential(mean_s)))
        unit = units[int(rng.integers(len(units)))]
        repair_s = rate.repair.value * float(np.exp(sigma * rng.standard_normal() - sigma**2 / 2))
        outages.strike(unit)
        env.process(repaired(env, outages, unit, repair_s, shelf))


def repaired(
    env: Timetable, outages: Outages, unit: Domain, repair_s: float, shelf: Shelf | None
) -> Story:
    """Repair a unit; if a spare is on the shelf it takes over, and the repaired one joins it."""
    if shelf is None or repair_s <= shelf.takeover_s or shelf.spares.level < 1:
        yield env.timeout(repair_s)
        outages.mend(unit)
        return
    yield shelf.spares.get(1)
    yield env.timeout(shelf.takeover_s)
    outages.mend(unit)
    yield env.timeout(repair_s - shelf.takeover_s)
    yield shelf.spares.put(1)
