"""Wiring: the ports of a site's fabric, and the way that bytes take through them.

A GPU sends through its NIC to the leaf switch that this is plugged into, from there, unless the
receiver's NIC is on the same leaf, over the spine to another leaf, and down to the receiver's NIC.
GPUs of one scale-up domain send to each other by NVLink, or whatever joins them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from factory_sim.catalog import Catalog
from factory_sim.errors import InputError, Problem
from factory_sim.factory.network.flows import Port, Way
from factory_sim.factory.site import Gpu, Rack
from factory_sim.scenario.network import Fabric


class _Pair(NamedTuple):
    """The ports of one thing: from it, and to it."""

    out: Port
    into: Port


def _pair(name: str, bytes_per_s: float, words: tuple[str, str] = ("out", "in")) -> _Pair:
    return _Pair(Port(bytes_per_s, f"{name} {words[0]}"), Port(bytes_per_s, f"{name} {words[1]}"))


class _Nic(NamedTuple):
    ports: _Pair
    leaf: str


class Wiring:
    """The ports of a fabric over some racks. ports: by group, each direction one.

    Raises InputError for what the racks do not allow.
    """

    def __init__(self, spec: Fabric, racks: Sequence[Rack], facts: Catalog) -> None:
        kind = facts.fabric(spec.kind)
        self.latency_s = kind.latency.value if spec.latency is None else spec.latency
        tapering = spec.oversubscription or kind.oversubscription.value
        each = spec.servers_per_leaf or kind.servers_per_leaf.value
        self._nic_of: dict[int, _Nic] = {}
        self._inside: dict[int, _Pair] = {}  # of each GPU, into its scale-up domain
        joined: dict[str, list[Port]] = {}
        nics: list[_Nic] = []
        count = 0
        for rack in racks:
            nic_bytes_per_s = _nic_bytes_per_s(spec, rack)
            many = _nics(spec, rack)
            kind_of_link = rack.accelerator.scaleup_link
            inside_bytes_per_s = rack.accelerator.need("scaleup_bandwidth")
            for server in rack.servers:
                unit, count = count // each, count + 1
                here = [
                    _Nic(
                        _pair(f"{server.name}/nic-{rail}", nic_bytes_per_s),
                        f"{rack.name}/leaf" if spec.leaf == "rack" else f"leaf-{unit}-rail-{rail}",
                    )
                    for rail in range(many)
                ]
                nics += here
                for slot, gpu in enumerate(server.gpus):
                    self._nic_of[gpu.index] = here[slot * many // len(server.gpus)]
                    own = _pair(f"{gpu.name}/{kind_of_link}", inside_bytes_per_s)
                    self._inside[gpu.index] = own
                    joined.setdefault(kind_of_link, []).extend(own)
        below: dict[str, float] = {}
        for nic in nics:
            below[nic.leaf] = below.get(nic.leaf, 0.0) + nic.ports.out.bytes_per_s
        self._leaves = {
            name: _pair(name, carried / tapering, ("up", "down")) for name, carried in below.items()
        }
        self._spine = Port(sum(leaf.out.bytes_per_s for leaf in self._leaves.values()), "spine")
        self.storage = None if spec.storage is None else Port(spec.storage, "storage")
        self._nics = {port for nic in nics for port in nic.ports}
        self.ports: dict[str, list[Port]] = {
            **joined,
            "nic": [port for nic in nics for port in nic.ports],
            "leaf": [port for pair in self._leaves.values() for port in pair],
            "spine": [self._spine],
            "storage": [] if self.storage is None else [self.storage],
        }

    def between(self, senders: Sequence[Gpu], receivers: Sequence[Gpu]) -> Way:
        """Return the way of a KV cache from the GPUs of one replica to those of another.

        Each holds an equal part of it, in order, and sends each receiver what is of his part: with
        equal tensor parallelism the first sends to the first, and so on.
        """
        way: dict[Port, float] = {}
        for here, there, share in _parts(len(senders), len(receivers)):
            for port in self._hops(senders[here], receivers[there]):
                way[port] = way.get(port, 0.0) + share
        return tuple(way.items())

    def from_storage(self, receivers: Sequence[Gpu]) -> Way:
        """Return the way of weights, an equal part to each of these GPUs."""
        assert self.storage is not None
        way = {self.storage: 1.0, self._spine: 1.0}
        share = 1.0 / len(receivers)
        for gpu in receivers:
            nic = self._nic_of[gpu.index]
            for port in (self._leaves[nic.leaf].into, nic.ports.into):
                way[port] = way.get(port, 0.0) + share
        return tuple(way.items())

    def delay_s(self, way: Way) -> float:
        """Return how long after its last byte a transfer arrives: at once inside a domain."""
        return 0.0 if self.stays_inside(way) else self.latency_s

    def stays_inside(self, way: Way) -> bool:
        """Tell whether a way stays inside a scale-up domain."""
        return not any(port in self._nics for port, _ in way)

    def meets_spine(self, way: Way) -> bool:
        """Tell whether a way crosses the spine."""
        return any(port is self._spine for port, _ in way)

    def _hops(self, sender: Gpu, receiver: Gpu) -> Iterator[Port]:
        if sender.domain == receiver.domain:
            yield self._inside[sender.index].out
            yield self._inside[receiver.index].into
            return
        first, last = self._nic_of[sender.index], self._nic_of[receiver.index]
        yield first.ports.out
        if first.leaf != last.leaf:
            yield self._leaves[first.leaf].out
            yield self._spine
            yield self._leaves[last.leaf].into
        yield last.ports.into


def seconds_per_byte(way: Way) -> float:
    """Return what a byte takes with nobody else on its way."""
    return max(share / port.bytes_per_s for port, share in way)


def _parts(senders: int, receivers: int) -> Iterator[tuple[int, int, float]]:
    """Yield which part of a whole each sender has for each receiver.

    Both divide it into equal parts in order.
    """
    here = there = done = 0
    whole = senders * receivers
    while done < whole:
        end = min((here + 1) * receivers, (there + 1) * senders)
        yield here, there, (end - done) / whole
        here += end == (here + 1) * receivers
        there += end == (there + 1) * senders
        done = end


def _nic_bytes_per_s(spec: Fabric, rack: Rack) -> float:
    if spec.nic is not None:
        return spec.nic
    fact = rack.accelerator.scaleout_bandwidth
    if fact is None:
        raise InputError(
            Problem(
                "network.fabric.nic",
                f"the catalogue does not know the NIC of {rack.accelerator.name}; give what one "
                "sends, for example '400 Gbit/s'",
            )
        )
    return fact.value


def _nics(spec: Fabric, rack: Rack) -> int:
    gpus = rack.system.gpus_per_server
    if spec.nics is None:
        return gpus
    if gpus % spec.nics:
        raise InputError(
            Problem(
                "network.fabric.nics",
                f"a server of {rack.system.name} has {gpus} GPUs, which {spec.nics} NICs cannot "
                f"share evenly; give a number that divides {gpus}, and a faster 'nic' for more",
            )
        )
    return spec.nics
