"""The logbook: a row of raw numbers each time the meter is read, and the columns they become."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from factory_sim.factory.facility.building import IT_PARTS, PARTS
from factory_sim.factory.facility.facility import Facility
from factory_sim.factory.replica import Replica
from factory_sim.factory.rounds import Line, Round
from factory_sim.factory.training.job import Job

Floats = NDArray[np.float64]


class Carrier(Protocol):
    """What carries bytes: a link, or one kind of ports of a fabric. label: heads its column."""

    @property
    def label(self) -> str: ...
    @property
    def bytes_per_s(self) -> float: ...
    def carried_bytes(self) -> float:
        """Return the bytes carried until now."""


FLOOR = (
    "queue_requests",
    "running_requests",
    "kv_use",
    "output_tokens_per_s",
    "prompt_tokens_per_s",
)
"""Columns of a deployment, and, summed (kv_use: averaged), of the site."""

SUMS = (*PARTS, "meter", "generation", "water")
"""What of the facility is recorded as a sum until now, and read as a mean of the period."""

STATES = (
    "grid_limit_w",
    "clock",
    "dry_bulb_c",
    "wet_bulb_c",
    "air_loop_c",
    "liquid_loop_c",
    "coolant_hottest_c",
    "gpu_hottest_c",
)
"""What is recorded as it was at the end of the period; the limit as its mean."""

CENSUS = ("replicas_up", "replicas_starting", "replicas_draining")
"""Columns of a deployment that is scaled: replicas that take requests, that are on their way to
it, and that still serve but take none, at the end of the period."""

WORKS = ("gpu_power_mw", "clock")
"""Columns of a training job: the mean of what its boards draw while it works or restarts, and its
clock at the end of the period."""


def census(replicas: Sequence[Replica]) -> tuple[int, int, int]:
    """Return how many of them are up, starting and draining."""
    up = starting = draining = 0
    for replica in replicas:
        state = replica.absence.state
        if not state:
            leaving = "draining" in replica.closed
            draining += leaving
            up += not leaving
        elif state in ("starting", "loading"):
            starting += 1
    return up, starting, draining


class Logbook:
    """Keeps a row for each period of a site.

    A row is the raw numbers of the period's end: time, SUMS and STATES; then, of each deployment,
    requests waiting and running, free KV blocks, output and prompt tokens so far; of each link, the
    bytes sent so far; of each deployment that is scaled, its CENSUS; of each job the joules of a
    GPU so far, and its clock.
    """

    def __init__(
        self,
        facility: Facility,
        lines: Sequence[Line],
        links: Sequence[Carrier],
        jobs: Sequence[Job],
    ) -> None:
        self._facility, self._lines, self._links, self._jobs = facility, lines, links, jobs
        self._scaled = [line for line in lines if line.fleet.spec.autoscaling is not None]
        parts = (
            1 + len(SUMS) + len(STATES),
            len(FLOOR) * len(lines),
            len(links),
            len(CENSUS) * len(self._scaled),
            len(WORKS) * len(jobs),
        )
        self._ends = np.cumsum(parts[:-1])
        self._row = Struct(f"={sum(parts)}d")
        self._raw = bytearray()

    def write(self, since_s: float, now: float, seen: Round) -> None:
        """Write the row of a period that ends now, with what was seen on the floor."""
        facility = self._facility
        self._raw += self._row.pack(
            now,
            *facility.joules,
            facility.meter_j,
            facility.generation_j,
            facility.air_water_kg + facility.liquid_water_kg,
            facility.limits[0].watts.mean_over(since_s, now),
            seen.clock,
            *facility.ambient,
            *facility.warmth.states(),
            *seen.floors,
            *[link.carried_bytes() for link in self._links],
            *[many for line in self._scaled for many in census(line.replicas)],
            *seen.works,
        )

    def columns(self) -> dict[str, Floats]:
        """Return the time series: one value a period in each column, means of the period."""
        raw = np.frombuffer(bytes(self._raw)).reshape(-1, self._row.size // 8)
        site, floors, sent, counted, worked = np.split(raw, self._ends, axis=1)
        seconds = np.diff(raw[:, 0], prepend=0.0)
        columns = self._site(site, seconds) | self._floors(floors, seconds)
        for link, carried in zip(self._links, sent.T, strict=True):
            use = np.diff(carried, prepend=0.0) / seconds / link.bytes_per_s
            columns[f"{link.label}.use"] = use
        names = [f"{line.fleet.name}.{name}" for line in self._scaled for name in CENSUS]
        columns |= dict(zip(names, counted.T, strict=True))
        for index, job in enumerate(self._jobs):
            joules, clock = worked[:, len(WORKS) * index : len(WORKS) * (index + 1)].T
            watts = np.diff(joules, prepend=0.0) / seconds
            values = (len(job.holding.gpus) * watts / 1e6, clock)
            own = zip(WORKS, values, strict=True)
            columns |= {f"{job.holding.name}.{name}": value for name, value in own}
        return columns

    def _site(self, raw: Floats, seconds: Floats) -> dict[str, Floats]:
        """Return the columns of power, water and weather."""
        end_s, sums, kept = raw[:, 0], raw[:, 1 : 1 + len(SUMS)], raw[:, 1 + len(SUMS) :]
        rates = np.diff(sums, axis=0, prepend=0.0) / seconds[:, None]
        means = dict(zip(SUMS, rates.T, strict=True))
        states = dict(zip(STATES, kept.T, strict=True))
        servers_w = sum(means[part] for part in PARTS[:4])
        it_w = sum(means[part] for part in PARTS[:IT_PARTS])
        load_w = it_w + sum(means[part] for part in PARTS[IT_PARTS:-1])

        def over_it(amount: Floats) -> Floats:
            found: Floats = np.full(len(raw), np.nan)
            np.divide(amount, it_w, out=found, where=it_w > 1.0)
            return found

        columns = {
            "time_s": end_s,
            "gpu_power_mw": means["gpus"] / 1e6,
            "server_power_mw": servers_w / 1e6,
            "it_power_mw": it_w / 1e6,
            "grid_power_mw": means["meter"] / 1e6,
            "grid_limit_mw": states["grid_limit_w"] / 1e6,
            "pue": over_it(load_w),
            "clock": states["clock"],
        }
        present = [part for part in (*PARTS[IT_PARTS:], "generation") if means[part].any()]
        columns |= {f"{part}_mw": means[part] / 1e6 for part in present}
        if means["water"].any():
            columns["water_l_per_s"] = means["water"]
            columns["wue_l_per_kwh"] = over_it(3.6e6 * means["water"])
        if self._facility.outdoors:
            # A loop that a site does not have is at zero.
            columns |= {name: states[name] for name in STATES[2:] if states[name].any()}
        return columns

    def _floors(self, raw: Floats, seconds: Floats) -> dict[str, Floats]:
        """Return the columns of FLOOR, of all deployments together and of each."""
        columns: dict[str, Floats] = {}
        parts = np.split(raw, len(self._lines), axis=1) if self._lines else []
        floors = [_floor(*each, seconds) for each in zip(self._lines, parts, strict=True)]
        for name in FLOOR if floors else ():
            total = np.sum([floor[name] for floor in floors if name in floor], axis=0)
            many = sum(name in floor for floor in floors)
            columns[name] = total / many if name == "kv_use" else total
        for line, floor in zip(self._lines, floors, strict=True):
            columns |= {f"{line.fleet.name}.{name}": column for name, column in floor.items()}
        return columns


def _floor(line: Line, raw: Floats, seconds: Floats) -> dict[str, Floats]:
    """Return the columns of a deployment: those of FLOOR that it has."""
    waiting, running, free, tokens, prompts = raw.T
    if line.fleet.encodes:
        return {"queue_requests": waiting, "running_requests": running}
    blocks = sum(replica.batch.kv.total for replica in line.replicas)
    made = np.diff(tokens, prepend=0.0) / seconds
    served = np.diff(prompts, prepend=0.0) / seconds
    columns = (waiting, running, 1.0 - free / blocks, made, served)
    return dict(zip(FLOOR, columns, strict=True))
