"""The site as a tree of things with names: racks hold servers, servers hold GPUs.

What a rack draws follows from what its GPU boards draw (equations: physics/server.py), plus its
switches, which draw the same always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory_sim.catalog import Accelerator, Enclosure, System
from factory_sim.physics.server import ServerModel


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its index in the site, its name, its rack, and its scale-up domain."""

    index: int
    name: str
    rack: str
    domain: str


@dataclass(frozen=True, slots=True)
class Server:
    """One server and the GPUs in it."""

    name: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Rack:
    """One rack of equal servers.

    gpu_limit_w: what a board may draw, at most its TDP; gpu_clock: the highest clock it may run at,
    a share of the reference. liquid_share: of its heat, what goes into
    coolant. load: what its servers draw, all of them as one.
    """

    name: str
    system: System
    accelerator: Accelerator
    enclosure: Enclosure
    servers: tuple[Server, ...]
    gpu_limit_w: float
    gpu_clock: float
    liquid_share: float
    load: ServerModel

    @property
    def gpus(self) -> int:
        """Return how many GPUs it holds."""
        return self.system.gpus_per_server * len(self.servers)

    @property
    def switches_w(self) -> float:
        """Return the watts of the rack's switches: they go with the servers they connect."""
        usual = self.system.servers_per_rack
        return self.system.rack_overhead.value * len(self.servers) / usual

    @property
    def nameplate_w(self) -> float:
        """Return the watts on the labels: of its servers and its switches."""
        return self.system.nameplate.value * len(self.servers) + self.switches_w

    @property
    def gpu_peak_w(self) -> float:
        """Return the watts of its boards with every one at its power limit."""
        return self.gpu_limit_w * self.gpus

    @property
    def gpu_idle_w(self) -> float:
        """Return the watts of its boards at rest."""
        return self.accelerator.need("idle") * self.gpus

    @property
    def peak_w(self) -> float:
        """Return the watts with every GPU at its power limit and its host as busy."""
        return self.load.draw(self.gpu_peak_w).inlet + self.switches_w

    @property
    def idle_w(self) -> float:
        """Return the watts with every GPU and host idle."""
        return self.load.draw(self.gpu_idle_w).inlet + self.switches_w


def server_model(system: System, accelerator: Accelerator, enclosure: Enclosure) -> ServerModel:
    """Return what one server of a system draws.

    Its supplies reach the catalogue's efficiency with everything at its limit, and lose the
    enclosure's constant watts always.
    """
    gpus = system.gpus_per_server
    full_w = gpus * accelerator.need("tdp") + system.host_load.value
    delivered_w = full_w * (1.0 + system.fan_share.value)
    constant_w = enclosure.supply_constant.value * system.nameplate.value
    return ServerModel(
        system.host_idle.value,
        system.host_load.value,
        gpus * accelerator.need("idle"),
        gpus * accelerator.need("tdp"),
        system.fan_share.value,
        enclosure.fan_floor.value,
        constant_w,
        system.psu_efficiency.value * (1.0 + constant_w / delivered_w),
    )


class Site:
    """The racks behind one meter. rack_of: of each GPU, the index of its rack."""

    def __init__(self, racks: Sequence[Rack]) -> None:
        self.racks = tuple(racks)
        self.gpus = tuple(g for rack in racks for server in rack.servers for g in server.gpus)
        self.rack_of = [
            index for index, rack in enumerate(racks) for s in rack.servers for _ in s.gpus
        ]

    def nameplate_it_w(self) -> float:
        """Return the watts on the labels of all racks."""
        return sum(rack.nameplate_w for rack in self.racks)

    def rack(self, gpu: int) -> Rack:
        """Return the rack that a GPU stands in."""
        return self.racks[self.rack_of[gpu]]
