"""A scenario: one file that describes a site, its deployments and its workload."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from factory_sim.catalog import Catalog, load_catalog
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen
from factory_sim.scenario.classes import ServiceClass
from factory_sim.scenario.deployment import Deployment, Slo
from factory_sim.scenario.dispatch import ByClass, Service
from factory_sim.scenario.failures import Failures
from factory_sim.scenario.moment import Moment
from factory_sim.scenario.money import Costs, Price, Prices, unpaid
from factory_sim.scenario.network import Network
from factory_sim.scenario.places import misplaced
from factory_sim.scenario.reach import misled
from factory_sim.scenario.recording import Recording, beyond_counting
from factory_sim.scenario.regions import Region
from factory_sim.scenario.service import misuse
from factory_sim.scenario.site import Power, Provisioning, Racks, Site
from factory_sim.scenario.training import Training
from factory_sim.scenario.uploads import mistimed
from factory_sim.scenario.wires import miswired
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.units import NonNegativeSeconds, PositiveSeconds

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][\w .+-]*$")]


class Scenario(Frozen):
    """A frozen, validated description of a run.

    starts_at: the moment at which it starts, with its offset from UTC; signals by date, by the time
    of day and from weather files count from there. Arrivals stop at `duration`; the factory then
    drains for at most `drain`. Requests that arrive before `warmup` are served but not measured.
    network: links that KV caches, weights and what users send cross. classes: tiers of service that
    workloads name. services: names for several deployments, that workloads may send to. regions:
    where users are. training: jobs beside inference. seed: every random stream of the run is
    spawned from it. catalog: a folder with entries of the user's own. sites: several of them by
    name, in place of one `site`; racks, deployments and jobs then name theirs, and provisioning,
    power, failures, spares and storage hold at each. kernel: what serves requests: simpy; compiled,
    which is far faster and knows less; or auto, the one where it can and the other elsewhere.
    recording: a row of each request is kept (full), of some (sample), or of none (aggregate).
    costs: of each site; prices: of tokens to who has no class with a price.
    """

    name: Name
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    starts_at: Moment | None = None
    duration: PositiveSeconds
    warmup: NonNegativeSeconds = 0.0
    drain: NonNegativeSeconds = 600.0
    site_: Annotated[Site | None, Field(alias="site")] = None
    sites: Annotated[dict[Name, Site], Field(min_length=1)] | None = None
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
    costs: Costs | None = None
    prices: Prices | None = None
    catalog: str | None = None
    kernel: Literal["auto", "simpy", "compiled"] = "simpy"
    recording: Recording = Recording()
    _facts: Catalog | None = PrivateAttr(None)

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write `site` as people do; `site_` is for Python."""
        return {key.rstrip("_"): value for key, value in write(self).items()}

    @property
    def site(self) -> Site:
        """Return the site of a scenario that has one."""
        assert self.site_ is not None, "of several sites each has a part of its own"
        return self.site_

    def site_of(self, deployment: str) -> Site:
        """Return the site that a deployment runs at: its price and carbon are signals over time."""
        named = self.deployments[deployment].site
        return (self.sites or {})[named] if named is not None else self.site

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

    def price_of(self, workload: str) -> Price | None:
        """Return what the requests of a workload cost: by their class, else as all others."""
        tier = (self.classes or {}).get(self.workload[workload].class_ or "")
        if tier is not None and tier.price is not None:
            return tier.price
        return self.prices.price(self.facts) if self.prices is not None else None

    def reach(self, workload: str) -> tuple[str, ...]:
        """Return the deployments that requests of a workload may come to."""
        name = self.workload[workload].deployment
        service = (self.services or {}).get(name)
        if service is None:
            return (name,)
        routes = service.routes if isinstance(service, ByClass) else {}
        routed = routes.get(self.class_of(workload))
        return service.deployments if routed is None else (routed,)

    def shares_of(self, workload: str) -> dict[str, float]:
        """Return the regions that requests of a workload come from, in proportion."""
        regions, own = self.regions or {}, self.workload[workload].regions
        shares = {name: region.share for name, region in regions.items()} if own is None else own
        return {name: shares[name] for name in regions if name in shares}

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
        found = list(misplaced(self))
        if found:  # what is where decides about the rest
            return found
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
            site = deployment.site
            found += self._without_gpus(f"deployments.{name}", site, deployment.system)
            if deployment.prefill is not None and deployment.prefill.system is not None:
                found += self._without_gpus(
                    f"deployments.{name}.prefill", site, deployment.prefill.system
                )
            if deployment.encoder is not None and deployment.encoder.system is not None:
                found += self._without_gpus(
                    f"deployments.{name}.encoder", site, deployment.encoder.system
                )
        for name, job in (self.training or {}).items():
            found += self._without_gpus(f"training.{name}", job.site, job.system)
            if name in self.deployments:
                found.append(
                    Problem(
                        f"training.{name}", "a deployment has the same name; give the job another"
                    )
                )
        found += miswired(self)
        for site in self.sites or (None,):
            if sum(racks.count == "fill" for racks in self.racks if racks.site == site) > 1:
                at = f" of site '{site}'" if site else ""
                found.append(Problem("racks", f"only one row of racks{at} can have 'count: fill'"))
        if not found:
            found += [
                *misled(self),
                *misuse(self),
                *unpaid(self),
                *beyond_counting(self),
            ] or mistimed(self)
        return [*found, *self._without_use()]

    def _without_gpus(self, where: str, site: str | None, system: str | None) -> Iterator[Problem]:
        """Yield a problem if no rack holds a pool's system, or if it could be one of several."""
        systems = {racks.system for racks in self.racks if racks.site == site}
        listed = ", ".join(sorted(systems))
        racks = f"racks of site '{site}'" if site else "racks"
        if system is None and len(systems) > 1:
            yield Problem(
                f"{where}.system", f"the {racks} hold several systems; name one of {listed}"
            )
        elif system is not None and system not in systems:
            of = f" of site '{site}'" if site else ""
            yield Problem(
                f"{where}.system", f"no rack{of} holds '{system}'; the {racks} hold {listed}"
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
        for index, racks in enumerate(self.racks):
            site = self.site if racks.site is None else (self.sites or {})[racks.site]
            if site.cooling is None and racks.liquid_share is not None:
                here = "site" if racks.site is None else f"sites.{racks.site}"
                yield Problem(
                    f"racks.{index}.liquid_share",
                    f"a constant {here}.pue does not ask where heat goes; leave it out, or give "
                    f"{here}.cooling, such as 'liquid'",
                )


@cache
def _catalog(folder: str | None) -> Catalog:
    return load_catalog(Path(folder) if folder else None)
