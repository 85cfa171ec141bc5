"""What is wrong with what crosses a site's network: who uses which link, and the fabric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from factory_sim.errors import Problem
from factory_sim.scenario.deployment import Represented

if TYPE_CHECKING:
    from factory_sim.scenario.scenario import Scenario


class Crossing(NamedTuple):
    """A link that is named: where, in which field. limit: bytes/s of one sender, if it is told."""

    where: str
    field: str
    link: str
    limit: float | None = None


def miswired(scenario: Scenario) -> Iterator[Problem]:
    """Yield what is wrong with who uses which link, and with who uses the fabric."""
    yield from _of_links(scenario)
    yield from _of_fabric(scenario)


def _of_links(scenario: Scenario) -> Iterator[Problem]:
    links = scenario.network.links if scenario.network else {}
    pools = list(_between_pools(scenario))
    weights = list(_of_weights(scenario))
    users = [
        Crossing(f"deployments.{name}", "users_link", spec.users_link)
        for name, spec in scenario.deployments.items()
        if spec.users_link is not None
    ]
    yield from _shared(pools, weights, users)
    known = (
        f"known: {', '.join(links)}"
        if links
        else (
            "the scenario has no 'network'; give one, for example "
            "'network: {links: {kv: {bandwidth: 400 Gbit/s, latency: 10 us}}}'"
        )
    )
    used = [*pools, *weights, *users]
    for where, field, link, _ in used:
        if link not in links:
            yield Problem(f"{where}.{field}", f"there is no link '{link}'; {known}")
    for link in links:
        if link not in {crossing.link for crossing in used}:
            yield Problem(
                f"network.links.{link}",
                "nothing crosses it; leave it out, or name it as 'kv_link' in the 'prefill' "
                "of a deployment, as 'link' in its 'encoder', as 'weights_link' in its "
                "'autoscaling', or as its 'users_link'",
            )
    for where, _, link, limit in used:
        if link in links and limit is not None and limit >= links[link].bandwidth:
            yield Problem(
                f"{where}.per_replica",
                f"is no less than the whole link '{link}'; leave it out, or give less",
            )


def _between_pools(scenario: Scenario) -> Iterator[Crossing]:
    """Yield the links that KV caches and embeddings of images cross."""
    for name, spec in scenario.deployments.items():
        prefill = spec.prefill
        if prefill and prefill.link is not None:
            where = f"deployments.{name}.prefill"
            yield Crossing(where, "kv_link", prefill.link, prefill.per_replica)
    for name, spec in scenario.deployments.items():
        if spec.encoder and spec.encoder.named_link is not None:
            yield Crossing(f"deployments.{name}.encoder", "link", spec.encoder.named_link)


def _of_weights(scenario: Scenario) -> Iterator[Crossing]:
    """Yield the links that weights of replicas that start cross."""
    for name, spec in scenario.deployments.items():
        for field, scaling in spec.scalings.items():
            if scaling.weights_link is not None:
                where = f"deployments.{name}.{field}"
                yield Crossing(where, "weights_link", scaling.weights_link, scaling.per_replica)


def _shared(
    pools: list[Crossing], weights: list[Crossing], users: list[Crossing]
) -> Iterator[Problem]:
    """Yield who shares a link with what it should be apart from."""
    between = {crossing.link for crossing in pools}
    for where, field, link, _ in weights:
        if link in between:
            yield Problem(
                f"{where}.{field}",
                f"'{link}' carries KV caches or images, and a failure of storage "
                "would stop them; give weights a link of their own",
            )
    inside = {crossing.link for crossing in (*pools, *weights)}
    for where, field, link, _ in users:
        if link in inside:
            yield Problem(
                f"{where}.{field}",
                f"'{link}' joins pools or brings weights inside the site; give "
                "what users send a link of its own",
            )


def _of_fabric(scenario: Scenario) -> Iterator[Problem]:
    """Yield what is wrong with who uses the fabric."""
    fabric = scenario.network.fabric if scenario.network else None
    crossing = [
        (f"deployments.{name}.prefill.kv_link", "KV caches")
        for name, d in scenario.deployments.items()
        if d.prefill and d.prefill.link is None
    ] + [
        (f"deployments.{name}.encoder.link", "embeddings of images")
        for name, d in scenario.deployments.items()
        if d.encoder and d.encoder.named_link is None
    ]
    if fabric is None:
        for where, what in crossing:
            yield Problem(
                where,
                f"{what} have nothing to cross; give the site a fabric, for example "
                "'network: {fabric: {}}', or name a link of 'network: {links: ...}'",
            )
        return
    scaled = [scaling for d in scenario.deployments.values() for scaling in d.scalings.values()]
    loads = any(scaling.weights_link is None for scaling in scaled)
    cooled = any(site.cooling for site in (scenario.sites or {"": scenario.site}).values())
    if fabric.storage is not None and not (loads or scenario.failures or cooled):
        yield Problem(
            "network.fabric.storage",
            "nobody loads weights in this run: nothing fails and nothing is scaled; leave it "
            "out, or give failures, or an 'autoscaling' without 'weights_link'",
        )
    elif fabric.storage is None and not crossing:
        yield Problem(
            "network.fabric",
            "nothing crosses it; leave it out, give a deployment a 'prefill' or an 'encoder', "
            "or give 'storage', from which weights then come",
        )
    given = scenario.failures.storage.model_fields_set if scenario.failures else ()
    if fabric.storage is not None and given:
        yield Problem(
            "failures.storage",
            "weights come over network.fabric, from its storage and by the servers' NICs; "
            "leave it out, or leave out network.fabric.storage",
        )
    for name, deployment in scenario.deployments.items():
        if isinstance(deployment.replicas, Represented):
            yield Problem(
                f"deployments.{name}.replicas",
                "with network.fabric every replica is simulated, as each has NICs and shares "
                "switches; give 'replicas' as one number",
            )
