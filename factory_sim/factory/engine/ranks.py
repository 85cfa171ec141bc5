"""The batches of one replica whose attention is data-parallel: ranks that step together.

Like rowers in one boat: each has an oar of his own, and nobody takes the next stroke before the
slowest has ended this one. Every rank is a batch with its own queue, KV cache and scheduler; the
routed experts are dealt out over the GPUs of all, so that no rank begins a step before all others
do. Ranks with nothing to do take part with an empty batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import inf
from typing import ClassVar, NamedTuple

from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.ledger import Ledger
from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.stretch import Stretch
from factory_sim.metrics.totals import Totals
from factory_sim.physics.rank_time import plus, rank_time
from factory_sim.physics.step_time import Chunk, Cost, StepTime


class RankedKv(NamedTuple):
    """The KV blocks of all ranks together."""

    ranks: tuple[Batch, ...]

    @property
    def total(self) -> int:
        """Return the blocks there are."""
        return sum(rank.kv.total for rank in self.ranks)

    @property
    def free(self) -> int:
        """Return the blocks that are free."""
        return sum(rank.kv.free for rank in self.ranks)


class RankedLedger(Ledger):
    """The ledgers of all ranks, and of what they do together.

    Seconds and joules are the mean of the ranks, so those of each GPU. compute_s to host_s: causes
    of the work done together; drafting_s: of that in drafts. wait_s: time in which ranks wait for
    the slowest, which is the sum called `waits` of the totals.
    """

    __slots__ = ("drafting_s", "ranks", "wait_s")

    waits: ClassVar[str] = "rank_wait_s"

    def __init__(self, ranks: Iterable[Ledger]) -> None:
        super().__init__()
        self.ranks = tuple(ranks)
        self.drafting_s = self.wait_s = 0.0

    def copy(self) -> RankedLedger:
        """Return a ledger with the same sums, to add to."""
        other = type(self)(ledger.copy() for ledger in self.ranks)
        for name in ("compute_s", "memory_s", "network_s", "host_s", "drafting_s", "wait_s"):
            setattr(other, name, getattr(self, name))
        return other

    def mixed(self, cost: Cost, share: float = 1.0) -> None:
        """Book the causes of (`share` of) what ranks do together in a step."""
        super().mixed(cost, share)
        self.drafting_s += share * cost.drafting_s

    def settle(self) -> None:
        """Bring the sums that are read at a glance up to date with the ranks."""
        many = len(self.ranks)
        self.busy_s = sum(ledger.busy_s for ledger in self.ranks) / many
        self.energy_j = sum(ledger.energy_j for ledger in self.ranks) / many
        self.prefill_j = sum(ledger.prefill_j for ledger in self.ranks) / many
        self.output_tokens = sum(ledger.output_tokens for ledger in self.ranks)

    def totals(self, step_time: StepTime) -> Totals:
        """Return the sums by cause. step_time: of any clock; causes are at the reference."""
        found = Totals()
        for ledger in self.ranks:
            found = found.plus(ledger.totals(step_time), 1.0 / len(self.ranks))
        shared_s = self.compute_s + self.memory_s + self.network_s + self.host_s + self.drafting_s
        return found._replace(
            compute_s=found.compute_s + self.compute_s,
            memory_s=found.memory_s + self.memory_s,
            network_s=found.network_s + self.network_s,
            host_s=found.host_s + self.host_s,
            throttled_s=found.throttled_s - shared_s - self.wait_s,
            drafting_s=found.drafting_s + self.drafting_s,
            verified=found.verified * len(self.ranks),
            accepted=found.accepted * len(self.ranks),
            output_tokens=found.output_tokens * len(self.ranks),
            sequence_s=found.sequence_s * len(self.ranks),
            **{self.waits: self.wait_s},
        )


class RankedStretch(Stretch):
    """The stretch that all ranks are in: as many steps as nobody comes, goes, or becomes slowest.

    together: cost of what they do together in a step. own: (first_s, growth_s) of each rank's part.
    """

    __slots__ = ("own", "ranks", "together")

    def __init__(self, ranks: tuple[Batch, ...]) -> None:
        first = ranks[0].stretch
        super().__init__(first.step_time, first.power)
        self.ranks = ranks
        self.together = Cost(0.0)
        self.own: list[tuple[float, float]] = []

    def join(self) -> None:
        """Make the stretches that the ranks have planned one."""
        ranks = self.ranks
        self.start_s = ranks[0].stretch.start_s
        self.mixed = any(rank.stretch.mixed for rank in ranks)
        self.together = self._shared()
        self.own = [(rank.stretch.first_s, rank.stretch.growth_s) for rank in ranks]
        lines = self._paces()
        first, growth = max(lines)
        self.first_s, self.growth_s = first + self.together.duration_s, growth
        steps = min(rank.stretch.steps for rank in ranks)
        for other_s, other_growth in lines:
            if other_growth > growth:
                steps = min(steps, int((first - other_s) / (other_growth - growth)) + 1)
        self.sequences = sum(rank.stretch.sequences for rank in ranks)
        self.tokens = sum(rank.stretch.tokens for rank in ranks)
        self._last(steps)
        for rank in ranks:
            self._keep_pace(rank.stretch)

    def cut(self, time: float, more: int = 0) -> bool:
        """End at the first boundary at `time` or later; return whether that is earlier."""
        earlier = super().cut(time, more)
        if earlier:
            self.share()
        return earlier

    def share(self) -> None:
        """Tell the ranks when it ends."""
        for rank in self.ranks:
            rank.stretch.steps, rank.stretch.end_s = self.steps, self.end_s

    def book(self, ledger: Ledger, steps: float) -> None:
        """Book the first `steps` steps, those of the ranks too."""
        assert isinstance(ledger, RankedLedger)
        for rank, own in zip(self.ranks, ledger.ranks, strict=True):
            rank.stretch.book(own, steps)
        self.book_together(ledger, steps)

    def book_together(self, ledger: RankedLedger, steps: float) -> None:
        """Book what ranks do together in the first `steps` steps, and their waiting.

        A rank that waits for KV blocks has booked its whole time to that.
        """
        many, half = len(self.ranks), (steps - 1) / 2
        slowest_s = self.first_s - self.together.duration_s + self.growth_s * half
        for rank, (first_s, growth_s) in zip(self.ranks, self.own, strict=True):
            stretch = rank.stretch
            if stretch.kv_blocked and not stretch.mixed:
                continue
            ledger.wait_s += steps * (slowest_s - first_s - growth_s * half) / many
            if not stretch.mixed:  # else it has booked the causes of its step itself
                ledger.mixed(self.together, steps / many)
        ledger.settle()

    def energy_j(self, steps: float) -> float:
        """Return the joules of the first `steps` steps, on each GPU in the mean."""
        return sum(rank.stretch.energy_j(steps) for rank in self.ranks) / len(self.ranks)

    def _shared(self) -> Cost:
        """Return what the ranks do together in a step."""
        step_time = self.prompt_time if self.mixed else self.step_time
        return rank_time(step_time).together(*map(sum, zip(*map(_work, self.ranks), strict=True)))

    def _paces(self) -> list[tuple[float, float]]:
        """Return (first_s, growth_s) of everything that a step must wait for."""
        return self.own

    def _keep_pace(self, stretch: Stretch) -> None:
        """Let the steps of a rank last as long as those of all."""
        stretch.cost = plus(stretch.cost, self.together)
        if stretch.mixed:
            stretch.cost = stretch.cost._replace(duration_s=self.first_s)
        stretch.first_s, stretch.growth_s = self.first_s, self.growth_s

    def _last(self, steps: int) -> None:
        """Let it last `steps` steps."""
        self.steps = steps
        self.end_s = self.start_s + steps * (self.first_s + self.growth_s * (steps - 1) / 2)


class Ranks:
    """The batch of a replica that consists of ranks. batches: of the ranks, all alike.

    A request goes to the rank with the lowest 4 * waiting + running, the first of equals from one
    after the last that got one (vLLM's data-parallel load balancer).
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.ranks = tuple(batches)
        self.kv = RankedKv(self.ranks)
        self.ledger = RankedLedger(rank.ledger for rank in self.ranks)
        self.stretch = RankedStretch(self.ranks)
        self.ahead = 0
        self._next = 0
        self._joined = self.ranks[0]

    # -- what a replica, its meter and its gateway look at -----------------------------------

    @property
    def waiting(self) -> list[Request]:
        """Return the requests that wait, rank by rank."""
        return [request for rank in self.ranks for request in rank.waiting]

    @property
    def running(self) -> list[Request]:
        """Return the requests that run, rank by rank."""
        return [request for rank in self.ranks for request in rank.running]

    @property
    def decoding(self) -> int:
        """Return the sequences that decode, in all ranks."""
        return sum(rank.decoding for rank in self.ranks)

    @property
    def due(self) -> list[tuple[float, int, Request]]:
        """Return the time-outs to come at one of the ranks; none if no rank has any."""
        return next((rank.due for rank in self.ranks if rank.due), [])

    @property
    def input_tokens(self) -> int:
        """Return the prompt tokens of requests with a first token."""
        return sum(rank.input_tokens for rank in self.ranks)

    @property
    def recomputed_tokens(self) -> int:
        """Return the tokens computed again after preemptions."""
        return sum(rank.recomputed_tokens for rank in self.ranks)

    @property
    def moved_blocks(self) -> int:
        """Return the KV blocks moved to host memory and back."""
        return sum(rank.moved_blocks for rank in self.ranks)

    @property
    def loaded_blocks(self) -> tuple[int, ...]:
        """Return the KV blocks of prompts brought back from each tier of the prefix cache."""
        return tuple(map(sum, zip(*(rank.loaded_blocks for rank in self.ranks), strict=True)))

    @property
    def lost_tokens(self) -> int:
        """Return the tokens that failures took along."""
        return sum(rank.lost_tokens for rank in self.ranks)

    @property
    def max_running(self) -> int:
        """Return the sequences that may run at once in all ranks."""
        return sum(rank.max_running for rank in self.ranks)

    @max_running.setter
    def max_running(self, sequences: int) -> None:
        many = len(self.ranks)
        for number, rank in enumerate(self.ranks):
            # One at the least: requests stay at their rank, and would wait there for ever.
            rank.max_running = max(1, (sequences + many - 1 - number) // many)

    # -- the moves of a replica --------------------------------------------------------------

    def enqueue(self, request: Request) -> bool:
        """Queue a request at a rank; refuse it if that does."""
        self._joined = rank = self._choose()
        # A rank with nothing running plans no step ahead.
        self.ahead = rank.ahead if rank.running else 0
        return rank.enqueue(request)

    def note_answers(self) -> None:
        """Note from now on when the answers of requests begin that reason first."""
        for rank in self.ranks:
            rank.note_answers()

    def joins(self) -> bool:
        """Tell whether the request just queued may join before the stretch's own end."""
        return self._joined.joins()

    def found(self, request: Request, now: float) -> int:
        """Return the tokens of a request's prompt that are held `now`, where most are."""
        return max(rank.found(request, now) for rank in self.ranks)

    def expire(self, now: float) -> list[Request]:
        """Drop the requests whose clients have given up by `now`."""
        return [request for rank in self.ranks for request in rank.expire(now)]

    def computing(self) -> Iterator[tuple[Request, Chunk]]:
        """Yield whose prompts the step under way computes, and what of them."""
        return chain.from_iterable(rank.computing() for rank in self._prompt_ranks())

    def release(self, request: Request) -> None:
        """Give back the blocks of a request whose KV cache is wanted here no longer."""
        self._holder(request).release(request)

    def lose(self, request: Request) -> None:
        """Count the tokens made for a request that is held as lost."""
        self._holder(request).lose(request)

    @property
    def held(self) -> list[Request]:
        """Return the requests that have gone on, their KV cache not yet."""
        return [request for rank in self._prompt_ranks() for request in rank.held]

    def _choose(self) -> Batch:
        """Return the rank that the next request goes to."""
        ranks, many = self.ranks, len(self.ranks)
        turn = self._next
        order = [ranks[(turn + number) % many] for number in range(many)]
        rank = min(order, key=lambda each: 4 * len(each.waiting) + len(each.running))
        self._next = (ranks.index(rank) + 1) % many
        return rank

    def _holder(self, request: Request) -> PromptBatch:
        return next(rank for rank in self._prompt_ranks() if request in rank.held)

    def _prompt_ranks(self) -> Iterator[PromptBatch]:
        return (rank for rank in self.ranks if isinstance(rank, PromptBatch))

    def next_due_s(self) -> float:
        """Return the next time-out among the requests still here; infinity if none."""
        return min(rank.next_due_s() for rank in self.ranks)

    def plan(self, now: float) -> bool:
        """Plan the next stretch of all ranks, from `now`; return False if there is no work."""
        stretch = self.stretch
        for rank in self.ranks:
            own = rank.stretch
            own.step_time, own.power = stretch.step_time, stretch.power
            own.prompt_time, own.prompt_power = stretch.prompt_time, stretch.prompt_power
        going = [rank.plan(now) for rank in self.ranks]
        if not any(going):
            return False
        pairs = list(zip(self.ranks, going, strict=True))
        longest = max(rank.stretch.steps for rank, goes in pairs if goes)
        for rank, goes in pairs:
            if not goes:
                rank.stretch.decode(longest, 0, 0)
        stretch.join()
        due_s = min((rank.next_due_s() for rank in self.ranks if rank.due), default=inf)
        if due_s < inf:
            Stretch.cut(stretch, due_s)
        stretch.share()
        return True

    def advance(self) -> tuple[float, list[Request]]:
        """Carry out the stretch; return the time at its end and who has finished then."""
        stretch = self.stretch
        finished = [request for rank in self.ranks for request in rank.advance()[1]]
        stretch.book_together(self.ledger, stretch.steps)
        return stretch.end_s, finished

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything at `now`; see `Batch.abandon`."""
        steps = self.stretch.steps_by(now) if stepping else 0.0
        lost = [request for rank in self.ranks for request in rank.abandon(now, stepping)]
        if stepping:
            self.stretch.book_together(self.ledger, steps)
        return sorted(lost, key=lambda request: request.number)

    def write_down(self, now: float, stepping: bool) -> None:
        """Write down how far requests have come; see `Batch.write_down`."""
        for rank in self.ranks:
            rank.write_down(now, stepping)

    def check(self) -> None:
        """Recount every rank; AssertionError if a sum is off."""
        for rank in self.ranks:
            rank.check()
        if any(rank.running for rank in self.ranks):
            assert len({rank.stretch.end_s for rank in self.ranks}) == 1, "ranks are out of step"


def in_lockstep(dp: int, batch: Callable[[], Batch]) -> Batch | Ranks:
    """Return the batch of a replica: one alone, or the ranks of data-parallel attention."""
    return batch() if dp == 1 else Ranks(batch() for _ in range(dp))


def _work(rank: Batch) -> tuple[int, int, int]:
    """Return what a rank brings to each step of its stretch: see `RankTime.together`."""
    stretch = rank.stretch
    if not stretch.mixed:
        return stretch.sequences, 0, stretch.sequences
    decoding = stretch.sequences - len(rank.chunks)
    return decoding, sum(chunk.length for chunk in rank.chunks), decoding + rank.completing
