"""The meter: it reads power at every level, and the state of the floor, once a period."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from simpy import Environment

from factory_sim.factory.layout import Fleet
from factory_sim.factory.replica import Replica
from factory_sim.factory.site import Site, Watts
from factory_sim.scenario.signal import Signal

Drawn = tuple[float, float, float]
"""Busy seconds, joules of each GPU and output tokens of a replica, until now."""


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
        self._last_j = (0.0, 0.0)
        self._last_tokens = [(0.0, 0) for _ in lines]

    def above_idle_j(self) -> tuple[float, float]:
        """Return the joules above rest until now: of GPU boards, and of servers."""
        return self._above_idle_j([[r.drawn() for r in line.replicas] for line in self.lines])

    def _above_idle_j(self, drawn: list[list[Drawn]]) -> tuple[float, float]:
        gpu_j = server_j = 0.0
        for line, done, ratios in zip(self.lines, drawn, self._watts_per_gpu_watt, strict=True):
            idle_w = line.fleet.power.idle_w
            gpus = line.fleet.gpus_per_replica
            for (busy_s, energy_j, _), ratio in zip(done, ratios, strict=True):
                joules = gpus * (energy_j - idle_w * busy_s)
                gpu_j += joules
                server_j += ratio * joules
        return gpu_j, server_j

    def read(self) -> Reading:
        """Close the period: record its row and return its reading."""
        now = self.env.now
        seconds = now - self._last_s
        drawn = [[replica.drawn() for replica in line.replicas] for line in self.lines]
        gpu_j, server_j = self._above_idle_j(drawn)
        watts = self.site.above_idle(
            (gpu_j - self._last_j[0]) / seconds, (server_j - self._last_j[1]) / seconds
        )
        self._last_s, self._last_j = now, (gpu_j, server_j)
        limit_w = self.limit.at(now)
        replicas = [replica for line in self.lines for replica in line.replicas]
        floor = [self._floor(index, drawn[index], seconds) for index in range(len(self.lines))]
        site = floor[0]
        if len(floor) > 1:
            sums = [sum(column) for column in zip(*floor, strict=True)]
            sums[2] /= len(floor)
            site = tuple(sums)
        self.columns.extend(
            (
                now,
                watts.gpu / 1e6,
                watts.server / 1e6,
                watts.it / 1e6,
                watts.grid / 1e6,
                limit_w / 1e6,
                watts.grid / watts.it,
                sum([replica.clock for replica in replicas]) / len(replicas),
                *site,
                *(value for line in floor for value in line),
            )
        )
        fullest = max(
            [
                len(replica.batch.running) / line.fleet.max_num_seqs
                for line in self.lines
                for replica in line.replicas
            ]
        )
        return Reading(watts, limit_w, self.site.idle().grid, fullest)

    def close(self) -> None:
        """Record the last, shorter period, if there is one."""
        if self.env.now > self._last_s:
            self.read()

    def header(self) -> list[str]:
        """Return the names of the columns, in their order in a row."""
        own = [f"{line.fleet.name}.{name}" for line in self.lines for name in FLOOR]
        return [*SITE, *FLOOR, *own]

    def _floor(self, index: int, drawn: list[Drawn], seconds: float) -> tuple[float, ...]:
        batches = [replica.batch for replica in self.lines[index].replicas]
        blocks = sum([batch.kv.total for batch in batches])
        tokens = sum([tokens for _, _, tokens in drawn])
        prompts = sum([batch.input_tokens for batch in batches])
        before = self._last_tokens[index]
        self._last_tokens[index] = (tokens, prompts)
        return (
            float(sum([len(batch.waiting) for batch in batches])),
            float(sum([len(batch.running) for batch in batches])),
            1.0 - sum([batch.kv.free for batch in batches]) / blocks,
            (tokens - before[0]) / seconds,
            (prompts - before[1]) / seconds,
        )
