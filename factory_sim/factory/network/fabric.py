"""The fabric of a site: transfers between the GPUs of replicas, and from storage, by their ways."""

from __future__ import annotations

from collections.abc import Sequence

from factory_sim.factory.network.flows import Done, Flows, Port, Way
from factory_sim.factory.network.wiring import Wiring
from factory_sim.factory.timetable import CONTROL, Timetable


class Group:
    """All ports of one kind, as one: what they carry and could carry together."""

    def __init__(self, flows: Flows, name: str, ports: Sequence[Port]) -> None:
        self._flows, self.name, self.ports = flows, name, ports
        self.label = f"fabric/{name}"
        self.bytes_per_s = sum(port.bytes_per_s for port in ports)

    def by_port(self) -> list[float]:
        """Return the bytes that each port has carried until now."""
        self._flows.settle()
        return [port.carried_bytes for port in self.ports]

    def carried_bytes(self) -> float:
        """Return the bytes carried until now, counted at every port that they crossed."""
        return sum(self.by_port())


class Fabric:
    """Carries transfers, each arriving `latency_s` of the wiring after its last byte by NICs."""

    def __init__(self, env: Timetable, wiring: Wiring) -> None:
        self._env, self.wiring = env, wiring
        self._flows = Flows(env)
        self.groups = {
            name: Group(self._flows, name, ports) for name, ports in wiring.ports.items() if ports
        }

    def send(self, size: float, way: Way, landed: Done) -> int:
        """Send `size` bytes and return the transfer's number; call `landed` on arrival."""
        delay_s = self.wiring.delay_s(way)

        def sent() -> None:
            self._env.call(self._env.now + delay_s, CONTROL, lambda _: landed())

        return self._flows.send(size, way, sent if delay_s else landed)

    def part(self, size: float, way: Way, sent: Done) -> int:
        """Send bytes that more will follow; call `sent` when the last of them has left."""
        return self._flows.send(size, way, sent)

    def drop(self, number: int) -> None:
        """Give a transfer up. Once its last byte is sent, it still lands."""
        self._flows.drop(number)

    def set_storage_open(self, flowing: bool) -> None:
        """Let what comes from storage go on, or stand still."""
        assert self.wiring.storage is not None
        self._flows.set_open(self.wiring.storage, flowing)
