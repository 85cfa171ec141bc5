"""What servers around their GPUs draw: hosts with the work, fans with the heat, supplies with both.

    inlet = (GPUs + host + fans + k) / eta
    fans  = fans at full heat * max(floor, heat / full heat)^3

Air to carry heat away grows with the heat, and a fan's watts with the cube of its air.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from factory_sim.physics.electrical import supplied_w


class ServerWatts(NamedTuple):
    """Watts by part: GPU boards, host, fans, what supplies lose, and their sum at the inlet."""

    gpu: float
    host: float
    fans: float
    supplies: float
    inlet: float


NOTHING = ServerWatts(0.0, 0.0, 0.0, 0.0, 0.0)
"""What no servers draw."""


@dataclass(frozen=True, slots=True)
class ServerModel:
    """A server, or many equal ones as one: all watts are of all of them.

    host_idle_w, host_load_w: CPUs, memory, NICs, drives, with GPUs idle and at their limit.
    gpu_idle_w, gpu_full_w: boards at rest and at their limit as sold. fan_share: fans over other
    heat with everything at its limit. fan_floor: the lowest speed of the fans. supply_constant_w,
    supply_efficiency: k and eta of the power supplies.
    """

    host_idle_w: float
    host_load_w: float
    gpu_idle_w: float
    gpu_full_w: float
    fan_share: float
    fan_floor: float
    supply_constant_w: float
    supply_efficiency: float

    def draw(self, gpu_w: float) -> ServerWatts:
        """Return the watts with boards that draw `gpu_w` together; nothing of no servers."""
        if not self.gpu_full_w:
            return NOTHING
        activity = (gpu_w - self.gpu_idle_w) / (self.gpu_full_w - self.gpu_idle_w)
        host_w = self.host_idle_w + activity * (self.host_load_w - self.host_idle_w)
        heat_w, full_w = gpu_w + host_w, self.gpu_full_w + self.host_load_w
        speed = max(self.fan_floor, heat_w / full_w)
        fans_w = self.fan_share * full_w * speed * speed * speed
        delivered_w = heat_w + fans_w
        inlet_w = supplied_w(delivered_w, self.supply_constant_w, self.supply_efficiency)
        return ServerWatts(gpu_w, host_w, fans_w, inlet_w - delivered_w, inlet_w)

    def times(self, count: float) -> ServerModel:
        """Return `count` such servers as one."""
        return ServerModel(
            self.host_idle_w * count,
            self.host_load_w * count,
            self.gpu_idle_w * count,
            self.gpu_full_w * count,
            self.fan_share,
            self.fan_floor,
            self.supply_constant_w * count,
            self.supply_efficiency,
        )
