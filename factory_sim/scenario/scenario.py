"""A scenario: one file that describes a site, its deployments and its workload."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, model_validator

from factory_sim.catalog import Catalog, load_catalog
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen
from factory_sim.scenario.classes import ServiceClass
from factory_sim.scenario.deployment import Deployment, Slo
from factory_sim.scenario.dispatch import Service
from factory_sim.scenario.failures import Failures
from factory_sim.scenario.moment import Moment
from factory_sim.scenario.network import Network
from factory_sim.scenario.reach import misled
from factory_sim.scenario.regions import Region
from factory_sim.scenario.service import misuse
from factory_sim.scenario.site import Power, Provisioning, Racks, Site
from factory_sim.scenario.training import Training
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.units import NonNegativeSeconds, PositiveSeconds

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][\w .+-]*$")]


class Scenario(Frozen):
    """A frozen, validated description of a run.

    starts_at: the moment at which it starts, with its offset from UTC; signals by date, by the
    time of day and from weather files count from there. Arrivals stop at `duration`; the factory
    then drains for at most `drain`. Requests that arrive before `warmup` are served but not
    measured. network: links that KV caches and weights cross. classes: tiers of service that
    workloads name. services: names for several deployments, that workloads may send to. regions:
    where users are. training: jobs beside inference. seed: every random stream of the run
    is spawned from it. catalog: a folder with entries of the user's own.
    """

    name: Name
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    starts_at: Moment | None = None
    duration: PositiveSeconds
    warmup: NonNegativeSeconds = 0.0
    drain: NonNegativeSeconds = 600.0
    site: Site
    racks: Annotated[tuple[Racks, ...], Field(min_length=1)]
    provisioning: Provisioning = Provisioning()
    power: Power = Power()
    failures: Failures | None = None
    network: Network | None = None
    deployments: Annotated[dict[Name, Deployment], Field(min_length=1)]
    classes: Annotated[dict[Name, ServiceClass], Field(min_length=1)] | None = None
    services: Annotated[dict[Name, Service], Field(min_length=1)] | None = None
    regions: Annotated[dict[Name, Region], Field(min_length=1)] | None = None
    workload: Annotated[dict[Name, WorkloadSpec], Field(min_length=1)]
    training: Annotated[dict[Name, Training], Field(min_length=1)] | None = None
    catalog: str | None = None
    _facts: Catalog | None = PrivateAttr(None)

    @property
    def facts(self) -> Catalog:
        """Return the catalogue that this scenario's names point into."""
        return self._facts or _catalog(self.catalog)

    def class_of(self, workload: str) -> str:
        """Return the class of a workload: the one it names, else its own name."""
        return self.workload[workload].class_ or workload

    def promise_to(self, workload: str) -> Slo | None:
        """Return what the requests of a workload are promised: by their class, else to all."""
        spec = self.workload[workload]
        tier = (self.classes or {}).get(spec.class_ or "")
        if tier is not None and tier.slo is not None:
            return tier.slo
        own = self.deployments.get(spec.deployment)
        return own.slo if own is not None else None

    def reach(self, workload: str) -> tuple[str, ...]:
        """Return the deployments that requests of a workload may come to."""
        name = self.workload[workload].deployment
        service = (self.services or {}).get(name)
        return (name,) if service is None else service.deployments

    def shares_of(self, workload: str) -> dict[str, float]:
        """Return the regions that requests of a workload come from, in proportion."""
        regions, own = self.regions or {}, self.workload[workload].regions
        shares = {name: region.share for name, region in regions.items()} if own is None else own
        return {name: shares[name] for name in regions if name in shares}

    def site_of(self, deployment: str) -> Site:
        """Return the site at which a deployment stands."""
        return self.site

    def on(self, facts: Catalog) -> Scenario:
        """Return the same scenario with its figures taken from another catalogue."""
        other = self.model_copy()
        other._facts = facts
        return other

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Scenario:
        problems = list(self._misfits())
        if problems:
            raise InputError(problems)
        return self

    def _misfits(self) -> list[Problem]:
        found = []
        if self.warmup >= self.duration:
            found.append(
                Problem(
                    "warmup",
                    f"must be shorter than duration ({self.duration:g} s), not {self.warmup:g} s",
                )
            )
        known = ", ".join([*self.deployments, *(self.services or {})])
        found += [
            Problem(
                f"workload.{name}.deployment",
                f"there is no deployment '{spec.deployment}'; known: {known}",
            )
            for name, spec in self.workload.items()
            if spec.deployment not in self.deployments
            and spec.deployment not in (self.services or {})
        ]
        for name, deployment in self.deployments.items():
            found += self._without_gpus(f"deployments.{name}", deployment.system)
            if deployment.prefill is not None and deployment.prefill.system is not None:
                found += self._without_gpus(
                    f"deployments.{name}.prefill", deployment.prefill.system
                )
        for name, job in (self.training or {}).items():
            found += self._without_gpus(f"training.{name}", job.system)
            if name in self.deployments:
                found.append(
                    Problem(
                        f"training.{name}", "a deployment has the same name; give the job another"
                    )
                )
        found += self._links()
        if sum(racks.count == "fill" for racks in self.racks) > 1:
            found.append(Problem("racks", "only one row of racks can have 'count: fill'"))
        if not found:
            found += [*misled(self), *misuse(self)]
        return [*found, *self._without_use()]

    def _without_gpus(self, where: str, system: str | None) -> Iterator[Problem]:
        """Yield a problem if no rack holds a pool's system, or if it could be one of several."""
        systems = {racks.system for racks in self.racks}
        listed = ", ".join(sorted(systems))
        if system is None and len(systems) > 1:
            yield Problem(
                f"{where}.system", f"the racks hold several systems; name one of {listed}"
            )
        elif system is not None and system not in systems:
            yield Problem(f"{where}.system", f"no rack holds '{system}'; the racks hold {listed}")

    def _links(self) -> Iterator[Problem]:
        """Yield what is wrong with who uses which link."""
        links = self.network.links if self.network else {}
        used = {
            f"deployments.{name}.prefill": (d.prefill.kv_link, "kv_link", d.prefill.per_replica)
            for name, d in self.deployments.items()
            if d.prefill
        }
        carries_kv = {link for link, _, _ in used.values()}
        for name, d in self.deployments.items():
            scaling = d.autoscaling
            if scaling is not None and scaling.weights_link is not None:
                where, link = f"deployments.{name}.autoscaling", scaling.weights_link
                used[where] = (link, "weights_link", scaling.per_replica)
                if link in carries_kv:
                    yield Problem(
                        f"{where}.weights_link",
                        f"'{link}' carries KV caches, and a failure of storage would stop them; "
                        "give weights a link of their own",
                    )
        known = (
            f"known: {', '.join(links)}"
            if links
            else (
                "the scenario has no 'network'; give one, for example "
                "'network: {links: {kv: {bandwidth: 400 Gbit/s, latency: 10 us}}}'"
            )
        )
        for where, (link, field, _) in used.items():
            if link not in links:
                yield Problem(f"{where}.{field}", f"there is no link '{link}'; {known}")
        for link in links:
            if link not in {crossed for crossed, _, _ in used.values()}:
                yield Problem(
                    f"network.links.{link}",
                    "nothing crosses it; leave it out, or name it as 'kv_link' in the 'prefill' "
                    "of a deployment, or as 'weights_link' in its 'autoscaling'",
                )
        for where, (link, _, limit) in used.items():
            if link in links and limit is not None and limit >= links[link].bandwidth:
                yield Problem(
                    f"{where}.per_replica",
                    f"is no less than the whole link '{link}'; leave it out, or give less",
                )

    def _without_use(self) -> Iterator[Problem]:
        """Yield what nothing in this scenario would look at."""
        policy, priorities = (
            self.power.policy,
            {d.power_priority for d in self.deployments.values()},
        )
        if policy in ("admit", "none") and len(priorities) > 1:
            name = max(self.deployments, key=lambda name: self.deployments[name].power_priority)
            yield Problem(
                f"deployments.{name}.power_priority",
                f"policy '{policy}' treats all deployments alike; give all the same priority, or "
                "take power.policy clock, decode-first or park",
            )
        for name, job in (self.training or {}).items():
            if job.power_priority and policy not in ("clock", "decode-first"):
                yield Problem(
                    f"training.{name}.power_priority",
                    f"policy '{policy}' slows no training; leave it out, or take power.policy "
                    "clock or decode-first",
                )
        if self.site.cooling is None:
            for index, racks in enumerate(self.racks):
                if racks.liquid_share is not None:
                    yield Problem(
                        f"racks.{index}.liquid_share",
                        "a constant site.pue does not ask where heat goes; leave it out, or give "
                        "site.cooling, such as 'liquid'",
                    )


@cache
def _catalog(folder: str | None) -> Catalog:
    return load_catalog(Path(folder) if folder else None)
