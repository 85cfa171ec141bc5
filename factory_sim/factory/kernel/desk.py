"""The desk of a deployment that the kernel serves: it holds the state, and keeps it up to date.

Whoever looks at the deployment, or gives an order, does it here; first everything happens that
comes before. Between such moments nothing outside touches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from factory_sim.factory.clients import ServedStream, Stream
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.gateway import ROW, AtOnce, Counter
from factory_sim.factory.kernel import floor
from factory_sim.factory.kernel.arrays import LINE
from factory_sim.factory.kernel.batch import POLICY_NUMBER, STATIC
from factory_sim.factory.kernel.lists import GROUP, NOBODY, SHUT
from factory_sim.factory.kernel.state import (
    ARRAYS,
    ARRIVAL_ROW,
    CLOCK,
    COST,
    COSTS,
    DESK,
    ENDING,
    KINDS,
    LINK,
    LINKS,
    LIST,
    REPLICA,
    REQUEST,
    STALL,
    STREAM,
)
from factory_sim.factory.kernel.stretch import guide
from factory_sim.factory.replica import Speed
from factory_sim.factory.timetable import Timetable
from factory_sim.metrics.gaps import GapHistogram, bin_ends
from factory_sim.physics.step_time import Roofline

SIZES = {
    "requests": "pool",
    "rows": "room",
    "clocks": "many_clocks",
    "streams": "many_streams",
    "words": "many_words",
}
"""Of arrays that grow: where their length is kept."""

ROWS = 32_768
"""Rows written before they are put aside, or handed over to be counted in one go."""

WORDS = 16_384
"""Random words drawn at a time."""


class Desk:
    """Serves one deployment by the kernel.

    replicas: how many of the fleet's it has. speed_at: what a clock means for one. gaps: takes the
    gaps between tokens. words: draws for the router, from its own stream. first: the number of its
    first replica, where it is a pod of the deployment; then requests bear their numbers in their
    streams, until all have been served.
    """

    def __init__(
        self,
        env: Timetable,
        fleet: Fleet,
        replicas: int,
        speed_at: Callable[[float], Speed],
        gaps: GapHistogram,
        words: np.random.BitGenerator,
        first: int | None = None,
    ) -> None:
        self._env, self._fleet, self._speed_at = env, fleet, speed_at
        self.gaps, self._words = gaps, words
        self._clocks: dict[float, int] = {}
        self._tables: list[np.ndarray] = []
        self.counter: Counter | None = None  # takes rows, which are then kept no longer
        self._handed = 0
        self._streams: list[Stream] = []
        self._arrivals: list[Iterator[np.ndarray]] = []
        self._changed: list[int] = []
        self._there_s = -1.0  # where the kernel is; behind if it has been told something since
        self._settled = True  # whether others know all that they are to know of it
        self._drawn_s = -1.0
        self._arrays: dict[str, np.ndarray] = {}
        self._begin(replicas, first)
        self.clock(1.0)

    # -- its state ---------------------------------------------------------------------

    def record(self) -> Any:
        """Return the deployment's own record, as it is now."""
        self.catch_up()
        return self._record

    def replica(self, number: int) -> Any:
        """Return the record of a replica, as it is now."""
        self.catch_up()
        return self._arrays["replicas"][number]

    def every_replica(self) -> np.ndarray:
        """Return the records of all replicas, as they are now."""
        self.catch_up()
        return self._arrays["replicas"]

    @property
    def sent(self) -> list[int]:
        """Return how many requests of each stream had come when somebody last looked."""
        return [stream.sent for stream in self._streams]

    def loads(self) -> list[int]:
        """Return the requests outstanding at each replica."""
        self.catch_up()
        loads: list[int] = self._arrays["load"].tolist()
        return loads

    def rests(self, number: int) -> bool:
        """Tell whether a replica has nothing to do."""
        self.catch_up()
        return bool(np.isinf(self._arrays["when"][number]))

    def pieces(self) -> list[np.ndarray]:
        """Return the rows of the requests that have left (dtype `ROW`), in the order of leaving."""
        self.put_aside()
        return self._tables or [np.zeros(0, ROW)]

    @property
    def noted(self) -> int:
        """Return how many requests had left when somebody last looked."""
        kept = sum(map(len, self._tables))
        return self._handed + kept + int(self._record["rows"])

    def clock(self, clock: float) -> int:
        """Return the number of a clock, a share of the reference clock."""
        if clock not in self._clocks:
            self._clocks[clock] = len(self._clocks)
            self._learn(clock)
        return self._clocks[clock]

    def share_of(self, number: int) -> float:
        """Return the clock of a number."""
        return list(self._clocks)[number]

    def feed(self, stream: Stream, arrivals: Iterator[np.ndarray]) -> None:
        """Let the requests of a stream come here. arrivals: arrays of dtype `ARRIVAL_ROW`."""
        self._streams.append(stream)
        self._arrivals.append(arrivals)
        many = len(self._streams)
        streams = np.zeros(many, STREAM)
        streams[:-1] = self._arrays["streams"][: many - 1]
        last = streams[-1]
        last["lag_s"], last["timeout_s"] = stream.lag_s, stream.timeout_s
        last["number"] = stream.number
        if isinstance(stream, ServedStream):
            last["tenant"] = next(stream.tenants)  # all of one, or SimPy would serve them
        feed = np.zeros((many, self._arrays["feed"].shape[1]), ARRIVAL_ROW)
        feed[:-1] = self._arrays["feed"][: many - 1]
        self._put(streams=streams, feed=feed)
        self._next_block(many - 1)

    def put_aside(self) -> None:
        """Keep the rows written so far, or hand them over."""
        desk, rows = self._record, self._arrays["rows"]
        many = int(desk["rows"])
        if self.counter is not None:
            self.counter(rows[:many], float(self._env.now))
            self._handed += many
        elif many:
            self._tables.append(rows[:many])
            self._put(rows=np.empty(len(rows), ROW))
        desk["rows"] = 0

    # -- what is done to it ------------------------------------------------------------

    def catch_up(self) -> None:
        """Let everything happen that comes before the control of this instant."""
        if self._changed or self._there_s != self._env.now:
            self.advance()
        if not self._settled:
            self._settle()

    def advance(self) -> None:
        """Catch up, but hand nothing on: nobody else is touched, as long as others do the same."""
        now = float(self._env.now)
        if self._changed:
            self._arrays["changed"][: len(self._changed)] = self._changed
            many = len(self._changed)
            self._changed = []
            floor.act(self._record, floor.CHANGE, many, self._there_s)
            self._there_s = -1.0
        if now == self._there_s:
            return
        while (why := floor.act(self._record, floor.ADVANCE, 0, now)) != floor.DONE:
            if why == floor.FEED:
                self._next_block(int(self._record["stream"]))
            elif why == floor.REQUESTS:
                self._more_requests()
            elif why == floor.ROWS:
                self._more_rows()
            else:
                self._more_words(WORDS)
        self._there_s = now
        self._settled = False

    def change(self, number: int, **wanted: int) -> None:
        """Have a replica obey from its next step boundary on."""
        self.catch_up()
        replica = self._arrays["replicas"][number]
        for name, value in wanted.items():
            replica[f"want_{name}"] = value
        replica["ordered"] = 1
        if number not in self._changed[-1:]:
            self._changed.append(number)
            if len(self._changed) == len(self._arrays["changed"]):
                self.catch_up()

    def do(self, what: int, number: int = 0) -> int:
        """Do something else at this instant; return the kernel's answer."""
        self.catch_up()
        inside = int(self._record["inside"])
        if len(self._arrays["rows"]) - int(self._record["rows"]) <= inside + 1:
            self._more_rows()
        if floor.ROUTER_NUMBER[self._fleet.spec.router.policy] in (
            floor.RANDOM,
            floor.POWER_OF_TWO,
        ):
            self._more_words(floor.ENOUGH_WORDS * (inside + 1))
        floor.act(self._record, what, number, float(self._env.now))
        self._there_s = self._drawn_s = -1.0
        return int(self._record["answer"])

    def open_to(self, numbers: list[int]) -> None:
        """Send requests to these replicas only, from now on."""
        self.catch_up()
        state = self._arrays
        state["open"][: len(numbers)] = numbers
        self._record["open"] = len(numbers)
        self.do(floor.OPENED)

    # -- what is seen of it ------------------------------------------------------------

    def drawn(self) -> np.ndarray:
        """Return float64[replicas, 3]: busy seconds, joules of each GPU and tokens until now."""
        self.catch_up()
        if self._drawn_s != self._env.now:
            self._free = floor.drawn(self._record, float(self._env.now), self._drawn)
            self._drawn_s = self._env.now
        return self._drawn

    def at_once(self) -> AtOnce:
        """Return what all replicas show now."""
        drawn, replicas = self.drawn(), self._arrays["replicas"]
        clocks = np.array(list(self._clocks))
        return AtOnce(
            drawn,
            clocks[replicas["clock"]],
            clocks[replicas["prompt_clock"]],
            int(replicas["waiting"].sum()),
            int(replicas["running"].sum()),
            int(replicas["running"].max()),
            self._free,
            int(replicas["input_tokens"].sum()),
        )

    def sums(self, number: int) -> list[float]:
        """Return what `floor.sums` says of a replica."""
        self.catch_up()
        found = np.zeros(13)
        floor.sums(self._record, number, float(self._env.now), found)
        return [float(value) for value in found]

    def request_seconds(self) -> float:
        """Return the integral of requests in the deployment over time, until now."""
        desk = self.record()
        return float(desk["request_s"] + desk["inside"] * (self._env.now - desk["last_s"]))

    # -- inside ------------------------------------------------------------------------

    def _begin(self, many: int, first: int | None) -> None:
        fleet = self._fleet
        slots, memory = fleet.max_num_seqs, fleet.memory
        queue = fleet.spec.engine.max_queue
        self._record = desk = np.zeros(1, DESK)[0]
        desk["max_waiting"] = np.inf if queue is None else queue
        desk["longest"] = min(fleet.longest, memory.blocks * memory.block_tokens + 1)
        desk["staleness_s"] = fleet.spec.router.staleness
        desk["seen_s"] = -np.inf
        desk["batching"] = POLICY_NUMBER[fleet.batching]
        desk["ahead"], desk["max_tokens"] = fleet.plans_ahead, fleet.max_step_tokens
        size = memory.block_tokens
        desk["block_tokens"], desk["blocks"] = size, memory.blocks
        desk["kv_tokens"] = memory.blocks * size
        desk["block_bits"] = size.bit_length() - 1 if size & (size - 1) == 0 else -1
        desk["router"] = floor.ROUTER_NUMBER[fleet.spec.router.policy]
        desk["unused"], desk["open"] = NOBODY, many
        desk["is_pod"], desk["first_replica"] = first is not None, first or 0
        desk["many"], desk["slots"], desk["most"] = many, slots, self._most()
        # Who finishes first at each replica: an odd number of lines apart, or they would be in each
        # other's way in a processor's cache.
        desk["heap"] = heap = 8 * (-(-slots // 8) | 1)
        desk["held"] = held = slots + 2 if fleet.batching == "continuous" else 1
        desk["size"] = size = 1 << (many - 1).bit_length()
        replicas = _in_lines(many, REPLICA)
        replicas["decodes"] = 1
        replicas["max_running"] = replicas["want_running"] = slots
        replicas["in_time_s"] = np.inf
        streams = np.zeros(1, STREAM)
        streams["next_s"] = np.inf
        contest = np.full(2 * size, many, np.int32)  # where nobody is: somebody who never wins
        contest[size : size + many] = np.arange(many)
        contest[1:size] = NOBODY
        desk["groups"] = groups = -(-many // GROUP)
        load = np.zeros(many, np.int64)
        rank = np.full(many + 1, floor.PLAN, np.int32)
        rank[many] += 1
        bins, edges = self.gaps.bins(), np.append(bin_ends(), np.inf)
        self._drawn, self._free = np.zeros((many, 3)), many * memory.blocks
        self._put(
            replicas=replicas,
            requests=np.zeros(0, REQUEST),
            due=np.zeros((many, memory.block_tokens), np.int32),
            endings=np.zeros((many, heap), ENDING),
            stalls=np.zeros((many, held), STALL),
            ends=np.full((many + 1, KINDS), NOBODY, LIST),
            links=np.zeros((0, LINKS), LINK),
            when=np.full(many + 1, np.inf),
            rank=rank,
            first=contest,
            load=load,
            seen=load.copy(),
            open=np.arange(many),
            weights=np.full(groups * GROUP, SHUT),
            least=np.full(-(-groups // GROUP) * GROUP, SHUT),
            clocks=np.zeros(0, CLOCK),
            decode=np.zeros(0, COST),
            body=np.zeros(0, COST),
            head=np.zeros(0, COST),
            streams=streams,
            feed=np.zeros((1, 0), ARRIVAL_ROW),
            words=np.zeros(0, np.uint32),
            edges=edges,
            guide=guide(edges),
            bins=bins,
            finished=np.zeros(slots + 1, np.int64),
            changed=np.zeros(many + 1, np.int64),
            rows=np.zeros(0, ROW),
        )
        floor.act(desk, floor.OPENED, 0, 0.0)

    def _put(self, **arrays: np.ndarray) -> None:
        """Put arrays where the kernel finds them, in the place of others."""
        desk = self._record
        for name, array in arrays.items():
            assert name in ARRAYS and array.flags.c_contiguous
            self._arrays[name] = array
            desk[f"{name}_at"] = array.ctypes.data
            if name in SIZES:
                desk[SIZES[name]] = len(array)
        if "feed" in arrays:
            desk["block"] = arrays["feed"].shape[1]

    def _most(self) -> int:
        """Return the most tokens that a step can carry."""
        fleet = self._fleet
        if fleet.batching == "chunked":
            return fleet.max_step_tokens
        if POLICY_NUMBER[fleet.batching] == STATIC:
            return max(fleet.memory.blocks * fleet.memory.block_tokens, fleet.max_num_seqs)
        return max(fleet.max_step_tokens, fleet.longest)

    def _learn(self, clock: float) -> None:
        """Add the costs and the power of a clock."""
        step_time, power = self._speed_at(clock)
        assert isinstance(step_time, Roofline)
        tables, far = (
            step_time.tables(self._fleet.max_num_seqs, self._most()),
            (step_time.per_context),
        )
        record = np.zeros(1, CLOCK)
        values = {
            "clock": tables.clock,
            "stall": tables.stall,
            "far_s": far.duration_s,
            "far_compute_s": far.compute_s,
            "far_memory_s": far.memory_s,
            "far_busy_compute_s": far.busy_compute_s,
            "far_busy_memory_s": far.busy_memory_s,
            "per_pair_s": tables.per_pair_s,
            "per_token_s": tables.per_token_s,
            "state_s": tables.state_s,
            "scan_s": tables.scan_s,
            "per_sequence_s": tables.per_sequence_s,
            "mixed_host_s": tables.mixed_host_s,
            "ahead_mixed_s": tables.ahead_mixed_s,
            "idle_w": power.idle_w,
            "span_w": power.span_w,
            "active_weight": power.active_weight,
            "compute_weight": power.compute_weight,
            "memory_weight": power.memory_weight,
        }
        for name, value in values.items():
            record[name] = value
        state = self._arrays
        self._put(
            clocks=np.concatenate([state["clocks"], record]),
            decode=_with(state["decode"], tables.decode),
            body=_with(state["body"], tables.body),
            head=_with(state["head"], tables.head),
        )

    def _next_block(self, i: int) -> None:
        """Give a stream its next requests, or let it end."""
        coming = next(self._arrivals[i], None)
        while coming is not None and not len(coming):
            coming = next(self._arrivals[i], None)
        stream, feed = self._arrays["streams"][i], self._arrays["feed"]
        stream["at"] = 0
        if coming is None:
            stream["size"], stream["next_s"] = 0, np.inf
        else:
            many = len(coming)
            if len(feed) == 1:
                self._put(feed=coming[None])
            else:
                if many > feed.shape[1]:
                    wider = np.zeros((len(feed), many), ARRIVAL_ROW)
                    wider[:, : feed.shape[1]] = feed
                    self._put(feed=wider)
                self._arrays["feed"][i, :many] = coming
            stream["size"] = many
        floor.act(self._record, floor.FED, i, 0.0)

    def _more_requests(self) -> None:
        """Make room for twice as many requests at once."""
        state = self._arrays
        before = len(state["requests"])
        after = max(1024, 2 * before)
        requests = _in_lines(after, REQUEST)
        requests[:before] = state["requests"]
        links = np.full((after, LINKS), NOBODY, LINK)
        links[:before] = state["links"]
        links["after"][before:-1, 0] = np.arange(before + 1, after)
        self._record["unused"] = before
        self._put(requests=requests, links=links)

    def _more_rows(self) -> None:
        """Put the rows written so far aside."""
        self.put_aside()
        size = max(ROWS, 4 * (int(self._record["inside"]) + 1))
        if len(self._arrays["rows"]) < size:
            self._put(rows=np.zeros(size, ROW))

    def _more_words(self, least: int) -> None:
        """Draw random words, if fewer than so many are left."""
        desk = self._record
        left = self._arrays["words"][desk["words"] :]
        if len(left) < least:
            # PCG64 gives out the low half of each number of 64 bits first.
            many = max(least, WORDS) // 2
            fresh = self._words.random_raw(many).astype("<u8").view("<u4")
            self._put(words=np.concatenate([left, fresh]))
            desk["words"] = 0

    def _settle(self) -> None:
        """Hand on what others keep: gaps between tokens, and how many requests were sent."""
        self._settled = True
        desk = self._record
        if desk["gaps"]:
            self.gaps.add(int(desk["gaps"]), float(desk["gap_sum_s"]), float(desk["gap_squares"]))
            desk["gaps"] = 0
            desk["gap_sum_s"] = desk["gap_squares"] = 0.0
        for number, stream in enumerate(self._streams):
            stream.sent = int(self._arrays["streams"][number]["sent"])


def _in_lines(many: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Return an array of zeros that begins where a line of a processor's cache does."""
    size = many * dtype.itemsize
    room = np.zeros(size + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + size].view(dtype)


def _with(costs: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return costs of steps (dtype `COST`) and those of another clock, float64[n, 7]."""
    both = _in_lines(len(costs) + len(more), COST)
    both[: len(costs)] = costs
    for name, column in zip(COSTS, more.T, strict=True):
        both[name][len(costs) :] = column
    return both
