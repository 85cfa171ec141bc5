"""Pods: the replicas of a large deployment in groups, each with a router that knows no other.

A request is dealt to a pod at random, each pod taking a share by its replicas, and stays there:
who is lost with a replica, or comes while none is open, is served by the same pod. Dealt out so, a
Poisson process is one at each pod, and pods have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import Counter, Gateway
from factory_sim.factory.replica import Replica
from factory_sim.factory.routing import Router
from factory_sim.factory.timetable import Timetable

AT_ONCE = 1024
"""Requests dealt in advance, where they come one by one."""


class Deal:
    """Says to which pod each request of a stream goes. pods: the replicas of each."""

    def __init__(self, pods: Sequence[int], seed: np.random.SeedSequence) -> None:
        self._seed = seed
        kind = np.min_scalar_type(len(pods))  # up to 16 bits, NumPy sorts without comparing
        self._pod_of = np.repeat(np.arange(len(pods), dtype=kind), pods)
        self._streams: dict[int, np.random.Generator] = {}
        self._ahead: dict[int, list[int]] = {}

    def next_of(self, stream: int, many: int) -> np.ndarray:
        """Return the pods (unsigned, [many]) of the next requests of a stream, by its number."""
        if stream not in self._streams:
            key = (*self._seed.spawn_key, stream)
            own = np.random.SeedSequence(self._seed.entropy, spawn_key=key)
            self._streams[stream] = np.random.default_rng(own)
        return self._pod_of.take(self._streams[stream].integers(len(self._pod_of), size=many))

    def one_of(self, stream: int) -> int:
        """Return the pod of the next request of a stream that comes one by one."""
        ahead = self._ahead.setdefault(stream, [])
        if not ahead:
            ahead += self.next_of(stream, AT_ONCE)[::-1].tolist()
        return ahead.pop()


class Pod(Gateway):
    """The gateway of one pod. first: the number in the deployment of its first replica."""

    def __init__(self, env: Timetable, router: Router, staleness_s: float, first: int) -> None:
        super().__init__(env, router, staleness_s)
        self._first = first

    def resend(self, number: int, lost: list[Request]) -> None:
        """Send requests that a replica has lost to others."""
        super().resend(number - self._first, lost)

    def leave(self, replica: Replica, request: Request, time: float, outcome: str) -> None:
        """Note how a request ended, and tell its client if it waits for the answer."""
        self.outstanding[replica.number - self._first] -= 1
        self._gone(request, time, outcome)

    def _hand(self, number: int, request: Request) -> bool:
        request.replica = self._first + number
        return self.replicas[number].submit(request)


class Pods(Gateway):
    """All pods of a deployment as one gateway.

    sizes: replicas of each; a replica belongs to a pod by its number. seed: of who is dealt whom.
    """

    def __init__(
        self,
        env: Timetable,
        pods: Sequence[Gateway],
        sizes: Sequence[int],
        seed: np.random.SeedSequence,
    ) -> None:
        self.env, self.pods = env, pods
        self.row_bytes = pods[0].row_bytes
        self.replicas = [replica for pod in pods for replica in pod.replicas]
        self._deal = Deal(sizes, seed)
        self._pod_of = np.repeat(np.arange(len(sizes)), sizes).tolist()

    @property
    def inside(self) -> int:  # type: ignore[override]
        """Return the requests in the deployment."""
        return sum(pod.inside for pod in self.pods)

    @property
    def noted(self) -> int:
        """Return how many requests have left."""
        return sum(pod.noted for pod in self.pods)

    def count_by(self, make: Callable[[], Counter]) -> None:
        """Keep no rows from now on: each pod hands its own over, to what `make` makes for it."""
        for pod in self.pods:
            pod.count_by(make)

    def hand_over(self, least: int) -> None:
        """Hand over the rows of those who have left since the last time, if so many have."""
        for pod in self.pods:
            pod.hand_over(least)

    @property
    def stranded(self) -> range:  # type: ignore[override]
        """Return as many as wait for a replica to open."""
        return range(sum(len(pod.stranded) for pod in self.pods))

    @property
    def outstanding(self) -> list[int]:  # type: ignore[override]
        """Return the requests at each replica."""
        return [many for pod in self.pods for many in pod.outstanding]

    @property
    def open(self) -> bool:
        """Tell whether some replica takes requests."""
        return any(pod.open for pod in self.pods)

    def adopt(self, replica: Replica) -> None:
        """Add a replica to its pod."""
        self.replicas.append(replica)
        self.pods[self._pod_of[replica.number]].adopt(replica)

    def arrive(self, request: Request) -> None:
        """Deal a request to a pod."""
        self.pods[self._deal.one_of(request.stream)].arrive(request)

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop a replica at once; return the requests that are lost with it."""
        return self.pods[self._pod_of[replica.number]].fail(replica, dark)

    def resend(self, number: int, lost: list[Request]) -> None:
        """Send requests that a replica has lost to others of its pod."""
        self.pods[self._pod_of[number]].resend(number, lost)

    def leave(self, replica: Replica, request: Request, time: float, outcome: str) -> None:
        """Note how a request ended, and tell its client if it waits for the answer."""
        self.pods[self._pod_of[replica.number]].leave(replica, request, time, outcome)

    def never_came(self, request: Request, end_s: float, outcome: str) -> None:
        """Note how a request ended that was still on its way here."""
        self.pods[0].never_came(request, end_s, outcome)

    def close(self) -> None:
        """Note the requests that are still here as unfinished."""
        for pod in self.pods:
            pod.close()

    def request_seconds(self) -> float:
        """Return the integral of requests in the deployment over time, until now."""
        return sum(pod.request_seconds() for pod in self.pods)

    def pieces(self) -> list[np.ndarray]:
        """Return the rows as structured arrays (dtype `ROW`), of one pod after the other."""
        return [rows for pod in self.pods for rows in pod.pieces()]
