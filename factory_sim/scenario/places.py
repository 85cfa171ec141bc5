"""Several sites in one scenario: who stands where, and each site as a scenario of its own.

A site is blind to the others: its racks, its meter and what runs there are all that its part
holds, under the names that a scenario of one site would give them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from factory_sim.errors import Problem

if TYPE_CHECKING:
    from factory_sim.scenario.failures import Failures
    from factory_sim.scenario.network import Network
    from factory_sim.scenario.scenario import Scenario


class Part(NamedTuple):
    """One site of a scenario: what is there, as a scenario of one site.

    whole: what it is a part of. name: of the site; empty where it is the only one. rows, strikes:
    where in the whole its rows of racks and its failures by schedule stand.
    """

    whole: Scenario
    scenario: Scenario
    name: str = ""
    rows: tuple[int, ...] = ()
    strikes: tuple[int, ...] = ()

    def told(self, problem: Problem) -> Problem:
        """Return a problem of this part in the words of the whole scenario."""
        if not self.name:
            return problem
        path = re.sub(
            r"^racks\.(\d+)", lambda found: f"racks.{self.rows[int(found[1])]}", problem.path
        )
        path = re.sub(
            r"^failures\.schedule\.(\d+)",
            lambda found: f"failures.schedule.{self.strikes[int(found[1])]}",
            path,
        )
        here = f"sites.{self.name}"
        if path == "racks":  # of all rows together
            return Problem(path, f"at site '{self.name}': {self._named(problem.message)}")
        return Problem(re.sub(r"^site(?=\.|$)", here, path), self._named(problem.message))

    def _named(self, message: str) -> str:
        return re.sub(r"\bsite\.(?=[a-z])", f"sites.{self.name}.", message)


def parts_of(scenario: Scenario) -> tuple[Part, ...]:
    """Return a part for each site; of one site the scenario itself."""
    if scenario.sites is None:
        return (Part(scenario, scenario),)
    return tuple(_part(scenario, name) for name in scenario.sites)


def _part(whole: Scenario, name: str) -> Part:
    assert whole.sites is not None
    rows = tuple(index for index, row in enumerate(whole.racks) if row.site == name)
    deployments = {key: spec for key, spec in whole.deployments.items() if spec.site == name}
    training = {key: job for key, job in (whole.training or {}).items() if job.site == name}
    strikes = _strikes(whole.failures, name)
    here = {
        "site_": whole.sites[name],
        "sites": None,
        "racks": tuple(whole.racks[index] for index in rows),
        "deployments": deployments,
        "training": training or None,
        "workload": {
            key: spec
            for key, spec in whole.workload.items()
            if deployments.keys() & set(whole.reach(key))
        },
        "network": _network(whole, name),
        "failures": _failures(whole.failures, name, strikes),
    }
    return Part(whole, whole.model_copy(update=here), name, rows, strikes)


def _strikes(failures: Failures | None, name: str) -> tuple[int, ...]:
    """Return which failures by schedule are of a site."""
    schedule = failures.schedule if failures else ()
    return tuple(i for i, when in enumerate(schedule) if when.what.startswith(f"{name}/"))


def _failures(failures: Failures | None, name: str, strikes: tuple[int, ...]) -> Failures | None:
    """Return what fails at a site, by the names that things have there."""
    if failures is None:
        return None
    own = (failures.schedule[index] for index in strikes)
    schedule = tuple(w.model_copy(update={"what": w.what.removeprefix(f"{name}/")}) for w in own)
    return failures.model_copy(update={"schedule": schedule})


def _network(whole: Scenario, name: str) -> Network | None:
    """Return the links that are crossed at a site."""
    if whole.network is None:
        return None
    links = {k: v for k, v in whole.network.links.items() if name in _crossed_at(whole)[k]}
    return whole.network.model_copy(update={"links": links})


def _crossed_at(scenario: Scenario) -> dict[str, set[str | None]]:
    """Return the sites at which each link is crossed."""
    links = scenario.network.links if scenario.network else {}
    found: dict[str, set[str | None]] = {name: set() for name in links}
    for spec in scenario.deployments.values():
        crossed = (
            spec.prefill.kv_link if spec.prefill else None,
            spec.encoder.link if spec.encoder else None,
            *(scaling.weights_link for scaling in spec.scalings.values()),
            spec.users_link,
        )
        for link in crossed:
            if link in found:
                found[link].add(spec.site)
    return found


def misplaced(scenario: Scenario) -> Iterator[Problem]:
    """Yield what is wrong with who stands at which site."""
    if scenario.site_ is None and scenario.sites is None:
        yield Problem("site", "is required but missing; or give several 'sites' by name")
    elif scenario.site_ is not None and scenario.sites is not None:
        yield Problem("sites", "there is a 'site' too; keep one of them")
    else:
        lost = list(_at_no_site(scenario))
        # Where somebody names no site, another seems to have nothing.
        yield from lost or _with_nothing(scenario)


def _at_no_site(scenario: Scenario) -> Iterator[Problem]:
    """Yield who names no site, or one that is not there."""
    named = {f"racks.{index}": row.site for index, row in enumerate(scenario.racks)}
    named |= {f"deployments.{name}": spec.site for name, spec in scenario.deployments.items()}
    named |= {f"training.{name}": job.site for name, job in (scenario.training or {}).items()}
    known = ", ".join(scenario.sites or ())
    for where, site in named.items():
        if scenario.sites is None and site is not None:
            yield Problem(
                f"{where}.site", "there is only one site; leave it out, or give 'sites' by name"
            )
        elif scenario.sites is not None and site is None:
            yield Problem(f"{where}.site", f"is required with several sites; name one of {known}")
        elif scenario.sites is not None and site not in scenario.sites:
            yield Problem(f"{where}.site", f"there is no site '{site}'; known: {known}")


def _with_nothing(scenario: Scenario) -> Iterator[Problem]:
    """Yield sites that nothing stands at, links and failures that are at none or several."""
    if scenario.sites is None:
        return
    used = {spec.site for spec in scenario.deployments.values()}
    used |= {job.site for job in (scenario.training or {}).values()}
    for name in scenario.sites:
        if name not in {row.site for row in scenario.racks}:
            yield Problem(f"sites.{name}", "has no racks; give a row that names it, or drop it")
        elif name not in used:
            yield Problem(
                f"sites.{name}",
                "nothing runs there; give a deployment or a training job that names it, or drop it "
                "and its racks",
            )
    for link, sites in _crossed_at(scenario).items():
        if len(sites) > 1:
            yield Problem(
                f"network.links.{link}",
                "is crossed at several sites, and a link is at one; give each site its own",
            )
    for index, when in enumerate(scenario.failures.schedule if scenario.failures else ()):
        site, _, thing = when.what.partition("/")
        if site in scenario.sites and not thing:
            yield Problem(
                f"failures.schedule.{index}.what",
                f"'{when.what}' is a site, and no site fails whole; name what fails there, such as "
                f"'{site}/feed'",
            )
        elif site not in scenario.sites:
            example = next(iter(scenario.sites))
            yield Problem(
                f"failures.schedule.{index}.what",
                f"'{when.what}' names no site; begin with it, as '{example}/{when.what}'",
            )
