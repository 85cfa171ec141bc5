"""The meter: it reads power at every level, and the state of the floor, once a period."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from simpy import Environment

from factory_sim.factory.facility.building import IT_PARTS, PARTS
from factory_sim.factory.facility.facility import BATTERY, Facility, Limit
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import AtOnce, Gateway
from factory_sim.factory.replica import Replica
from factory_sim.factory.training.job import Job

Floats = NDArray[np.float64]
Allowed = Callable[[float], float]


class Line(NamedTuple):
    """A deployment as the meter sees it: its fleet, its gateway with its replicas, and the bay
    that each of these stands in."""

    fleet: Fleet
    gateway: Gateway
    bays: list[int]

    @property
    def replicas(self) -> list[Replica]:
        """Return its replicas."""
        return self.gateway.replicas


class Carrier(Protocol):
    """What carries bytes: a link, or one kind of ports of a fabric. label: heads its column."""

    @property
    def label(self) -> str: ...
    @property
    def bytes_per_s(self) -> float: ...
    def carried_bytes(self) -> float:
        """Return the bytes carried until now."""


class Reading(NamedTuple):
    """What one period showed at a limited level.

    watts: the mean, whatever a battery took or gave; rest_w: what it would be with idle GPUs;
    limit_w: allowed at the end, what a battery can give included. clocks: of each line, the means
    of its replicas behind this level, in decode steps and in those with prompts; boards_w: what
    these drew above rest; prompt_shares: how much of the line's energy so far went into steps with
    prompts. After the lines each training job, which has one clock; all it does is arithmetic, as
    prompts are. batch_share: running sequences over the most a replica may run, of the fullest.
    """

    watts: float
    rest_w: float
    limit_w: float
    clocks: Callable[[], list[tuple[float, float]]]
    boards_w: Callable[[], list[float]]
    prompt_shares: Callable[[], list[float]]
    batch_share: float

    def dynamic_w(self) -> list[float]:
        """Return of each line what its GPUs drew above rest, with what that takes on the way."""
        boards_w = self.boards_w()
        all_w = sum(boards_w)
        gain = (self.watts - self.rest_w) / all_w if all_w > 0.0 else 0.0
        return [gain * watts for watts in boards_w]


class Level:
    """What a limited level went through: its highest mean of a period, and how far over its limit.

    held_s: how long a policy held something back for its sake.
    """

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.highest_w = self.over_s = self.over_w = self.over_j = self.held_s = 0.0

    def note(self, watts: float, limit_w: float, seconds: float) -> None:
        """Note the mean of a period."""
        if watts > self.highest_w:
            self.highest_w = watts
        over_w = watts - limit_w
        if over_w > 1e-9 * limit_w:
            self.over_s += seconds
            self.over_j += over_w * seconds
            self.over_w = max(self.over_w, over_w)


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


def _add(sums: list[float], others: list[float]) -> None:
    for place, other in enumerate(others):
        sums[place] += other


class Meter:
    """Reads the site by its facility's books. allowance: the watts that the meter's limit allows,
    by time.

    A period is kept as the raw numbers of its end: time, SUMS and STATES; then, of each
    deployment, requests waiting and running, free KV blocks, output and prompt tokens so far; of
    each link, the bytes sent so far; of each deployment that is scaled, its CENSUS. `table` makes
    columns of them.
    """

    def __init__(
        self,
        env: Environment,
        facility: Facility,
        lines: list[Line],
        allowance: Allowed,
        links: Sequence[Carrier] = (),
        jobs: Sequence[Job] = (),
    ) -> None:
        self.env, self.facility, self.lines, self.links = env, facility, lines, links
        self.jobs = jobs
        self._allowed = [allowance, *(limit.watts.at for limit in facility.limits[1:])]
        self._raw = bytearray()
        self._head = 1 + len(SUMS) + len(STATES)
        self._scaled = [line for line in lines if line.fleet.spec.autoscaling is not None]
        width = self._head + len(FLOOR) * len(lines) + len(links)
        width += len(CENSUS) * len(self._scaled)
        self._row = Struct(f"={width + len(WORKS) * len(jobs)}d")
        # Of each line: the most a replica may run, for how many each stands, and of each of its
        # replicas where to look: itself, its GPUs, their watts at rest, and its bay.
        self._looks = [
            (
                line.fleet.slots,
                line.fleet.scale,
                [
                    (replica, line.fleet.gpus_per_replica, line.fleet.power.idle_w, bay)
                    for replica, bay in zip(line.replicas, line.bays, strict=True)
                ],
            )
            for line in lines
        ]
        self._bay_j = [0.0] * len(facility.building.bays)
        self.levels = [Level(limit) for limit in facility.limits]
        self._last_s = 0.0
        self._last_carried_j = list(facility.carried_j)
        self._last_battery_j = self._last_generation_j = 0.0
        self._last_line_j = [[0.0] * len(self._bay_j) for _ in (*lines, *jobs)]

    def account(self) -> None:
        """Have the facility book everything until now."""
        bay_j = [0.0] * len(self._bay_j)
        for (_, _, looks), line in zip(self._looks, self.lines, strict=True):
            together = line.gateway.at_once()
            if together is not None:
                _add(bay_j, self._above_rest_j(line, together))
                continue
            for replica, gpus, idle_w, bay in looks:
                busy_s, energy_j, _ = replica.drawn()
                bay_j[bay] += gpus * (energy_j - idle_w * busy_s)
        for job in self.jobs:
            joules = job.totals().above_rest_j
            for bay, gpus in job.bays.items():
                bay_j[bay] += gpus * joules
        self.facility.advance(self.env.now, bay_j)

    def read(self) -> list[Reading]:
        """Close the period: record its row and return a reading of each limited level."""
        now = self.env.now
        bay_j = [0.0] * len(self._bay_j)
        line_j: list[list[float]] = []
        several = len(self.lines) + len(self.jobs) > 1
        clocks = fullest = 0.0
        present = 0
        floors: list[float] = []
        for (slots, scale, looks), line in zip(self._looks, self.lines, strict=True):
            gateway = line.gateway
            waiting = running = free = prompts = most = 0
            made = 0.0
            # A line alone is all there is: one list for both.
            own_j = [0.0] * len(bay_j) if several else bay_j
            together = gateway.at_once()
            if together is not None:
                own_j = self._above_rest_j(line, together)
                _add(bay_j, own_j)
                here_now = [not replica.absence.state for replica in gateway.replicas]
                clocks += float(together.clocks[here_now].sum())
                present += sum(here_now)
                waiting, running, most = together.waiting, together.running, together.fullest
                free, prompts = together.free, together.input_tokens
                made, looks = float(together.drawn[:, 2].sum()), []
            for replica, gpus, idle_w, bay in looks:
                busy_s, energy_j, tokens = replica.drawn()
                joules = gpus * (energy_j - idle_w * busy_s)
                bay_j[bay] += joules
                if several:
                    own_j[bay] += joules
                if not replica.absence.state:
                    clocks += replica.clock
                    present += 1
                batch = replica.batch
                here = len(batch.running)
                waiting += len(batch.waiting)
                running += here
                free += batch.kv.free
                made += tokens
                prompts += batch.input_tokens
                if here > most:
                    most = here
            line_j.append(own_j)
            waiting += len(gateway.stranded)
            floors += (scale * waiting, scale * running, free, scale * made, scale * prompts)
            fullest = max(fullest, most / slots)
        works: list[float] = []
        for job in self.jobs:
            totals = job.totals()
            own_j = [0.0] * len(bay_j)
            for bay, gpus in job.bays.items():
                own_j[bay] = gpus * totals.above_rest_j
                bay_j[bay] += own_j[bay]
            line_j.append(own_j)
            works += (totals.energy_j, job.clock)
        facility = self.facility
        facility.advance(now, bay_j)
        self._raw += self._row.pack(
            now,
            *facility.joules,
            facility.meter_j,
            facility.generation_j,
            facility.air_water_kg + facility.liquid_water_kg,
            facility.limits[0].watts.mean_over(self._last_s, now),
            clocks / present if present else 1.0,
            *facility.ambient,
            *facility.warmth.states(),
            *floors,
            *[link.carried_bytes() for link in self.links],
            *[many for line in self._scaled for many in census(line.replicas)],
            *works,
        )
        seconds = now - self._last_s
        readings = self._readings(now, line_j, fullest)
        for level, after_j, before_j in zip(
            self.levels, facility.carried_j, self._last_carried_j, strict=True
        ):
            limit_w = level.limit.watts.mean_over(now - seconds, now)
            level.note((after_j - before_j) / seconds, limit_w, seconds)
        self._last_s, self._last_carried_j = now, list(facility.carried_j)
        self._last_line_j = line_j
        return readings

    def _above_rest_j(self, line: Line, together: AtOnce) -> list[float]:
        """Return the joules above rest of a line's replicas, by bay."""
        fleet = line.fleet
        joules = together.drawn[:, 1] - fleet.power.idle_w * together.drawn[:, 0]
        many = len(self._bay_j)
        by_bay = np.bincount(line.bays, fleet.gpus_per_replica * joules, many)
        found: list[float] = by_bay.tolist()
        return found

    def _readings(self, now: float, line_j: list[list[float]], fullest: float) -> list[Reading]:
        facility, before_j = self.facility, self._last_line_j
        seconds, counts = now - self._last_s, facility.building.counts

        def boards_w(bays: tuple[int, ...]) -> list[float]:
            return [
                sum([counts[bay] * (after[bay] - before[bay]) for bay in bays]) / seconds
                for after, before in zip(line_j, before_j, strict=True)
            ]

        # What a battery takes it would leave, and what it gives is counted with the limit.
        battery_w = (facility.joules[BATTERY] - self._last_battery_j) / seconds
        self._last_battery_j = facility.joules[BATTERY]
        # Own generation relieves the meter, whatever GPUs do.
        generated_w = (facility.generation_j - self._last_generation_j) / seconds
        self._last_generation_j = facility.generation_j
        first = facility.limits[0]
        return [
            Reading(
                (after_j - before_j) / seconds - (battery_w if limit is first else 0.0),
                rest_w - (generated_w if limit is first else 0.0),
                allowed(now),
                partial(self._clocks, limit.bays),
                partial(boards_w, limit.bays),
                self._prompt_shares,
                fullest,
            )
            for limit, allowed, after_j, before_j, rest_w in zip(
                facility.limits,
                self._allowed,
                facility.carried_j,
                self._last_carried_j,
                facility.rest_w,
                strict=True,
            )
        ]

    def _clocks(self, bays: tuple[int, ...]) -> list[tuple[float, float]]:
        """Return, of each line, the mean clocks of its replicas in some bays that are up."""
        found, behind = [], frozenset(bays)
        for line in self.lines:
            pairs = enumerate(zip(line.replicas, line.bays, strict=True))
            here = [n for n, (r, bay) in pairs if bay in behind and not r.absence.state]
            together = line.gateway.at_once()
            if together is None:
                decode = [line.replicas[n].clock for n in here]
                prompts = [line.replicas[n].prompt_clock for n in here]
            else:
                decode = together.clocks[here].tolist()
                prompts = together.prompt_clocks[here].tolist()
            many = len(here)
            found.append((sum(decode) / many, sum(prompts) / many) if here else (1.0, 1.0))
        return found + [(job.clock, job.clock) for job in self.jobs]

    def _prompt_shares(self) -> list[float]:
        """Return, of each line, the share of its energy so far in steps with prompts."""
        found = []
        for line in self.lines:
            ledgers = [replica.batch.ledger for replica in line.replicas]
            spent_j = sum(ledger.energy_j for ledger in ledgers)
            found.append(sum(ledger.prefill_j for ledger in ledgers) / spent_j if spent_j else 0.0)
        return found + [1.0] * len(self.jobs)

    def close(self) -> None:
        """Record the last, shorter period, if there is one."""
        if self.env.now > self._last_s:
            self.read()

    def table(self) -> dict[str, Floats]:
        """Return the time series: one value a period in each column, means of the period."""
        width = self._row.size // 8
        raw = np.frombuffer(bytes(self._raw)).reshape(-1, width)
        end_s = raw[:, 0]
        seconds = np.diff(end_s, prepend=0.0)
        sums = raw[:, 1 : 1 + len(SUMS)]
        means = dict(
            zip(SUMS, (np.diff(sums, axis=0, prepend=0.0) / seconds[:, None]).T, strict=True)
        )
        states = dict(zip(STATES, raw[:, 1 + len(SUMS) : self._head].T, strict=True))
        servers_w = sum(means[part] for part in PARTS[:4])
        it_w = sum(means[part] for part in PARTS[:IT_PARTS])
        load_w = it_w + sum(means[part] for part in PARTS[IT_PARTS:-1])
        columns = {
            "time_s": end_s,
            "gpu_power_mw": means["gpus"] / 1e6,
            "server_power_mw": servers_w / 1e6,
            "it_power_mw": it_w / 1e6,
            "grid_power_mw": means["meter"] / 1e6,
            "grid_limit_mw": states["grid_limit_w"] / 1e6,
            "pue": np.divide(load_w, it_w, out=np.full(len(raw), np.nan), where=it_w > 1.0),
            "clock": states["clock"],
        }
        present = [part for part in (*PARTS[IT_PARTS:], "generation") if means[part].any()]
        columns |= {f"{part}_mw": means[part] / 1e6 for part in present}
        if means["water"].any():
            columns["water_l_per_s"] = water = means["water"]
            drunk = np.full(len(raw), np.nan)
            columns["wue_l_per_kwh"] = np.divide(3.6e6 * water, it_w, out=drunk, where=it_w > 1.0)
        if self.facility.outdoors:
            # A loop that a site does not have is at zero.
            columns |= {name: states[name] for name in STATES[2:] if states[name].any()}
        floors = [
            self._floor(line, raw[:, self._head + 5 * index : self._head + 5 * index + 5], seconds)
            for index, line in enumerate(self.lines)
        ]
        for name in FLOOR if floors else ():
            total = np.sum([floor[name] for floor in floors if name in floor], axis=0)
            many = sum(name in floor for floor in floors)
            columns[name] = total / many if name == "kv_use" else total
        for line, floor in zip(self.lines, floors, strict=True):
            columns |= {f"{line.fleet.name}.{name}": column for name, column in floor.items()}
        after = self._head + len(FLOOR) * len(self.lines)
        counts = len(CENSUS) * len(self._scaled)
        ends = [len(self.links), len(self.links) + counts]
        sent, counted, worked = np.split(raw[:, after:], ends, axis=1)
        for link, carried in zip(self.links, sent.T, strict=True):
            use = np.diff(carried, prepend=0.0) / seconds / link.bytes_per_s
            columns[f"{link.label}.use"] = use
        names = [f"{line.fleet.name}.{name}" for line in self._scaled for name in CENSUS]
        columns |= dict(zip(names, counted.T, strict=True))
        for index, job in enumerate(self.jobs):
            joules, clock = worked[:, len(WORKS) * index : len(WORKS) * (index + 1)].T
            watts = np.diff(joules, prepend=0.0) / seconds
            values = (len(job.holding.gpus) * watts / 1e6, clock)
            own = zip(WORKS, values, strict=True)
            columns |= {f"{job.holding.name}.{name}": value for name, value in own}
        return columns

    def _floor(self, line: Line, raw: Floats, seconds: Floats) -> dict[str, Floats]:
        """Return the columns of a deployment: those of FLOOR that it has."""
        waiting, running, free, tokens, prompts = raw.T
        blocks = sum(replica.batch.kv.total for replica in line.replicas)
        made = np.diff(tokens, prepend=0.0) / seconds
        served = np.diff(prompts, prepend=0.0) / seconds
        if line.fleet.encodes:
            return {"queue_requests": waiting, "running_requests": running}
        columns = (waiting, running, 1.0 - free / blocks, made, served)
        return dict(zip(FLOOR, columns, strict=True))
