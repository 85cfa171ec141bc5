"""The meter: it reads power at every level, and the state of the floor, once a period."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from simpy import Environment

from factory_sim.factory.fleet import Fleet
from factory_sim.factory.replica import Replica
from factory_sim.factory.site import Site, Watts
from factory_sim.scenario.signal import Signal

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """A deployment as the meter sees it: its fleet and its replicas."""

    fleet: Fleet
    replicas: list[Replica]


class Reading(NamedTuple):
    """What one period showed: mean watts by level, the limit now, and how full batches are.

    idle_grid_w: what the site would draw at rest. batch_share: running sequences over the
    most a replica may run, of the fullest replica.
    """

    watts: Watts
    limit_w: float
    idle_grid_w: float
    batch_share: float


FLOOR = (
    "queue_requests",
    "running_requests",
    "kv_use",
    "output_tokens_per_s",
    "prompt_tokens_per_s",
)
"""Columns of a deployment, and, summed (kv_use: averaged), of the site."""


class Meter:
    """Reads the site. limit: the grid limit, a signal in watts.

    A period is kept as the raw numbers of its end: time, joules above rest of GPUs and of
    servers, the limit and the mean clock; then, of each deployment, requests waiting and
    running, free KV blocks, output and prompt tokens so far. `table` makes columns of them.
    """

    def __init__(self, env: Environment, site: Site, limit: Signal, lines: list[Line]) -> None:
        self.env, self.site, self.limit, self.lines = env, site, limit, lines
        self._raw = bytearray()
        self._row = Struct(f"={5 + 5 * len(lines)}d")
        # Of each line: the most a replica may run, and of each of its replicas where to look:
        # itself, its batch and KV blocks, its GPUs, their watts at rest, and its servers' watts
        # per GPU watt.
        self._looks = [
            (
                line.fleet.max_num_seqs,
                [
                    (
                        replica,
                        replica.batch,
                        replica.batch.kv,
                        line.fleet.gpus_per_replica,
                        line.fleet.power.idle_w,
                        site.server_watts_per_gpu_watt(replica.gpus[0]),
                    )
                    for replica in line.replicas
                ],
            )
            for line in lines
        ]
        self._count = sum(len(line.replicas) for line in lines)
        self._last_s = self._last_gpu_j = self._last_server_j = 0.0

    def above_idle_j(self) -> tuple[float, float]:
        """Return the joules above rest until now: of GPU boards, and of servers."""
        gpu_j = server_j = 0.0
        for _, looks in self._looks:
            for replica, _, _, gpus, idle_w, ratio in looks:
                busy_s, energy_j, _ = replica.drawn()
                joules = gpus * (energy_j - idle_w * busy_s)
                gpu_j += joules
                server_j += ratio * joules
        return gpu_j, server_j

    def read(self) -> Reading:
        """Close the period: record its row and return its reading."""
        now = self.env.now
        gpu_j = server_j = clocks = fullest = 0.0
        floors: list[float] = []
        for slots, looks in self._looks:
            waiting = running = free = prompts = most = 0
            made = 0.0
            for replica, batch, kv, gpus, idle_w, ratio in looks:
                busy_s, energy_j, tokens = replica.drawn()
                joules = gpus * (energy_j - idle_w * busy_s)
                gpu_j += joules
                server_j += ratio * joules
                clocks += replica.clock
                here = len(batch.running)
                waiting += len(batch.waiting)
                running += here
                free += kv.free
                made += tokens
                prompts += batch.input_tokens
                if here > most:
                    most = here
            floors += (waiting, running, free, made, prompts)
            fullest = max(fullest, most / slots)
        limit_w, clock = self.limit.at(now), clocks / self._count
        self._raw += self._row.pack(now, gpu_j, server_j, limit_w, clock, *floors)
        seconds = now - self._last_s
        watts = self.site.above_idle(
            (gpu_j - self._last_gpu_j) / seconds, (server_j - self._last_server_j) / seconds
        )
        self._last_s, self._last_gpu_j, self._last_server_j = now, gpu_j, server_j
        return Reading(watts, limit_w, self.site.idle().grid, fullest)

    def close(self) -> None:
        """Record the last, shorter period, if there is one."""
        if self.env.now > self._last_s:
            self.read()

    def table(self) -> dict[str, Floats]:
        """Return the time series: one value a period in each column, means of the period."""
        raw = np.frombuffer(bytes(self._raw)).reshape(-1, 5 + 5 * len(self.lines))
        end_s, gpu_j, server_j, limit_w, clock = raw[:, :5].T
        seconds = np.diff(end_s, prepend=0.0)
        idle = self.site.idle()
        server_w = np.diff(server_j, prepend=0.0) / seconds
        it_w = idle.it + server_w
        columns = {
            "time_s": end_s,
            "gpu_power_mw": (idle.gpu + np.diff(gpu_j, prepend=0.0) / seconds) / 1e6,
            "server_power_mw": (idle.server + server_w) / 1e6,
            "it_power_mw": it_w / 1e6,
            "grid_power_mw": it_w * self.site.pue / 1e6,
            "grid_limit_mw": limit_w / 1e6,
            "pue": np.full(len(raw), self.site.pue),
            "clock": clock,
        }
        floors = [
            self._floor(line, raw[:, 5 + 5 * index : 10 + 5 * index], seconds)
            for index, line in enumerate(self.lines)
        ]
        for index, name in enumerate(FLOOR):
            total = np.sum([floor[index] for floor in floors], axis=0)
            columns[name] = total / len(floors) if name == "kv_use" else total
        for line, floor in zip(self.lines, floors, strict=True):
            own = zip(FLOOR, floor, strict=True)
            columns |= {f"{line.fleet.name}.{name}": column for name, column in own}
        return columns

    def _floor(self, line: Line, raw: Floats, seconds: Floats) -> list[Floats]:
        """Return the columns of a deployment, in the order of FLOOR."""
        waiting, running, free, tokens, prompts = raw.T
        blocks = sum(replica.batch.kv.total for replica in line.replicas)
        made = np.diff(tokens, prepend=0.0) / seconds
        served = np.diff(prompts, prepend=0.0) / seconds
        return [waiting, running, 1.0 - free / blocks, made, served]
