"""A round of the floor: what each deployment has drawn so far, how much it has to do, how fast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import AtOnce, Gateway
from factory_sim.factory.replica import Replica
from factory_sim.factory.training.job import Job


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

    def add_above_rest_j(self, bay_j: list[float]) -> None:
        """Add what its replicas drew above rest until now to the joules of their bays."""
        together = self.gateway.at_once()
        if together is not None:
            _add(bay_j, self.above_rest_j(together, len(bay_j)))
            return
        gpus, idle_w = self.fleet.gpus_per_replica, self.fleet.power.idle_w
        for replica, bay in zip(self.replicas, self.bays, strict=True):
            busy_s, energy_j, _ = replica.drawn()
            bay_j[bay] += gpus * (energy_j - idle_w * busy_s)

    def above_rest_j(self, together: AtOnce, bays: int) -> list[float]:
        """Return the joules above rest that replicas show together, of each of so many bays."""
        fleet = self.fleet
        joules = together.drawn[:, 1] - fleet.power.idle_w * together.drawn[:, 0]
        found: list[float] = np.bincount(self.bays, fleet.gpus_per_replica * joules, bays).tolist()
        return found


class Round:
    """What a walk from line to line, and on to the training jobs, has shown so far.

    bay_j: joules above rest of each bay, of all; line_j: of each line, and of each job after them.
    floors: of each line requests waiting and running, free KV blocks, output and prompt tokens so
    far. works: of each job the joules of a GPU and its clock. fullest: running sequences over the
    most a replica may run, of the fullest.
    """

    def __init__(self, bays: int) -> None:
        self.bay_j = [0.0] * bays
        self.line_j: list[list[float]] = []
        self.floors: list[float] = []
        self.works: list[float] = []
        self.fullest = 0.0
        self._clocks, self._present = 0.0, 0

    @property
    def clock(self) -> float:
        """Return the mean clock of the replicas that are up; 1 where none is."""
        return self._clocks / self._present if self._present else 1.0

    def see_line(self, line: Line) -> None:
        """Look at the replicas of a deployment."""
        together = line.gateway.at_once()
        look = self._one_by_one(line) if together is None else self._at_once(line, together)
        waiting, running, free, made, prompts, most = look
        waiting += len(line.gateway.stranded)
        scale = line.fleet.scale
        self.floors += (scale * waiting, scale * running, free, scale * made, scale * prompts)
        self.fullest = max(self.fullest, most / line.fleet.slots)

    def _at_once(self, line: Line, together: AtOnce) -> tuple[int, int, int, float, int, int]:
        own_j = line.above_rest_j(together, len(self.bay_j))
        _add(self.bay_j, own_j)
        self.line_j.append(own_j)
        up = [not replica.absence.state for replica in line.replicas]
        self._clocks += float(together.clocks[up].sum())
        self._present += sum(up)
        made = float(together.drawn[:, 2].sum())
        waiting, running, most = together.waiting, together.running, together.fullest
        return waiting, running, together.free, made, together.input_tokens, most

    def _one_by_one(self, line: Line) -> tuple[int, int, int, float, int, int]:
        bay_j, own_j = self.bay_j, [0.0] * len(self.bay_j)
        self.line_j.append(own_j)
        gpus, idle_w = line.fleet.gpus_per_replica, line.fleet.power.idle_w
        waiting = running = free = prompts = most = 0
        made = 0.0
        for replica, bay in zip(line.replicas, line.bays, strict=True):
            busy_s, energy_j, tokens = replica.drawn()
            joules = gpus * (energy_j - idle_w * busy_s)
            bay_j[bay] += joules
            own_j[bay] += joules
            if not replica.absence.state:
                self._clocks += replica.clock
                self._present += 1
            batch = replica.batch
            here = len(batch.running)
            waiting += len(batch.waiting)
            running += here
            free += batch.kv.free
            made += tokens
            prompts += batch.input_tokens
            if here > most:
                most = here
        return waiting, running, free, made, prompts, most

    def see_job(self, job: Job) -> None:
        """Look at a training job."""
        totals = job.totals()
        own_j = [0.0] * len(self.bay_j)
        for bay, gpus in job.bays.items():
            own_j[bay] = gpus * totals.above_rest_j
        _add(self.bay_j, own_j)
        self.line_j.append(own_j)
        self.works += (totals.energy_j, job.clock)


def _add(sums: list[float], others: list[float]) -> None:
    for place, other in enumerate(others):
        sums[place] += other
