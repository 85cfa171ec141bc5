"""The meter: it reads power at every level, and the state of the floor, once a period."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from simpy import Environment

from factory_sim.factory.layout import Fleet
from factory_sim.factory.replica import Replica
from factory_sim.factory.site import Site, Watts
from factory_sim.scenario.signal import Signal


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

SITE = (
    "time_s",
    "gpu_power_mw",
    "server_power_mw",
    "it_power_mw",
    "grid_power_mw",
    "grid_limit_mw",
    "pue",
    "clock",
)


class Meter:
    """Reads the site. limit: the grid limit, a signal in watts."""

    def __init__(self, env: Environment, site: Site, limit: Signal, lines: list[Line]) -> None:
        self.env, self.site, self.limit, self.lines = env, site, limit, lines
        self.columns = array("d")
        self._watts_per_gpu_watt = [
            [site.server_watts_per_gpu_watt(replica.gpus[0]) for replica in line.replicas]
            for line in lines
        ]
        self._last_s = 0.0
        self._last_j = self.above_idle_j()
        self._last_tokens = [(0.0, 0) for _ in lines]

    def above_idle_j(self) -> tuple[float, float]:
        """Return the joules above rest until now: of GPU boards, and of servers."""
        gpu_j = server_j = 0.0
        for line, per_gpu_watt in zip(self.lines, self._watts_per_gpu_watt, strict=True):
            idle_w = line.fleet.power.idle_w
            for replica, ratio in zip(line.replicas, per_gpu_watt, strict=True):
                totals = replica.totals()
                joules = len(replica.gpus) * (totals.energy_j - idle_w * totals.busy_s)
                gpu_j += joules
                server_j += ratio * joules
        return gpu_j, server_j

    def read(self) -> Reading:
        """Close the period: record its row and return its reading."""
        now = self.env.now
        seconds = now - self._last_s
        gpu_j, server_j = self.above_idle_j()
        watts = self.site.above_idle(
            (gpu_j - self._last_j[0]) / seconds, (server_j - self._last_j[1]) / seconds
        )
        self._last_s, self._last_j = now, (gpu_j, server_j)
        limit_w = self.limit.at(now)
        clocks = [replica.clock for line in self.lines for replica in line.replicas]
        floor = [self._floor(index, seconds) for index in range(len(self.lines))]
        site = [sum(column) for column in zip(*floor, strict=True)]
        site[2] /= len(floor)
        self.columns.extend(
            (
                now,
                watts.gpu / 1e6,
                watts.server / 1e6,
                watts.it / 1e6,
                watts.grid / 1e6,
                limit_w / 1e6,
                watts.grid / watts.it,
                sum(clocks) / len(clocks),
                *site,
                *(value for line in floor for value in line),
            )
        )
        fullest = max(
            len(replica.batch.running) / line.fleet.max_num_seqs
            for line in self.lines
            for replica in line.replicas
        )
        return Reading(watts, limit_w, self.site.idle().grid, fullest)

    def header(self) -> list[str]:
        """Return the names of the columns, in their order in a row."""
        own = [f"{line.fleet.name}.{name}" for line in self.lines for name in FLOOR]
        return [*SITE, *FLOOR, *own]

    def _floor(self, index: int, seconds: float) -> tuple[float, ...]:
        line = self.lines[index]
        queue = running = blocks = used = 0
        tokens, prompts = 0.0, 0
        for replica in line.replicas:
            batch = replica.batch
            queue += len(batch.waiting)
            running += len(batch.running)
            blocks += batch.kv.total
            used += batch.kv.total - batch.kv.free
            tokens += replica.totals().output_tokens
            prompts += batch.input_tokens
        before = self._last_tokens[index]
        self._last_tokens[index] = (tokens, prompts)
        return (
            float(queue),
            float(running),
            used / blocks,
            (tokens - before[0]) / seconds,
            (prompts - before[1]) / seconds,
        )
