"""Power policies: how the site stays under its limit. One file each, one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.power.admit import Admit
from factory_sim.factory.power.clock import Clock
from factory_sim.factory.power.decode_first import DecodeFirst
from factory_sim.factory.power.park import Park
from factory_sim.factory.power.protocol import Policy
from factory_sim.factory.power.watch import Watch
from factory_sim.factory.training.holding import Holding
from factory_sim.scenario.site import Power

POLICIES: dict[str, Callable[[Power, list[Fleet], Sequence[Holding]], Policy]] = {
    "clock": Clock,
    "decode-first": DecodeFirst,
    "admit": Admit,
    "park": Park,
    "none": Watch,
}

__all__ = ["POLICIES", "Policy"]
