"""The site as a tree of things with names: racks hold servers, servers hold GPUs.

Watts follow the tree: a server draws (GPU boards + host) * (1 + fans) / PSU efficiency, a
rack adds its switches, cooling and losses come on top at the meter. The host's watts go from
idle to load with its GPUs, so every level is affine in GPU watts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from factory_sim.catalog import Accelerator, System


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its index in the site, its name, and the scale-up domain it belongs to."""

    index: int
    name: str
    domain: str


@dataclass(frozen=True, slots=True)
class Server:
    """One server and the GPUs in it."""

    name: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Rack:
    """One rack of equal servers. gpu_limit_w: what a board may draw, at most its TDP."""

    name: str
    system: System
    accelerator: Accelerator
    servers: tuple[Server, ...]
    gpu_limit_w: float

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
    def peak_w(self) -> float:
        """Return the watts with every GPU at its power limit and its host as busy."""
        gpus = self.system.gpus_per_server
        idle_w = self.accelerator.need("idle")
        activity = (self.gpu_limit_w - idle_w) / (self.accelerator.need("tdp") - idle_w)
        server = server_w(self.system, gpus * self.gpu_limit_w, activity)
        return server * len(self.servers) + self.switches_w

    @property
    def idle_w(self) -> float:
        """Return the watts with every GPU and host idle."""
        gpus = self.system.gpus_per_server
        server = server_w(self.system, gpus * self.accelerator.need("idle"), 0.0)
        return server * len(self.servers) + self.switches_w


def server_w(system: System, gpu_w: float, activity: float) -> float:
    """Return the watts of one server at its inlet.

    gpu_w: of all its GPU boards. activity: 0 with idle GPUs, 1 with GPUs at their limit.
    """
    host_w = system.host_idle.value + activity * (system.host_load.value - system.host_idle.value)
    return (gpu_w + host_w) * (1.0 + system.fan_share.value) / system.psu_efficiency.value


class Watts(NamedTuple):
    """Site power by level, watts: GPU boards, servers at their inlets, IT, the meter."""

    gpu: float
    server: float
    it: float
    grid: float


class Site:
    """The racks behind one meter. pue: utility watts over IT watts."""

    def __init__(self, racks: Sequence[Rack], pue: float) -> None:
        self.racks, self.pue = tuple(racks), pue
        self.gpus = tuple(g for rack in racks for server in rack.servers for g in server.gpus)
        self._rack_of = [rack for rack in racks for server in rack.servers for _ in server.gpus]
        self._idle = Watts(
            sum(rack.accelerator.need("idle") for rack in self._rack_of),
            sum(rack.idle_w - rack.switches_w for rack in racks),
            sum(rack.idle_w for rack in racks),
            sum(rack.idle_w for rack in racks) * pue,
        )

    def idle(self) -> Watts:
        """Return the watts of the site at rest."""
        return self._idle

    def peak(self) -> Watts:
        """Return the watts with every GPU at its power limit."""
        gpu = sum(rack.gpu_limit_w for rack in self._rack_of)
        it = sum(rack.peak_w for rack in self.racks)
        server = it - sum(rack.switches_w for rack in self.racks)
        return Watts(gpu, server, it, it * self.pue)

    def nameplate_it_w(self) -> float:
        """Return the watts on the labels of all racks."""
        return sum(rack.nameplate_w for rack in self.racks)

    def gpu_limit_w(self, gpu: int) -> float:
        """Return the watts that a GPU's board may draw."""
        return self._rack_of[gpu].gpu_limit_w

    def server_watts_per_gpu_watt(self, gpu: int) -> float:
        """Return by how much its server's draw rises with each watt of this GPU above idle."""
        rack = self._rack_of[gpu]
        system, accelerator = rack.system, rack.accelerator
        span_w = accelerator.need("tdp") - accelerator.need("idle")
        host_w = (system.host_load.value - system.host_idle.value) / system.gpus_per_server
        return (
            (1.0 + host_w / span_w) * (1.0 + system.fan_share.value) / (system.psu_efficiency.value)
        )

    def above_idle(self, gpu_w: float, server_w: float) -> Watts:
        """Return the watts of the site when GPUs and servers draw so much more than at rest."""
        idle = self._idle
        it = idle.it + server_w
        return Watts(idle.gpu + gpu_w, idle.server + server_w, it, it * self.pue)
