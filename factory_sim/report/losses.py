"""The factory view on the terminal: the losses of OEE, and Little's law at every station."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import duration, number, percent

Figures = Mapping[str, Any]

LOSSES = {
    "useful": "useful tokens",
    "slo_missed": "tokens too late",
    "not_completed": "tokens never completed",
    "lost_to_failures": "tokens lost to failures",
    "recomputed": "tokens computed again",
    "small_batches": "batches below the best",
    "host_overhead": "host overhead",
    "kv_full": "KV cache full",
    "power_throttled": "clocks lowered: power",
    "thermally_throttled": "clocks lowered: heat",
    "waiting_for_ranks": "waiting for ranks",
    "waiting_for_stages": "waiting for stages",
    "waiting_for_transfer": "waiting for transfers",
    "waiting_for_encoder": "waiting for encoders",
    "failures": "failures",
    "cold_starts": "cold starts",
    "no_demand": "no demand",
    "stopped": "stopped: not wanted",
}
"""Leaves of the tree, from useful work outwards."""

BRANCHES = {
    "quality": ("slo_missed", "not_completed", "lost_to_failures", "recomputed"),
    "performance": (
        "small_batches",
        "host_overhead",
        "kv_full",
        "power_throttled",
        "thermally_throttled",
        "waiting_for_ranks",
        "waiting_for_stages",
        "waiting_for_transfer",
        "waiting_for_encoder",
    ),
    "availability": ("failures", "cold_starts"),
    "without demand": ("no_demand", "stopped"),
}


def losses(summary: Figures) -> Iterator[Block]:
    """Yield OEE, and the share of every loss in all GPU time, by branch."""
    if "oee" not in summary:
        return
    oee = {key: percent(share) for key, share in summary["oee"].items()}
    yield Entry(
        "OEE",
        f"{oee['oee']} = availability {oee['availability']} x "
        f"performance {oee['performance']} x quality {oee['quality']}",
    )
    shares = summary.get("oee_losses", {})
    branch = {name: of for of, names in BRANCHES.items() for name in names}
    rows = [
        [LOSSES[name], percent(shares[name]), branch.get(name, "")]
        for name in LOSSES
        if name in shares
    ]
    if rows:
        yield Table(rows, left=(0, 2))


STATIONS = {
    "network": "on the network",
    "encode": "images encoded",
    "queue": "in the queue",
    "prefill": "prompt computed",
    "transfer": "KV cache on its way",
    "decode": "answer decoded",
}
"""Stations of a request, in the order of its way."""

POOLS = {"prefill_and_decode": "replicas", "transfer": "link"}


def stations(summary: Figures) -> Iterator[Block]:
    """Yield the board of stations, the beat of demand, and the station that sets the pace."""
    found = summary.get("stations", {})
    rows = [["", "WIP", "throughput", "cycle time"]]
    for name, label in STATIONS.items():
        if name in found:
            figures = found[name]
            cycle = figures.get("cycle_time_s")
            rows.append(
                [
                    label,
                    number(figures["wip"]),
                    f"{number(figures['throughput_per_s'])} /s",
                    "" if cycle is None else duration(cycle),
                ]
            )
    if found:
        yield Table(rows)
    if found and "takt_time_s" in summary:
        yield Entry("takt time", f"a request every {duration(summary['takt_time_s'])}")
    for name, part in summary.get("deployments", {}).items():
        loads = part.get("station_loads", {})
        if found and "bottleneck_station" in part:
            told = ", ".join(f"{POOLS.get(s, s)} {percent(loads[s])}" for s in loads)
            at = part["bottleneck_station"]
            slowest = f"; {POOLS.get(at, at)} set the pace" if len(loads) > 1 else ""
            yield Entry(f"load of {name}", f"{told} of the best{slowest}")
