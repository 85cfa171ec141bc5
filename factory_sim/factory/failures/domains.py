"""Failure domains: every thing that can fail, by name, and what stands behind it.

rack-3/server-1/gpu-0     rack-3/server-1     rack-3/server-1/nic     rack-3/switch     rack-3
cdu-0     pdu-2     ups-0     transformer-1     plant     storage     feed
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from factory_sim.factory.facility.building import Building
from factory_sim.factory.facility.chain import Block
from factory_sim.factory.layout import Layout

STOPS = ("gpu", "server", "rack")
"""Kinds whose failure ends what runs on their GPUs."""

CUTS = ("nic", "link", "switch")
"""Kinds whose failure leaves GPUs up but out of reach: answers are lost, weights stay."""

FEEDS = ("pdu", "ups", "transformer", "feed")
"""Kinds whose failure leaves racks dark, unless redundant modules carry on."""


class Domain(NamedTuple):
    """A thing that can fail. gpus: of the site, behind it; bays: whose racks it serves.

    modules: how many it consists of; spares: how many of them may fail before anything behind it
    notices.
    """

    name: str
    kind: str
    gpus: frozenset[int]
    bays: frozenset[int]
    spares: int = 0
    modules: int = 1


def domains(layout: Layout, cdu_racks: int) -> dict[str, Domain]:
    """Return everything that can fail at a site, by name. cdu_racks: how many racks share a CDU."""
    found = [*_racks(layout), *_feeds(layout.building), *_cooling(layout, cdu_racks)]
    everything = frozenset(range(len(layout.building.bays)))
    found += [
        Domain("storage", "storage", frozenset(), frozenset()),
        Domain("feed", "feed", frozenset(), everything),
    ]
    return {domain.name: domain for domain in found}


def _racks(layout: Layout) -> Iterator[Domain]:
    for bay, rack in enumerate(layout.building.bays):
        bays = frozenset([bay])
        held = frozenset(gpu.index for server in rack.servers for gpu in server.gpus)
        yield Domain(rack.name, "rack", held, bays)
        yield Domain(f"{rack.name}/switch", "switch", held, bays)
        for server in rack.servers:
            gpus = frozenset(gpu.index for gpu in server.gpus)
            yield Domain(server.name, "server", gpus, bays)
            yield Domain(f"{server.name}/nic", "nic", gpus, bays)
            yield Domain(f"{server.name}/link", "link", gpus, bays)
            for gpu in server.gpus:
                yield Domain(gpu.name, "gpu", frozenset([gpu.index]), bays)


def _feeds(building: Building) -> Iterator[Domain]:
    behind = [frozenset([bay]) for bay in building.bay_of]
    for stage in building.stages:
        behind = [frozenset().union(*(behind[i] for i in block.feeds)) for block in stage.blocks]
        spares = 0 if stage.redundancy == "N" else 1
        for block, bays in zip(stage.blocks, behind, strict=True):
            yield Domain(block.name, stage.name, frozenset(), bays, spares, _modules(block))


def _cooling(layout: Layout, cdu_racks: int) -> Iterator[Domain]:
    if layout.scenario.site.cooling is None:
        return
    bays = layout.building.bays
    yield Domain("plant", "plant", frozenset(), frozenset(range(len(bays))))
    wet = [bay for bay, rack in enumerate(bays) if rack.liquid_share > 0.0]
    for number, first in enumerate(range(0, len(wet), cdu_racks)):
        behind = frozenset(wet[first : first + cdu_racks])
        yield Domain(f"cdu-{number}", "cdu", frozenset(), behind)


def _modules(block: Block) -> int:
    """Return the modules of a block: one spare beside those that its rating needs."""
    spare = block.installed_w / block.rating_w - 1.0
    return 1 if spare <= 0.0 else 1 + round(1.0 / spare)
