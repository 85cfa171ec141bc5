"""More or less of the same traffic."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import ceil
from typing import Any

from factory_sim.errors import InputError, Problem
from factory_sim.units import split


def at_load(given: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return a scenario's resolved data with `factor` times the requests a second.

    Rates and numbers of clients are multiplied; of a trace that many copies are superposed, of the
    last one a share.
    Raises InputError for a workload that has no rate.
    """
    found = copy.deepcopy(dict(given))
    for name, workload in found["workload"].items():
        arrivals = workload["arrivals"]
        _RAISE[arrivals["process"]](arrivals, factor, f"workload.{name}.arrivals")
        if arrivals.get("requests") is not None:
            arrivals["requests"] = max(1, round(arrivals["requests"] * factor))
    return found


def _times(quantity: str, factor: float) -> str:
    number, unit = split(quantity)
    return f"{number * factor!r} {unit}"


def _rate(arrivals: dict[str, Any], factor: float, _: str) -> None:
    arrivals["rate"] = _times(arrivals["rate"], factor)


def _rates(kind: str) -> Any:
    def raised(arrivals: dict[str, Any], factor: float, _: str) -> None:
        for part in arrivals[kind]:
            part["rate"] = _times(part["rate"], factor)

    return raised


def _clients(arrivals: dict[str, Any], factor: float, _: str) -> None:
    arrivals["concurrency"] = max(1, round(arrivals["concurrency"] * factor))


def _copies(arrivals: dict[str, Any], factor: float, _: str) -> None:
    wanted = arrivals.get("superpose", 1) * arrivals.get("thin", 1.0) * factor
    arrivals["superpose"] = copies = max(1, ceil(wanted - 1e-9))
    arrivals["thin"] = min(1.0, wanted / copies)


def _none(arrivals: dict[str, Any], factor: float, where: str) -> None:
    said = "a batch that is there at once has no rate to look for; give it a process with a rate"
    raise InputError(Problem(where, said))


_RAISE = {
    "constant": _rate,
    "poisson": _rate,
    "gamma": _rate,
    "mmpp": _rates("states"),
    "stages": _rates("stages"),
    "closed": _clients,
    "trace": _copies,
    "offline": _none,
}
