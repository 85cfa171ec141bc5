"""Placing replicas on GPUs with names, and choosing those that stand for others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from factory_sim.errors import InputError, Problem
from factory_sim.factory.site import Gpu
from factory_sim.scenario.deployment import Deployment, Represented


def place(
    spec: Deployment, where: str, free: list[Gpu], each: int, domain: int, parts: int = 1
) -> tuple[tuple[Gpu, ...], ...]:
    """Take `each` free GPUs for every replica, all inside one scale-up domain of `domain` GPUs.

    A replica of more takes whole domains of one rack, neighbours where they are free. parts: of a
    GPU, each of which takes a replica.
    """
    wanted = spec.replicas
    if isinstance(wanted, Represented):
        wanted = wanted.represent
    placed: list[tuple[Gpu, ...]] = []
    for room in _rooms(free, each, domain) if parts == 1 else ([gpu] * parts for gpu in free):
        while len(room) >= each and (wanted == "fill" or len(placed) < wanted):
            gpus, room = tuple(room[:each]), room[each:]
            placed.append(gpus)
    if not placed or (wanted != "fill" and len(placed) < wanted):
        whole = "whole scale-up domains" if each <= domain else f"racks of {domain}-GPU domains"
        needed = each if wanted == "fill" else -(-wanted * each // parts)
        of = f"{each} GPUs" if parts == 1 else f"a GPU in {parts} parts each"
        raise InputError(
            Problem(
                f"{where}.replicas",
                (
                    f"a replica of {of} needs"
                    if wanted == "fill"
                    else f"{wanted} replicas of {of} need"
                )
                + f" {needed} GPUs in {whole}; "
                f"the free GPUs hold {len(placed)}"
                + ("" if each <= domain else " (a replica stands in one rack)"),
            )
        )
    taken = {gpu.index for gpus in placed for gpu in gpus}
    free[:] = [gpu for gpu in free if gpu.index not in taken]
    return tuple(placed)


def _rooms(free: list[Gpu], each: int, domain: int) -> Iterator[list[Gpu]]:
    """Yield the GPUs among which a replica may be placed: a domain, or whole ones of a rack."""
    domains = [list(members) for _, members in groupby(list(free), key=lambda gpu: gpu.domain)]
    if each <= domain:
        yield from domains
        return
    whole = [members for members in domains if len(members) == domain]
    for _, stood in groupby(whole, key=lambda members: members[0].rack):
        yield [gpu for members in stood for gpu in members]


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
