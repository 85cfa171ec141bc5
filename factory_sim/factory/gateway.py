"""The gateway of a deployment: it sends each request to a replica and notes how it went.

The head waiter of the factory: guests arrive, are shown to a table, and on the way out tell
how it was.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from factory_sim.factory.engine.request import Request
from factory_sim.factory.replica import Replica
from factory_sim.factory.routing import Router
from factory_sim.factory.timetable import CONTROL, Timetable
from factory_sim.metrics.totals import Totals
from factory_sim.workload.arrivals import BLOCK
from factory_sim.workload.stream import Block

ROW = np.dtype(
    [
        ("number", "<i8"),
        ("stream", "<i4"),
        ("replica", "<i4"),
        ("arrival_s", "<f8"),
        ("admitted_s", "<f8"),
        ("first_token_s", "<f8"),
        ("end_s", "<f8"),
        ("transfer_s", "<f8"),
        ("answer_s", "<f8"),
        ("prompt", "<i4"),
        ("emitted", "<i4"),
        ("cached", "<i4"),
        ("preemptions", "<i4"),
        ("retries", "<i4"),
        ("prefill_replica", "<i4"),
        ("outcome", "<i4"),
        ("archetype", "<i4"),
        ("tenant", "<i4"),
        ("reasoning", "<i4"),
        ("images", "<i4"),
        ("encode_replica", "<i4"),
        ("encoding_s", "<f8"),
    ]
)
_PACK = struct.Struct("<qiiddddddiiiiiiiiiiiid").pack


class Counter(Protocol):
    """Counts requests that have left, and keeps what it likes of them."""

    def __call__(self, rows: np.ndarray, now_s: float) -> None:
        """Count rows (dtype `ROW`), which the caller may then use again."""

    def merge(self, other: Counter) -> None:
        """Add what another of the same kind has counted."""


OUTCOMES = ("completed", "timed_out", "rejected", "unfinished")
_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}


class AtOnce(NamedTuple):
    """What all replicas of a deployment show at one moment.

    drawn: float64[replicas, 3], as `Replica.drawn`. clocks, prompt_clocks: float64[replicas].
    fullest: running sequences of the fullest. The rest are sums.
    """

    drawn: NDArray[np.float64]
    clocks: NDArray[np.float64]
    prompt_clocks: NDArray[np.float64]
    waiting: int
    running: int
    fullest: int
    free: int
    input_tokens: int


class Gateway:
    """Routes requests by `router` to the `replicas` that it adopts.

    staleness_s: how old the load figures may be that the router looks at.
    Keeps one packed row per request that has left (`ROW`), and the integral of requests in
    the deployment over time (for Little's law).
    at_a_time: requests of all streams that are drawn before they come.
    """

    at_a_time = BLOCK

    def __init__(self, env: Timetable, router: Router, staleness_s: float) -> None:
        self.env, self.router = env, router
        self.replicas: list[Replica] = []
        self.outstanding: list[int] = []
        self.inside = 0
        self.stranded: dict[Request, None] = {}  # came while no replica was open, in this order
        self._open: list[int] | None = None  # numbers of the open replicas; None: all
        self.rows = bytearray()
        self.row_bytes = ROW.itemsize
        self._counter: Counter | None = None
        self._handed = 0
        self._staleness_s = staleness_s
        self._seen: list[int] = []
        self._seen_s = -float("inf")
        self._request_s = 0.0
        self._last_s = 0.0

    @property
    def noted(self) -> int:
        """Return how many requests have left."""
        return self._handed + len(self.rows) // self.row_bytes

    def count_by(self, make: Callable[[], Counter]) -> None:
        """Keep no rows from now on but hand them over, to what `make` makes."""
        self._counter = make()

    def hand_over(self, least: int) -> None:
        """Hand over the rows of those who have left since the last time, if so many have."""
        assert self._counter is not None
        many = len(self.rows) // self.row_bytes
        if many >= least:
            rows, self.rows = self.rows, bytearray()
            self._handed += many
            self._counter(np.frombuffer(rows, dtype=ROW), self.env.now)

    def feed(self, stream: object, blocks: Iterator[Block]) -> bool:
        """Take in a whole stream of requests, if it can; here they come one by one."""
        return False

    def at_once(self) -> AtOnce | None:
        """Return what all replicas show now, if that is known; else each has to be asked."""
        return None

    def adopt(self, replica: Replica) -> None:
        """Add a replica to those that requests are sent to."""
        self.replicas.append(replica)
        self.outstanding.append(0)
        replica.opened = self._opened

    @property
    def open(self) -> bool:
        """Tell whether some replica takes requests."""
        return self.staffed

    @property
    def staffed(self) -> bool:
        """Tell whether some replica takes requests now, and not only once one has been started."""
        return self._open is None or bool(self._open)

    def arrive(self, request: Request) -> None:
        """Show a request to a replica; note it as rejected if that refuses it."""
        now = self.env.now
        if self._sent(request):
            self._request_s += self.inside * (now - self._last_s)
            self._last_s = now
            self.inside += 1
        else:
            self._note(request, now, "rejected")

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop a replica at once; return the requests that are lost with it."""
        return replica.fail(dark)

    def resend(self, number: int, lost: list[Request]) -> None:
        """Send requests that a replica has lost to others."""
        self.outstanding[number] -= len(lost)
        self._send(lost)

    def _sent(self, request: Request) -> bool:
        """Send a request to a replica, or keep it while none is open; False if it is refused."""
        outstanding = self.outstanding if not self._staleness_s else self._stale()
        if self._open is None:
            number = self.router.choose(outstanding, self.replicas, request)
        elif self._open:
            loads = [outstanding[number] for number in self._open]
            candidates = [self.replicas[number] for number in self._open]
            number = self._open[self.router.choose(loads, candidates, request)]
        else:
            self._keep(request)
            return True
        if not self._hand(number, request):
            return False
        self.outstanding[number] += 1
        return True

    def _hand(self, number: int, request: Request) -> bool:
        """Hand a request to the replica chosen; False if that refuses it."""
        request.replica = number
        return self.replicas[number].submit(request)

    def _relieved(self, number: int) -> None:
        """A replica has fewer requests than before, of which none left by itself."""

    def _keep(self, request: Request) -> None:
        """Keep a request while no replica is open."""
        self.stranded[request] = None
        if request.due_s != float("inf"):
            self.env.call(request.due_s, CONTROL, lambda _: self._give_up(request))

    def _give_up(self, request: Request) -> None:
        """Let a client go that has waited for a replica to open for as long as it would."""
        if request in self.stranded:
            del self.stranded[request]
            self._gone(request, self.env.now, "timed_out")

    def _send(self, requests: list[Request]) -> None:
        """Send requests that are inside already."""
        for request in requests:
            if not self._sent(request):
                self._gone(request, self.env.now, "rejected")

    def _opened(self, replica: Replica) -> None:
        """A replica has opened or closed: who was stranded may go to it."""
        is_open = [number for number, other in enumerate(self.replicas) if not other.closed]
        if not is_open:  # better one that is parked than none
            parked = {"parked"}
            is_open = [n for n, other in enumerate(self.replicas) if other.closed == parked][:1]
        self._open = None if len(is_open) == len(self.replicas) else is_open
        if is_open and self.stranded:
            waiting, self.stranded = self.stranded, {}
            self._send(list(waiting))

    def _gone(self, request: Request, time: float, outcome: str) -> None:
        now = self.env.now
        self._request_s += self.inside * (now - self._last_s)
        self._last_s = now
        self.inside -= 1
        self._note(request, time, outcome)

    def leave(self, replica: Replica, request: Request, time: float, outcome: str) -> None:
        """Note how a request ended, and tell its client if it waits for the answer."""
        self.outstanding[replica.number] -= 1
        self._gone(request, time, outcome)

    def never_came(self, request: Request, end_s: float, outcome: str) -> None:
        """Note how a request ended that was still on its way here."""
        self._note(request, end_s, outcome)

    def close(self) -> None:
        """Note the requests that are still here as unfinished."""
        for replica in self.replicas:
            batch = replica.batch
            replica.write_down()
            for request in sorted([*batch.waiting, *batch.running], key=lambda r: r.number):
                self._note(request, float("nan"), "unfinished")
        for request in self.stranded:
            self._note(request, float("nan"), "unfinished")

    def request_seconds(self) -> float:
        """Return the integral of requests in the deployment over time, until now."""
        now: float = self.env.now
        return self._request_s + self.inside * (now - self._last_s)

    def totals(self) -> list[Totals]:
        """Return what each replica has done until now, by cause."""
        return [replica.totals() for replica in self.replicas]

    def pieces(self) -> list[np.ndarray]:
        """Return the rows as structured arrays (dtype `ROW`), in the order of leaving."""
        return [np.frombuffer(bytes(self.rows), dtype=ROW)]

    def table(self) -> np.ndarray:
        """Return all rows in one array."""
        return np.concatenate(self.pieces())

    def _stale(self) -> list[int]:
        """Return the load as of the last look, and look again if that is too long ago."""
        if self.env.now - self._seen_s >= self._staleness_s:
            self._seen, self._seen_s = self.outstanding.copy(), self.env.now
        return self._seen

    def _note(self, request: Request, end_s: float, outcome: str) -> None:
        self.rows += _PACK(
            request.number,
            request.stream,
            request.replica,
            request.arrival_s,
            request.admitted_s,
            request.first_token_s,
            end_s,
            request.transfer_s,
            request.answer_s,
            request.prompt,
            request.emitted,
            request.hit,
            request.preemptions,
            request.retries,
            request.prefill_replica,
            _CODE[outcome],
            request.archetype,
            request.tenant,
            request.reasoning,
            request.images,
            request.encode_replica,
            request.encoding_s,
        )
        client = request.client
        if client is not None:
            client.succeed(outcome)
