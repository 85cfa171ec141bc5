"""A reading: counters of every replica, link and job at one time, and the books."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from factory_sim.factory.build import Factory
from factory_sim.factory.facility.facility import Books
from factory_sim.factory.replica import Replica
from factory_sim.metrics.scaling import ScalingCounts
from factory_sim.metrics.statistics import Floats
from factory_sim.metrics.totals import Totals
from factory_sim.metrics.training import TrainingTotals


class Reading(NamedTuple):
    """Counters of every replica at one time.

    totals: of each replica, and of what a pool as a whole waited for. carried_bytes: by link.
    port_bytes: of every port of each site's fabric, by group. books: of each site's facility.
    """

    totals: dict[str, list[Totals]]
    input_tokens: dict[str, int]
    recomputed_tokens: dict[str, int]
    lost_tokens: dict[str, int]
    moved_blocks: dict[str, int]
    loaded_blocks: dict[str, list[tuple[int, ...]]]
    carried_bytes: dict[str, float]
    port_bytes: dict[str, dict[str, list[float]]]
    scaling: dict[str, ScalingCounts]
    jobs: list[TrainingTotals]
    books: list[Books]


def drawn(factory: Factory) -> dict[str, Floats]:
    """Return busy seconds, joules (of each GPU) and output tokens of each pod until now.

    Of each pool an array [pods, 3] of sums over replicas.
    """
    found = {}
    for fleet in factory.fleets:
        gateway = factory.gateways[fleet.name]
        together = gateway.at_once()
        each = np.array(
            [replica.drawn() for replica in gateway.replicas]
            if together is None
            else together.drawn
        )
        starts = np.cumsum((0, *fleet.pods[:-1]))
        found[fleet.name] = np.add.reduceat(each, starts, axis=0)
    return found


def read(factory: Factory) -> Reading:
    """Return what every counter of a factory shows now."""

    def of(name: str) -> list[Replica]:
        return factory.gateways[name].replicas

    names = list(factory.gateways)
    for premises in factory.premises:
        premises.meter.account()
    return Reading(
        {name: gateway.totals() for name, gateway in factory.gateways.items()},
        {name: sum(replica.batch.input_tokens for replica in of(name)) for name in names},
        {name: sum(replica.batch.recomputed_tokens for replica in of(name)) for name in names},
        {name: sum(replica.batch.lost_tokens for replica in of(name)) for name in names},
        {name: sum(replica.batch.moved_blocks for replica in of(name)) for name in names},
        {name: [replica.batch.loaded_blocks for replica in of(name)] for name in names},
        {name: link.carried_bytes() for name, link in factory.links.items()},
        {
            site: {name: group.by_port() for name, group in fabric.groups.items()}
            for site, fabric in factory.fabrics.items()
        },
        {name: scaler.counts() for name, scaler in factory.scalers.items()},
        [job.totals() for job in factory.jobs],
        [premises.facility.books() for premises in factory.premises],
    )
