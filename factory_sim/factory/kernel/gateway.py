"""A deployment that the kernel serves, with the face of a gateway and its replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np

from factory_sim.factory.clients import Stream
from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import ROW, AtOnce, Counter, Gateway
from factory_sim.factory.kernel import floor
from factory_sim.factory.kernel.desk import Desk
from factory_sim.factory.kernel.state import ARRIVAL_ROW
from factory_sim.factory.replica import Absence, Replica
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.totals import Totals
from factory_sim.workload.stream import Block

AT_A_TIME = 65_536
"""Requests drawn at a time, of all streams: of many, each costs less of NumPy and threads."""


def arrivals(blocks: Iterator[Block], stream: Stream) -> Iterator[np.ndarray]:
    """Yield the requests of a stream as a desk takes them in (dtype `ARRIVAL_ROW`).

    index: as `Stream` numbers them where each is on its own: no two of all streams are the same.
    """
    index = stream.number
    for block in blocks:
        many = len(block.arrival_s)
        rows = np.empty(many, ARRIVAL_ROW)
        rows["index"] = np.arange(index, index + many * stream.many, stream.many)
        rows["arrival_s"], rows["prompt"] = block.arrival_s, block.prompt
        rows["output"], rows["cached"] = block.output, block.cached
        rows["kind"] = block.archetype
        index += many * stream.many
        yield rows


def ahead(items: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same arrays, each made by another thread while the one before is served."""
    with ThreadPoolExecutor(1) as helper:
        coming = helper.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = helper.submit(next, items, None)
            yield item


class CompiledGateway(Gateway):
    """Routes and serves the requests of `desk`, whose replicas are those with these GPUs.

    first: the number of the first of them.
    """

    at_a_time = AT_A_TIME

    def __init__(
        self, env: Timetable, desk: Desk, gpus: Sequence[Sequence[int]], first: int = 0
    ) -> None:
        self.env, self.desk, self._first = env, desk, first
        self.row_bytes = ROW.itemsize
        self._open = None
        self.replicas = [
            CompiledReplica(self, first, seat, indices) for seat, indices in enumerate(gpus)
        ]

    def feed(self, stream: object, blocks: Iterator[Block]) -> bool:
        """Let the requests of a stream come here."""
        whole = cast(Stream, stream)
        self.desk.feed(whole, ahead(arrivals(blocks, whole)))
        return True

    @property
    def inside(self) -> int:  # type: ignore[override]
        """Return the requests in the deployment."""
        return int(self.desk.record()["inside"])

    @property
    def noted(self) -> int:
        """Return how many requests have left."""
        return self.desk.noted

    def count_by(self, make: Callable[[], Counter]) -> None:
        """Keep no rows from now on but hand them over, to what `make` makes."""
        self.desk.counter = make()

    def hand_over(self, least: int) -> None:
        """Hand over the rows of those who have left since the last time, if so many have."""
        if self.desk.record()["rows"] >= least:
            self.desk.put_aside()

    @property
    def stranded(self) -> range:  # type: ignore[override]
        """Return as many as wait for a replica to open."""
        return range(int(self.desk.record()["stranded"]))

    @property
    def outstanding(self) -> list[int]:  # type: ignore[override]
        """Return the requests at each replica."""
        return self.desk.loads()

    def at_once(self) -> AtOnce:
        """Return what all replicas show now."""
        return self.desk.at_once()

    def arrive(self, request: Request) -> None:
        """Nobody comes one by one."""
        raise RuntimeError("the kernel takes whole streams")

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop a replica at once; return as many as are lost with it."""
        lost = self.desk.do(floor.FAIL, replica.number - self._first)
        replica.absence.go("down", self.env.now, dark)
        replica.set_open("down", False)
        return cast(list[Request], [None] * lost)

    def resend(self, number: int, lost: list[Request]) -> None:
        """Send requests that a replica has lost to others."""
        self.desk.do(floor.RESEND, number - self._first)

    def opened(self, replica: Replica) -> None:
        """A replica has opened or closed: who was stranded may go to it."""
        closed = [other.closed for other in self.replicas]
        is_open = [number for number, why in enumerate(closed) if not why]
        if not is_open:  # better one that is parked than none
            is_open = [number for number, why in enumerate(closed) if why == {"parked"}][:1]
        self.desk.open_to(is_open)

    def close(self) -> None:
        """Note the requests that are still here as unfinished."""
        self.desk.do(floor.CLOSE)

    def request_seconds(self) -> float:
        """Return the integral of requests in the deployment over time, until now."""
        return self.desk.request_seconds()

    def pieces(self) -> list[np.ndarray]:
        """Return the rows as structured arrays (dtype `ROW`), in the order of leaving."""
        return self.desk.pieces()


class CompiledReplica(Replica):
    """A replica as others see it; what it does is in the arrays of its desk, at its seat there."""

    def __init__(
        self, gateway: CompiledGateway, first: int, seat: int, gpus: Sequence[int]
    ) -> None:
        self.env, self.number, self.gpus = gateway.env, first + seat, gpus
        self._desk, self._seat = gateway.desk, seat
        self._held = {}
        self.board = None
        self.closed = set()
        self.opened = gateway.opened
        self.absence = Absence()
        self.batch = cast(Any, Counters(gateway.desk, seat))

    @property
    def clock(self) -> float:  # type: ignore[override]
        """Return the clock of its decode steps."""
        return self._desk.share_of(int(self._record["clock"]))

    @property
    def prompt_clock(self) -> float:  # type: ignore[override]
        """Return the clock of its steps with prompts."""
        return self._desk.share_of(int(self._record["prompt_clock"]))

    @property
    def resting(self) -> bool:
        """Tell whether there is nothing to do."""
        return self._desk.rests(self._seat)

    def set_max_running(self, sequences: int) -> None:
        """Admit only up to `sequences` sequences from the next step boundary on."""
        self._desk.change(self._seat, running=sequences)

    def totals(self) -> Totals:
        """Return what this replica has done until now, by cause."""
        found = self._desk.sums(self._seat)
        return Totals(
            busy_s=found[0],
            compute_s=found[1],
            memory_s=found[2],
            network_s=found[3],
            host_s=found[4],
            throttled_s=found[5] - found[11],
            kv_full_s=found[6],
            energy_j=found[7],
            output_tokens=found[8],
            sequence_s=found[9],
            prefill_j=found[10],
            prompt_j=found[12],
            heated_s=found[11],
            **self.absence.seconds(self.env.now)._asdict(),
        )

    def drawn(self) -> tuple[float, float, float]:
        """Return busy seconds, joules (of each GPU) and output tokens until now."""
        busy_s, energy_j, tokens = self._desk.drawn()[self._seat].tolist()
        return busy_s, energy_j, tokens

    @property
    def _record(self) -> Any:
        return self._desk.replica(self._seat)

    def _change(self) -> None:
        held = self._held
        clock = min([decode for decode, _ in held.values()], default=1.0)
        prompts = min([prompts for _, prompts in held.values()], default=1.0)
        self._desk.change(
            self._seat,
            clock=self._desk.clock(clock),
            prompt_clock=self._desk.clock(prompts),
            hot=clock < 1.0 and held.get("heat", (1.0, 1.0))[0] == clock,
        )


class Counters:
    """What a replica's batch and its ledger count, for who reads them. It is its own KV blocks
    and its own ledger; `running` and `waiting` are as long as there are such requests."""

    moved_blocks, loaded_blocks = 0, ()

    def __init__(self, desk: Desk, number: int) -> None:
        self._desk, self._number = desk, number
        self.kv = self.ledger = self

    @property
    def running(self) -> range:
        """Return as many as run."""
        return range(int(self._record["running"]))

    @property
    def waiting(self) -> range:
        """Return as many as wait."""
        return range(int(self._record["waiting"]))

    @property
    def total(self) -> int:
        """Return the KV blocks."""
        return int(self._desk.record()["blocks"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = self._record[name]
        return value.item()

    @property
    def _record(self) -> Any:
        return self._desk.replica(self._number)
