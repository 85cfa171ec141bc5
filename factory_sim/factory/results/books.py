"""The books of a site: who holds its GPUs, and the bill of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from factory_sim.economics.bill import Bill, Holder, bills, together
from factory_sim.factory.layout import Layout
from factory_sim.metrics.share import Share
from factory_sim.metrics.site import Window, seconds_within
from factory_sim.metrics.training import TrainingShare

IDLE = ""
"""The name of who holds what nobody holds."""


class Premise(NamedTuple):
    """One site: how it is laid out, what it did, and what ran there."""

    layout: Layout
    window: Window
    table: pd.DataFrame
    shares: Sequence[Share]
    jobs: Sequence[TrainingShare]


class Books(NamedTuple):
    """The bills of a site: of each deployment and each job by name, and of GPUs that nobody holds.

    embodied_kg: CO2e of equipment worn off, of all but jobs'; None where it is not known.
    """

    deployments: Mapping[str, Bill]
    jobs: Mapping[str, Bill]
    idle: Bill
    embodied_kg: float | None

    @property
    def serving(self) -> Bill:
        """Return the bill of the site without what training jobs hold."""
        return together([*self.deployments.values(), self.idle])


def books_of(premise: Premise) -> Books | None:
    """Return the books of a site for its window; None without costs."""
    terms, window = premise.layout.terms, premise.window
    if terms is None:
        return None
    holders = list(_holders(premise))
    peak_w = highest_mean_w(premise.table, window.start_s, window.end_s, terms.interval_s)
    found = bills(terms, holders, window.seconds, window.cost_usd or 0.0, peak_w)
    pools: dict[str, list[Bill]] = {}
    for share in premise.shares:
        pools.setdefault(share.deployment, []).append(found[share.name])
    jobs = {job.name: found[job.name] for job in premise.jobs}
    embodied = None
    if terms.embodied_kg:
        worn = window.seconds / terms.embodied_s
        kilograms = terms.embodied_kg
        embodied = worn * sum(
            many * kilograms[kind]
            for holder in holders
            if holder.name not in jobs
            for kind, many in holder.gpus.items()
        )
    return Books(
        {name: together(parts) for name, parts in pools.items()}, jobs, found[IDLE], embodied
    )


def everything(layout: Layout) -> Holder:
    """Return who would hold all GPUs of a site."""
    gpus = {name: float(many) for name, (many, _) in _racked(layout).items()}
    return Holder("", gpus, layout.provisioned_it_w, 0.0)


def _racked(layout: Layout) -> dict[str, tuple[int, float]]:
    """Return the GPUs of each accelerator, and the watts provisioned for one of them."""
    many: dict[str, int] = defaultdict(int)
    watts: dict[str, float] = defaultdict(float)
    for rack in layout.site.racks:
        many[rack.accelerator.name] += rack.gpus
        watts[rack.accelerator.name] += rack.nameplate_w
    provisioned = layout.provisioned_it_w / layout.site.nameplate_it_w()
    return {kind: (count, provisioned * watts[kind] / count) for kind, count in many.items()}


def _holders(premise: Premise) -> Iterator[Holder]:
    """Yield who holds GPUs of the site: pools, jobs, and nobody."""
    layout, boards_j = premise.layout, premise.window.parts_j["gpus"]
    racks, there = {rack.name: rack for rack in layout.site.racks}, _racked(layout)
    kinds = {f.name: racks[f.replicas[0][0].rack].accelerator.name for f in layout.fleets}
    held: dict[str, tuple[dict[str, float], float]] = {
        share.name: ({kinds[share.name]: share.gpus}, share.gpu_j) for share in premise.shares
    }
    jobs = {job.name: job for job in premise.jobs}
    for holding in layout.holdings:
        job, own = jobs[holding.name], dict.fromkeys(there, 0.0)
        for name, many in holding.gpus_in.items():
            own[racks[name].accelerator.name] += many
        held[job.name] = (own, job.gpus * job.totals.energy_j)
    free = {
        kind: many - sum(gpus.get(kind, 0.0) for gpus, _ in held.values())
        for kind, (many, _) in there.items()
    }
    rest_j = boards_j - sum(joules for _, joules in held.values())
    held[IDLE] = (free, rest_j if abs(rest_j) > 1e-9 * boards_j else 0.0)
    for name, (gpus, joules) in held.items():
        yield Holder(name, gpus, sum(many * there[k][1] for k, many in gpus.items()), joules)


def highest_mean_w(table: pd.DataFrame, start_s: float, end_s: float, interval_s: float) -> float:
    """Return the highest mean power at the meter of whole intervals from start_s on, watts.

    table: the time series of the site. Where not even one interval fits, the mean of all.
    """
    seconds = seconds_within(table, start_s, end_s)
    joules = np.concatenate([[0.0], np.cumsum(1e6 * table["grid_power_mw"].to_numpy() * seconds)])
    clock_s = np.concatenate([[0.0], np.cumsum(seconds)])
    whole = int(clock_s[-1] / interval_s * (1.0 + 1e-12))
    step_s = interval_s if whole else clock_s[-1]
    ends_s = step_s * np.arange(max(whole, 1) + 1)
    return float(np.diff(np.interp(ends_s, clock_s, joules)).max()) / step_s
