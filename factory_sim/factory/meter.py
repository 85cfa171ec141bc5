"""The meter: it reads power at every level, and the state of the floor, once a period."""

from __future__ import annotations

from array import array
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
        self._raw = array("d")
        self._replicas = [replica for line in lines for replica in line.replicas]
        # Of each replica: its GPUs, their watts at rest, and its servers' watts per GPU watt.
        self._gpus = [
            (
                line.fleet.gpus_per_replica,
                line.fleet.power.idle_w,
                site.server_watts_per_gpu_watt(replica.gpus[0]),
            )
            for line in lines
            for replica in line.replicas
        ]
        self._last_s = self._last_gpu_j = self._last_server_j = 0.0

    def above_idle_j(self) -> tuple[float, float]:
        """Return the joules above rest until now: of GPU boards, and of servers."""
        gpu_j, server_j, _ = self._sums()
        return gpu_j, server_j

    def read(self) -> Reading:
        """Close the period: record its row and return its reading."""
        now = self.env.now
        seconds = now - self._last_s
        gpu_j, server_j, tokens = self._sums()
        watts = self.site.above_idle(
            (gpu_j - self._last_gpu_j) / seconds, (server_j - self._last_server_j) / seconds
        )
        self._last_s, self._last_gpu_j, self._last_server_j = now, gpu_j, server_j
        limit_w = self.limit.at(now)
        clock = sum([replica.clock for replica in self._replicas]) / len(self._replicas)
        raw = self._raw
        raw.extend((now, gpu_j, server_j, limit_w, clock))
        fullest, done = 0.0, 0
        for line in self.lines:
            waiting = running = free = prompts = most = 0
            for replica in line.replicas:
                batch = replica.batch
                here = len(batch.running)
                waiting += len(batch.waiting)
                running += here
                free += batch.kv.free
                prompts += batch.input_tokens
                most = here if here > most else most
            made = sum(tokens[done : done + len(line.replicas)])
            done += len(line.replicas)
            raw.extend((waiting, running, free, made, prompts))
            fullest = max(fullest, most / line.fleet.max_num_seqs)
        return Reading(watts, limit_w, self.site.idle().grid, fullest)

    def close(self) -> None:
        """Record the last, shorter period, if there is one."""
        if self.env.now > self._last_s:
            self.read()

    def table(self) -> dict[str, Floats]:
        """Return the time series: one value a period in each column, means of the period."""
        raw = np.array(self._raw).reshape(-1, 5 + 5 * len(self.lines))
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

    def _sums(self) -> tuple[float, float, list[float]]:
        """Return joules above rest, of GPUs and servers, and each replica's tokens, until now."""
        gpu_j = server_j = 0.0
        tokens = []
        for replica, (gpus, idle_w, ratio) in zip(self._replicas, self._gpus, strict=True):
            busy_s, energy_j, made = replica.drawn()
            joules = gpus * (energy_j - idle_w * busy_s)
            gpu_j += joules
            server_j += ratio * joules
            tokens.append(made)
        return gpu_j, server_j, tokens
