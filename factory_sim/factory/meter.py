"""The meter: it reads power at every level, and the state of the floor, once a period."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from simpy import Environment

from factory_sim.factory.facility.facility import BATTERY, Facility, Limit
from factory_sim.factory.logbook import Carrier, Floats, Logbook
from factory_sim.factory.rounds import Line, Round
from factory_sim.factory.training.job import Job

Allowed = Callable[[float], float]


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


class Meter:
    """Reads the site by its facility's books. allowance: the watts that the meter's limit allows,
    by time.
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
        self.env, self.facility, self.lines, self.jobs = env, facility, lines, jobs
        self._allowed = [allowance, *(limit.watts.at for limit in facility.limits[1:])]
        self._log = Logbook(facility, lines, links, jobs)
        self._bays = len(facility.building.bays)
        self.levels = [Level(limit) for limit in facility.limits]
        self._last_s = 0.0
        self._last_carried_j = list(facility.carried_j)
        self._last_battery_j = self._last_generation_j = 0.0
        self._last_line_j = [[0.0] * self._bays for _ in (*lines, *jobs)]

    def account(self) -> None:
        """Have the facility book everything until now."""
        bay_j = [0.0] * self._bays
        for line in self.lines:
            line.add_above_rest_j(bay_j)
        for job in self.jobs:
            joules = job.totals().above_rest_j
            for bay, gpus in job.bays.items():
                bay_j[bay] += gpus * joules
        self.facility.advance(self.env.now, bay_j)

    def read(self) -> list[Reading]:
        """Close the period: record its row and return a reading of each limited level."""
        now, seen, facility = self.env.now, Round(self._bays), self.facility
        for line in self.lines:
            seen.see_line(line)
        for job in self.jobs:
            seen.see_job(job)
        facility.advance(now, seen.bay_j)
        self._log.write(self._last_s, now, seen)
        seconds = now - self._last_s
        readings = self._readings(now, seen)
        for level, after_j, before_j in zip(
            self.levels, facility.carried_j, self._last_carried_j, strict=True
        ):
            limit_w = level.limit.watts.mean_over(now - seconds, now)
            level.note((after_j - before_j) / seconds, limit_w, seconds)
        self._last_s, self._last_carried_j = now, list(facility.carried_j)
        self._last_line_j = seen.line_j
        return readings

    def _readings(self, now: float, seen: Round) -> list[Reading]:
        facility, before_j = self.facility, self._last_line_j
        seconds, counts = now - self._last_s, facility.building.counts

        def boards_w(bays: tuple[int, ...]) -> list[float]:
            return [
                sum([counts[bay] * (after[bay] - before[bay]) for bay in bays]) / seconds
                for after, before in zip(seen.line_j, before_j, strict=True)
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
                seen.fullest,
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
        return self._log.columns()
