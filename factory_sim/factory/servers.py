"""Servers that are switched off while nobody wants what runs on them, and boot when somebody does.

Like the floors of an office block: the last to leave puts the light out, the first to come waits
until the lift is on again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from factory_sim.factory.meter import Meter
from factory_sim.factory.timetable import Timetable


class Stand(NamedTuple):
    """What a replica stands on. servers: (bay, number) of each; boot_s: how long they take to come
    back; None where they stay on."""

    servers: frozenset[tuple[int, int]]
    boot_s: float | None


class Group:
    """Servers that are on or off together, because some replica stands on several of them.

    here: its replicas that are not gone. ready_s: when they have booted.
    """

    def __init__(self, stays_on: bool) -> None:
        self.stays_on = stays_on
        self.servers: set[tuple[int, int]] = set()
        self.here: set[int] = set()
        self.off = False
        self.ready_s = 0.0


class Servers:
    """Switches servers off and on. stands: of each replica of the site."""

    def __init__(self, env: Timetable, meter: Meter, stands: Sequence[Stand]) -> None:
        self._env, self._meter, self._stands = env, meter, stands
        self._off: Counter[int] = Counter()  # servers that are off, by bay
        self._groups: dict[int, Group] = {}
        if any(stand.boot_s is not None for stand in stands):
            self._groups = _groups(stands)

    def off(self, index: int) -> bool:
        """Tell whether the servers of a replica are off."""
        return index in self._groups and self._groups[index].off

    def leave(self, index: int) -> None:
        """A replica is gone: the last one to go switches off."""
        group = self._groups.get(index)
        if group is not None:
            group.here.discard(index)
            if not group.here and not group.stays_on:
                self._switch(group, True)

    def join(self, index: int) -> float:
        """A replica comes back: return when its servers have booted."""
        group = self._groups.get(index)
        if group is None:
            now: float = self._env.now
            return now
        group.here.add(index)
        if group.off:
            self._switch(group, False)
            group.ready_s = self._env.now + (self._stands[index].boot_s or 0.0)
        return group.ready_s

    def _switch(self, group: Group, off: bool) -> None:
        group.off = off
        self._meter.account()
        for bay, _ in group.servers:
            self._off[bay] += 1 if off else -1
        for bay in sorted({bay for bay, _ in group.servers}):
            self._meter.facility.set_servers_off(bay, self._off[bay])


def _groups(stands: Sequence[Stand]) -> dict[int, Group]:
    """Return the group of each replica: replicas that share a server are in one."""
    of_server: dict[tuple[int, int], Group] = {}
    found: dict[int, Group] = {}
    for index, stand in enumerate(stands):
        group = Group(stand.boot_s is None)
        for other in {
            id(of_server[s]): of_server[s] for s in stand.servers if s in of_server
        }.values():
            group.stays_on |= other.stays_on
            group.servers |= other.servers
            group.here |= other.here
        group.servers |= stand.servers
        group.here.add(index)
        of_server |= dict.fromkeys(group.servers, group)
        found |= dict.fromkeys(group.here, group)
    return found
