"""What can be said of a fabric before a run: what it carries, and what nothing would ever cross."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from factory_sim.catalog.entries import SCALEUP_LINKS
from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.fleet import ENCODE, PREFILL, Fleet, entrances
from factory_sim.factory.network.flows import Way
from factory_sim.factory.network.wiring import Wiring, seconds_per_byte
from factory_sim.scenario.scenario import Scenario

OF_NICS = ("nic", "nics", "servers_per_leaf", "latency")


def check_fabric(scenario: Scenario, sites: Sequence[tuple[Wiring, Sequence[Fleet]]]) -> None:
    """Raise InputError where a fabric is given something that nothing on its way would meet.

    sites: the ports and the pools of each; all have the fabric that the scenario describes.
    """
    spec = scenario.network.fabric if scenario.network else None
    if spec is None or spec.storage is not None:  # weights cross it all
        return
    by_nics = False
    for wiring, fleets in sites:
        for way in chain.from_iterable(_ways(wiring, fleets).values()):
            by_nics = by_nics or not wiring.stays_inside(way)
            if wiring.meets_spine(way):
                return
    problems = [
        Problem(
            f"network.fabric.{field}",
            "every transfer stays inside a scale-up domain; leave it out, or place the "
            "pools in domains of their own",
        )
        for field in OF_NICS
        if not by_nics and field in spec.model_fields_set
    ]
    if "oversubscription" in spec.model_fields_set:
        problems.append(
            Problem(
                "network.fabric.oversubscription",
                "no transfer crosses the spine: each finds its receiver on its own leaf; leave it "
                "out, or spread the pools over more leaves ('leaf: rack', or a smaller "
                "'servers_per_leaf')",
            )
        )
    if problems:
        raise InputError(problems)


def fabric_section(wiring: Wiring, fleets: Sequence[Fleet]) -> dict[str, str]:
    """Return what the ports carry, and at what pace things cross when they are alone."""
    rows = {
        WORDS[name]: f"{len(ports):,} of {ports[0].bytes_per_s / 1e9:,.2f} GB/s"
        for name, ports in wiring.ports.items()
        if ports
    }
    for what, ways in _ways(wiring, fleets).items():
        paces = [1e-9 / seconds_per_byte(way) for way in ways]
        low, high = min(paces), max(paces)
        rows[what] = (
            f"{low:,.2f} GB/s alone, from any replica to any"
            if high - low < 1e-9 * high
            else f"{low:,.2f} to {high:,.2f} GB/s alone, by where the two replicas are"
        )
    return rows


WORDS: dict[str, str] = {
    **{name: f"{title}, in and out" for name, title in SCALEUP_LINKS.items()},
    "nic": "NICs, in and out",
    "leaf": "leaves, up and down",
    "spine": "spine",
    "storage": "storage",
}


def _ways(wiring: Wiring, fleets: Sequence[Fleet]) -> dict[str, Iterator[Way]]:
    """Yield every way that something may take over the fabric, by what it is and whose."""
    known = {fleet.name: fleet for fleet in fleets}
    crossing: dict[str, tuple[Fleet, Fleet]] = {}
    for fleet in fleets:
        prefill = fleet.spec.prefill
        if prefill is not None and prefill.link is None:
            crossing[f"KV of {fleet.name}"] = known[fleet.name + PREFILL], fleet
    for name, entrance in entrances(fleets).items():
        encoder = entrance.spec.encoder
        if encoder is not None and encoder.named_link is None:
            crossing[f"images of {name}"] = known[name + ENCODE], entrance
    return {what: _between(wiring, *pools) for what, pools in crossing.items()}


def _between(wiring: Wiring, senders: Fleet, receivers: Fleet) -> Iterator[Way]:
    for sender in senders.replicas:
        for receiver in receivers.replicas:
            yield wiring.between(sender, receiver)
