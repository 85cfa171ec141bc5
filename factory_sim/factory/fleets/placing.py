"""Placing replicas on GPUs with names, and choosing those that stand for others."""

from __future__ import annotations

from itertools import groupby

from factory_sim.errors import InputError, Problem
from factory_sim.factory.site import Gpu
from factory_sim.scenario.deployment import Deployment, Represented


def place(spec: Deployment, where: str, free: list[Gpu], tp: int) -> tuple[tuple[Gpu, ...], ...]:
    """Take free GPUs for each replica, all of one replica inside one scale-up domain."""
    wanted = spec.replicas
    if isinstance(wanted, Represented):
        wanted = wanted.represent
    placed: list[tuple[Gpu, ...]] = []
    for _, members in groupby(list(free), key=lambda gpu: gpu.domain):
        domain = list(members)
        while len(domain) >= tp and (wanted == "fill" or len(placed) < wanted):
            gpus, domain = tuple(domain[:tp]), domain[tp:]
            placed.append(gpus)
    if not placed or (wanted != "fill" and len(placed) < wanted):
        raise InputError(
            Problem(
                f"{where}.replicas",
                f"{wanted} replicas of {tp} GPUs need {tp if wanted == 'fill' else wanted * tp} "
                f"GPUs in whole scale-up domains; the free GPUs hold {len(placed)}",
            )
        )
    taken = {gpu.index for gpus in placed for gpu in gpus}
    free[:] = [gpu for gpu in free if gpu.index not in taken]
    return tuple(placed)


def simulated(
    spec: Deployment, where: str, placed: tuple[tuple[Gpu, ...], ...]
) -> tuple[tuple[tuple[Gpu, ...], ...], dict[str, str]]:
    """Return the replicas that are simulated, and which rack stands for each of the others."""
    wanted = spec.replicas
    if not isinstance(wanted, Represented):
        return placed, {}
    by_rack: dict[str, list[tuple[Gpu, ...]]] = {}
    for gpus in placed:
        by_rack.setdefault(gpus[0].rack, []).append(gpus)
    each = len(next(iter(by_rack.values())))
    racks = list(by_rack)
    if any(len(held) != each for held in by_rack.values()):
        raise InputError(
            Problem(
                f"{where}.replicas.represent",
                f"{len(placed)} replicas do not fill whole racks of {each}; represent a multiple "
                f"of {each}, such as {len(placed) // each * each or each}",
            )
        )
    if wanted.simulate % each or wanted.simulate > len(placed):
        most = len(placed) // each * each
        raise InputError(
            Problem(
                f"{where}.replicas.simulate",
                f"{wanted.simulate} replicas are not whole racks of {each}; simulate a multiple of "
                f"{each} up to {most}",
            )
        )
    shown = racks[: wanted.simulate // each]
    like = {}
    if len(shown) < len(racks):
        like = {rack: shown[index % len(shown)] for index, rack in enumerate(racks)}
    return tuple(gpus for rack in shown for gpus in by_rack[rack]), like
