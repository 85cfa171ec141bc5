"""The bill: what each holder of a site's GPUs costs in a stretch of time, by component.

A bill is split as among people who share a house: rent by their rooms, power by their meters. Who
holds nothing pays nothing, and what nobody holds is on the bill too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory_sim.economics.terms import Terms
from factory_sim.scenario.money import COMPONENTS

Bill = Mapping[str, float]
"""USD by component; those that are not counted are absent."""


@dataclass(frozen=True)
class Holder:
    """Who holds GPUs of a site. gpus: by accelerator. it_w: provisioned for them. board_j: what
    their boards drew."""

    name: str
    gpus: Mapping[str, float]
    it_w: float
    board_j: float

    @property
    def many(self) -> float:
        """Return the GPUs of all kinds."""
        return sum(self.gpus.values())


def bills(
    terms: Terms,
    holders: Sequence[Holder],
    seconds: float,
    electricity_usd: float,
    peak_w: float,
) -> dict[str, Bill]:
    """Return the bill of each holder, by name; they sum to that of the site.

    electricity_usd: of the site's meter. peak_w: its highest mean of an interval. Both are split by
    the joules of boards; what has its price by the GPU by those, the rest by provisioned watts.
    """
    drawn_j = sum(holder.board_j for holder in holders)
    found: dict[str, Bill] = {}
    for holder in holders:
        share = holder.board_j / drawn_j if drawn_j else 1.0 / len(holders)  # in the dark
        price = sum(many * terms.equipment_usd.get(k, 0.0) for k, many in holder.gpus.items())
        rates = {
            "equipment": price * terms.equipment_per_s,
            "facility": holder.it_w * terms.facility,
            "colocation": holder.it_w * terms.colocation,
            "maintenance": price * terms.maintenance_per_s,
            "spares": price * terms.spares_per_s,
            "staff": holder.it_w * terms.staff,
            "demand": share * peak_w * terms.demand,
            "rent": sum(many * terms.rent.get(k, 0.0) for k, many in holder.gpus.items()),
        }
        paid = {name: rate * seconds for name, rate in rates.items()}
        paid["electricity"] = share * electricity_usd
        found[holder.name] = {name: paid[name] for name in COMPONENTS if name in terms.counted}
    return found


def together(parts: Iterable[Bill]) -> Bill:
    """Return the sum of some bills, by component."""
    found: dict[str, float] = {}
    for part in parts:
        for name, usd in part.items():
            found[name] = found.get(name, 0.0) + usd
    return {name: found[name] for name in COMPONENTS if name in found}


def share_of(bill: Bill, share: float) -> Bill:
    """Return a part of a bill."""
    return {name: share * usd for name, usd in bill.items()}


def total(bill: Bill) -> float:
    """Return the dollars of all components."""
    return sum(bill.values())
