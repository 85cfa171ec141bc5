"""A shard of a run: some of its pods, served by themselves for whoever minds the rest.

It builds these pods from the scenario as the whole factory does, deals the same requests and keeps
those of its own, and then does what it is told, at the times that it is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from factory_sim.factory.build import step_time_of
from factory_sim.factory.fleets.fleet import entrances
from factory_sim.factory.gateway import Counter, Gateway
from factory_sim.factory.hands import Call
from factory_sim.factory.kernel.desk import Desk
from factory_sim.factory.kernel.far import View
from factory_sim.factory.kernel.pods import compiled_pods
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.pools import StepTimes, speeds
from factory_sim.factory.seeds import pool_seeds
from factory_sim.factory.streams import open_streams
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.scenario.scenario import Scenario
from factory_sim.workload.stream import Block


class Shard:
    """Serves some pods of a scenario. mine: their numbers, by deployment. step_time: as of a run.

    Everybody who serves a shard of a run has to have the same catalogue and the same files.
    """

    def __init__(
        self, scenario: Scenario, mine: Mapping[str, range], step_time: StepTimes = step_time_of
    ) -> None:
        self._clock = _Clock()
        env = cast(Timetable, self._clock)
        fleets = fleets_of(lay_out_sites(scenario))
        gateways: dict[str, Gateway] = {name: _Others() for name in entrances(fleets)}
        self._ends: dict[tuple[str, int], _End] = {}
        for fleet, seed in zip(fleets, pool_seeds(scenario, len(fleets)), strict=True):
            here = mine.get(fleet.name)
            if here is not None:
                speed_at, gaps = speeds(fleet, step_time), GapHistogram()
                pods = compiled_pods(env, fleet, speed_at, gaps, seed, here=here)
                for number, pod in zip(here, pods.pods, strict=True):
                    self._ends[fleet.name, number] = _End(pod.desk)
                gateways[fleet.name] = pods
        open_streams(env, scenario, fleets, gateways, {}, set(), None)

    def converse(self, calls: Sequence[Call]) -> list[Any]:
        """Do what is called for, in order, and return what came of each."""
        found = []
        for deployment, pod, now_s, what, given in calls:
            self._clock.now = now_s
            found.append(getattr(self._ends[deployment, pod], what)(*given))
        return found


class _Clock:
    """Shows the time that whoever minds the run says it is."""

    now = 0.0


class _Others(Gateway):
    """Takes the requests that go to nobody here."""

    def __init__(self) -> None:
        """Nothing is kept."""

    def feed(self, stream: object, blocks: Iterator[Block]) -> bool:
        """Let a whole stream go by."""
        return True


class _End:
    """The true desk's end of the wire: what may be asked of it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.clock, self.do, self.open_to = desk.clock, desk.do, desk.open_to
        self.put_aside, self.loads, self.rests = desk.put_aside, desk.loads, desk.rests
        self.pieces = desk.pieces

    def view(self) -> View:
        """Return what the desk shows now."""
        at_once, record = self._desk.at_once(), self._desk.record()
        # The desk goes on with its own.
        own = at_once._replace(drawn=at_once.drawn.copy())
        return View(own, np.array([record])[0], self._desk.noted, self._desk.sent)

    def change(self, number: int, wanted: Mapping[str, int]) -> None:
        """Have a replica obey from its next step boundary on."""
        self._desk.change(number, **wanted)

    def every_replica(self) -> np.ndarray:
        """Return the records of all replicas."""
        return self._desk.every_replica().copy()

    def every_sum(self) -> list[list[float]]:
        """Return the sums of all replicas."""
        return [self._desk.sums(number) for number in range(len(self._desk.every_replica()))]

    def count_by(self, counter: Counter | None) -> None:
        """Keep no rows from now on but hand them over."""
        self._desk.counter = counter

    def counted(self) -> Counter | None:
        """Return who has counted the rows."""
        return self._desk.counter

    def forget_gaps(self) -> None:
        """Forget the gaps between tokens."""
        self._desk.gaps.clear()

    def gaps(self) -> GapHistogram:
        """Return the gaps between tokens."""
        return self._desk.gaps
