"""Pods whose desks are elsewhere, with the face of those that are here.

Everything that is done to such a desk is done to the true one by the same calls at the same times.
What is read of it is a view, which is as old as the last thing that was done to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import AtOnce, Counter
from factory_sim.factory.hands import Branch, Call
from factory_sim.factory.kernel.desk import Desk
from factory_sim.factory.kernel.gateway import CompiledGateway
from factory_sim.factory.kernel.pods import CompiledPods, gpus_of
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.workload.stream import Block


class View(NamedTuple):
    """What a desk shows. record: its own (dtype `DESK`); noted: how many requests had left; sent:
    how many had come, by stream."""

    at_once: AtOnce
    record: Any
    noted: int
    sent: list[int]


class FarDesk(Desk):
    """A desk that `branch` has, of the pod of a deployment with this number."""

    def __init__(self, env: Timetable, branch: Branch, deployment: str, pod: int) -> None:
        self._env, self.branch = env, branch
        self._where = (deployment, pod)
        self._clocks = {1.0: 0}
        self._view: View | None = None
        self._seen_s = -1.0
        self._more: dict[str, Any] = {}
        self._counter: Counter | None = None

    # -- how it is reached -------------------------------------------------------------

    def call(self, what: str, *given: Any) -> Call:
        """Return a call to the true desk, at this instant."""
        return (*self._where, float(self._env.now), what, given)

    @property
    def fresh(self) -> bool:
        """Tell whether the view is of now."""
        return bool(self._seen_s == self._env.now)

    def show(self, view: View) -> None:
        """Take a view of now."""
        self._view, self._seen_s = view, self._env.now
        self._more.clear()

    def look(self) -> View:
        """Return a view of now."""
        if not self.fresh:
            self.show(self._ask("view"))
        assert self._view is not None
        return self._view

    def _ask(self, what: str, *given: Any) -> Any:
        return self.branch.ask([self.call(what, *given)])()[0]

    def _order(self, what: str, *given: Any) -> None:
        self.branch.order(self.call(what, *given))
        self._seen_s = -1.0

    def _kept(self, what: str) -> Any:
        """Return the answer to a question, which stays the same while the view does."""
        self.look()
        if what not in self._more:
            self._more[what] = self._ask(what)
        return self._more[what]

    # -- what is done to it ------------------------------------------------------------

    def catch_up(self) -> None:
        """Nothing is to be done: who wants to know looks."""

    def clock(self, clock: float) -> int:
        """Return the number of a clock, a share of the reference clock."""
        if clock not in self._clocks:
            self._clocks[clock] = len(self._clocks)
            self.branch.order(self.call("clock", clock))
        return self._clocks[clock]

    def change(self, number: int, **wanted: int) -> None:
        """Have a replica obey from its next step boundary on."""
        self._order("change", number, wanted)

    def do(self, what: int, number: int = 0) -> int:
        """Do something else at this instant; return the kernel's answer."""
        self._seen_s = -1.0
        return int(self._ask("do", what, number))

    def open_to(self, numbers: list[int]) -> None:
        """Send requests to these replicas only, from now on."""
        self._order("open_to", numbers)

    def put_aside(self) -> None:
        """Keep the rows written so far, or hand them over."""
        self._order("put_aside")

    @property
    def counter(self) -> Counter | None:
        """Return who counts the rows."""
        return self._counter

    @counter.setter
    def counter(self, counter: Counter | None) -> None:
        self._counter = counter
        self.branch.order(self.call("count_by", counter))

    def bring(self) -> None:
        """Fetch what was counted there."""
        if self._counter is not None:
            self._counter.merge(self._ask("counted"))

    # -- what is seen of it ------------------------------------------------------------

    def record(self) -> Any:
        """Return the deployment's own record, as it is now."""
        return self.look().record

    def replica(self, number: int) -> Any:
        """Return the record of a replica, as it is now."""
        return self._kept("every_replica")[number]

    def sums(self, number: int) -> list[float]:
        """Return what `floor.sums` says of a replica."""
        found: list[float] = self._kept("every_sum")[number]
        return found

    def loads(self) -> list[int]:
        """Return the requests outstanding at each replica."""
        return cast(list[int], self._kept("loads"))

    def rests(self, number: int) -> bool:
        """Tell whether a replica has nothing to do."""
        return bool(self._ask("rests", number))

    def pieces(self) -> list[np.ndarray]:
        """Return the rows of the requests that have left (dtype `ROW`), in the order of leaving."""
        return cast(list[np.ndarray], self._ask("pieces"))

    @property
    def noted(self) -> int:
        """Return how many requests had left when somebody last looked."""
        return 0 if self._view is None else self._view.noted

    @property
    def sent(self) -> list[int]:
        """Return how many requests of each stream had come when somebody last looked."""
        return [] if self._view is None else self._view.sent

    def drawn(self) -> np.ndarray:
        """Return float64[replicas, 3]: busy seconds, joules of each GPU and tokens until now."""
        return self.look().at_once.drawn

    def at_once(self) -> AtOnce:
        """Return what all replicas show now."""
        return self.look().at_once


class FarGaps(GapHistogram):
    """Gaps that are counted at a desk elsewhere."""

    def __init__(self, desk: FarDesk) -> None:
        self._desk = desk
        super().__init__()

    def clear(self) -> None:
        """Forget everything, as at the end of a warm-up."""
        super().clear()
        self._desk.branch.order(self._desk.call("forget_gaps"))

    def gather(self) -> None:
        """Fetch what was counted there."""
        self.take(self._desk.branch.ask([self._desk.call("gaps")])()[0])


class FarPods(CompiledPods):
    """Pods that are served elsewhere, all branches at a time."""

    def feed(self, stream: object, blocks: Iterator[Block]) -> bool:
        """Note that a stream comes here: who serves the pods draws and deals it too."""
        self._fed.append((cast(Any, stream), []))
        return True

    def hand_over(self, least: int) -> None:
        """Hand over the rows of those who have left since the last time, if so many have."""
        self._advance()
        for pod in self.pods:
            pod.hand_over(least)

    def close(self) -> None:
        """Note the requests that are still here as unfinished, and fetch what was counted."""
        super().close()
        self.hand_over(1)
        for pod in self.pods:
            cast(FarDesk, pod.desk).bring()

    def _advance(self) -> None:
        by_branch: dict[Branch, list[FarDesk]] = {}
        for pod in self.pods:
            desk = cast(FarDesk, pod.desk)
            if not desk.fresh:
                by_branch.setdefault(desk.branch, []).append(desk)
        asked = [
            (desks, branch.ask([desk.call("view") for desk in desks]))
            for branch, desks in by_branch.items()
        ]
        for desks, wait in asked:
            for desk, view in zip(desks, wait(), strict=True):
                desk.show(view)

    def _note_sent(self) -> None:
        each = [cast(FarDesk, pod.desk).sent for pod in self.pods]
        for place, (whole, _) in enumerate(self._fed):
            whole.sent = sum(sent[place] for sent in each)


def far_pods(
    env: Timetable,
    fleet: Fleet,
    gaps: GapHistogram,
    seed: np.random.SeedSequence,
    branches: Mapping[range, Branch],
) -> FarPods:
    """Return the pods of a fleet, which branches serve. seed: of who is dealt whom."""
    sizes = fleet.pods
    starts = np.cumsum((0, *sizes)).tolist()
    pods = []
    for pod, branch in _in_order(branches):
        desk = FarDesk(env, branch, fleet.name, pod)
        gaps.share(FarGaps(desk))
        gpus = gpus_of(fleet, starts[pod], sizes[pod])
        pods.append(CompiledGateway(env, desk, gpus, starts[pod]))
    return FarPods(env, pods, sizes, seed, 1, gaps)


def _in_order(branches: Mapping[range, Branch]) -> Sequence[tuple[int, Branch]]:
    return sorted((pod, branch) for pods, branch in branches.items() for pod in pods)
