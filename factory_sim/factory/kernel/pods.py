"""Pods that the kernel serves: each by itself, and as many at a time as there are workers."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from copy import copy
from functools import partial
from threading import Lock
from typing import cast

import numpy as np

from factory_sim.factory.clients import Stream
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import AtOnce
from factory_sim.factory.kernel.desk import Desk
from factory_sim.factory.kernel.gateway import AT_A_TIME, CompiledGateway, arrivals
from factory_sim.factory.pods import Deal, Pods
from factory_sim.factory.replica import Speed
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.workload.stream import Block

ENOUGH = 262_144
"""Requests that are dealt at a time, and that lie in hands before anybody asks for them."""

SWITCH_S = 1e-4
"""How long a worker may keep Python's lock when another wants it; usually 5 ms."""


class CompiledPods(Pods):
    """Pods that do nothing to each other between two looks at them, so that threads serve them.

    The kernel runs without Python's lock. Whoever works on which pod, and when, changes nothing:
    each has its own arrays, its own random words, and its own hand of every stream.

    sizes: of all pods of the deployment. gaps: shared by them. first: the number of the first that
    is here, where others are elsewhere.
    """

    pods: Sequence[CompiledGateway]
    at_a_time = AT_A_TIME

    def __init__(
        self,
        env: Timetable,
        pods: Sequence[CompiledGateway],
        sizes: Sequence[int],
        seed: np.random.SeedSequence,
        workers: int,
        gaps: GapHistogram,
        first: int = 0,
    ) -> None:
        super().__init__(env, pods, sizes, seed)
        self._gaps, self._first = gaps, first
        self._others = min(workers, len(pods)) - 1  # beside the thread that minds the run
        self._crew = ThreadPoolExecutor(self._others) if self._others else None
        self._fed: list[tuple[Stream, list[Stream]]] = []
        self._dealers: list[Dealer] = []

    def feed(self, stream: object, blocks: Iterator[Block]) -> bool:
        """Deal the requests of a stream to the pods."""
        whole = cast(Stream, stream)
        here = range(self._first, self._first + len(self.pods))
        dealer = Dealer(arrivals(blocks, whole), self._deal, whole.number, here)
        parts = [copy(whole) for _ in self.pods]
        for number, pod, part in zip(here, self.pods, parts, strict=True):
            pod.desk.feed(part, dealer.hand(number))
        self._fed.append((whole, parts))
        self._dealers.append(dealer)
        return True

    def at_once(self) -> AtOnce:
        """Return what all replicas show now."""
        self._advance()
        each = [pod.at_once() for pod in self.pods]
        self._note_sent()
        return AtOnce(
            np.concatenate([one.drawn for one in each]),
            np.concatenate([one.clocks for one in each]),
            np.concatenate([one.prompt_clocks for one in each]),
            sum(one.waiting for one in each),
            sum(one.running for one in each),
            max(one.fullest for one in each),
            sum(one.free for one in each),
            sum(one.input_tokens for one in each),
        )

    def hand_over(self, least: int) -> None:
        """Hand over the rows of those who have left since the last time, if so many have."""
        self._together([partial(pod.hand_over, least) for pod in self.pods])

    def close(self) -> None:
        """Note the requests that are still here as unfinished."""
        super().close()
        self._gaps.gather()
        if self._crew is not None:
            self._crew.shutdown()
            self._crew = None

    def _advance(self) -> None:
        """Let everything happen at all pods that comes before the control of this instant."""
        # Who deals for later comes first, so that no pod waits for its requests.
        dealing = [dealer.deal_ahead for dealer in self._dealers]
        self._together([*dealing, *[pod.desk.advance for pod in self.pods]])

    def _note_sent(self) -> None:
        """Note how many requests of each stream have been sent."""
        for whole, parts in self._fed:
            whole.sent = sum(part.sent for part in parts)

    def _together(self, acts: Sequence[Callable[[], None]]) -> None:
        """Do all this, in any order and several at a time."""
        left = iter(acts)

        def work() -> None:
            for act in left:
                act()

        if self._crew is None:
            return work()
        # Who has served a pod waits for Python's lock to take the next: not long.
        usual_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        others = [self._crew.submit(work) for _ in range(self._others)]
        try:
            work()
        finally:
            wait(others)
            sys.setswitchinterval(usual_s)
        for other in others:
            other.result()


def compiled_pods(
    env: Timetable,
    fleet: Fleet,
    speed_at: Callable[[float], Speed],
    gaps: GapHistogram,
    seed: np.random.SeedSequence,
    workers: int = 1,
    here: range | None = None,
) -> CompiledPods:
    """Return pods of a fleet with desks of their own: those with the numbers `here`, or all."""
    sizes = fleet.pods
    here = range(len(sizes)) if here is None else here
    starts = np.cumsum((0, *sizes)).tolist()
    dealt, *routed = seed.spawn(1 + len(sizes))
    pods = []
    for pod in here:
        first = starts[pod]
        words, own = np.random.PCG64(routed[pod]), gaps.share(GapHistogram())
        desk = Desk(env, fleet, sizes[pod], speed_at, own, words, first)
        pods.append(CompiledGateway(env, desk, gpus_of(fleet, first, sizes[pod]), first))
    return CompiledPods(env, pods, sizes, dealt, workers, gaps, here.start)


def gpus_of(fleet: Fleet, first: int, many: int) -> list[list[int]]:
    """Return the indices of the GPUs of so many replicas of a fleet, from the first on."""
    return [[gpu.index for gpu in each] for each in fleet.replicas[first : first + many]]


class Dealer:
    """Deals the requests of a stream to pods as these ask for more.

    coming: arrays of dtype `ARRIVAL_ROW`. pods: those that are here; what is dealt to others goes
    to nobody. Who asks first changes nothing: a pod's hand is what has been dealt to it, in order.
    """

    def __init__(self, coming: Iterator[np.ndarray], deal: Deal, stream: int, pods: range) -> None:
        self._coming, self._deal, self._stream, self._pods = coming, deal, stream, pods
        self._hands: dict[int, deque[np.ndarray]] = {pod: deque() for pod in pods}
        self._dealing, self._counting = Lock(), Lock()
        self._ahead = 0

    def deal_ahead(self) -> None:
        """Deal what will soon be asked for."""
        if self._ahead < ENOUGH:
            with self._dealing:
                self._deal_out()

    def hand(self, pod: int) -> Iterator[np.ndarray]:
        """Yield the requests of a pod."""
        own = self._hands[pod]
        while True:
            if not own:  # else nobody waits for who deals
                with self._dealing:
                    while not own:
                        if not self._deal_out():
                            return
            rows = own.popleft()
            self._count(-len(rows))
            yield rows

    def _count(self, many: int) -> None:
        with self._counting:
            self._ahead += many

    def _deal_out(self) -> bool:
        """Deal many requests at once; False if no more come."""
        coming, many = [], 0
        while many < ENOUGH and (rows := next(self._coming, None)) is not None:
            coming.append(rows)
            many += len(rows)
        if not coming:
            return False
        rows = np.concatenate(coming)
        pods = self._deal.next_of(self._stream, len(rows))
        here = (pods >= self._pods.start) & (pods < self._pods.stop)
        if not here.all():
            rows, pods = rows[here], pods[here]
        self._count(len(rows))
        order = np.argsort(pods, kind="stable")
        ends = np.cumsum(np.bincount(pods - self._pods.start, minlength=len(self._pods)))
        # NumPy takes whole rows without Python's lock, and seven times as fast as it indexes them.
        for pod, own in zip(self._pods, np.split(rows.take(order), ends[:-1]), strict=True):
            if len(own):
                self._hands[pod].append(own)
        return True
