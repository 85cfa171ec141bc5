"""The batch of one replica: who waits, who runs, and the moves between.

Everything is plain numbers, so that any number of steps in which nobody comes or goes is one
closed form (`Stretch`); here is what happens at the boundaries between such stretches. The
order there: completions, control and time-outs, arrivals, then the next plan, which takes from
the queue whoever is there. With asynchronous scheduling (`AsyncBatch`) it takes only who was
there when the step that ends began, unless nothing runs. Times within INSTANT of each other are
equal.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import ClassVar, Protocol

from factory_sim.factory.engine.answers import Answers
from factory_sim.factory.engine.images import with_images
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.ledger import Ledger
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.stalls import Gaps, Stalls
from factory_sim.factory.engine.stretch import INSTANT, Stretch, prompts_share
from factory_sim.factory.engine.windows import Windows
from factory_sim.physics.power import StepPower
from factory_sim.physics.step_time import Chunk, StepTime, make_chunk


class Batching(Protocol):
    """A batching policy: decides what one engine step carries.

    It calls `admit`, `prefill`, `make_room` and `hold_decodes` of the batch, and never looks
    at how many tokens a request will produce. joins_running: whether requests may join at the
    next step boundary while others run.
    """

    joins_running: bool

    def fill(self, batch: Batch) -> None:
        """Choose the prompt chunks of the next step, and whether sequences decode in it."""


class Waiting(Protocol):
    """Who waits for a place in the batch: a deque, or a queue in another order (`scheduling`)."""

    def append(self, request: Request, /) -> None:
        """Take in a newcomer."""

    def appendleft(self, request: Request, /) -> None:
        """Take back a request that was preempted."""

    def popleft(self) -> Request:
        """Give out the head."""

    def remove(self, request: Request, /) -> None:
        """Let a request go that waits."""

    def clear(self) -> None:
        """Let everybody go."""

    def __getitem__(self, place: int, /) -> Request: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Request]: ...


class Batch:
    """The requests of one replica, waiting and running, and the stretch of steps under way.

    blocks: the KV blocks of the replica. max_running: sequences at once; control may change
    it, and the stretch's step time and power, between stretches. max_waiting: a longer queue
    refuses. longest: the most tokens of a request, prompt and answer, that the model takes.
    answers: notes when answers begin, where requests reason first. sees: whether prompts may have
    images, which its steps then encode.
    """

    __slots__ = (
        "_completing",
        "_decoded_s",
        "_decodes",
        "_finishing",
        "_growing",
        "_longest",
        "_owners",
        "_stale",
        "_stalls",
        "_step",
        "answers",
        "chunks",
        "context",
        "decoding",
        "due",
        "gaps",
        "input_tokens",
        "kv",
        "ledger",
        "lost_tokens",
        "max_running",
        "max_waiting",
        "policy",
        "prefilling",
        "recomputed_tokens",
        "running",
        "sees",
        "stretch",
        "waiting",
        "windows",
    )

    ahead: ClassVar[int] = 0
    """Steps by which plans are made ahead: an arrival joins so many boundaries later."""

    tokens_each = 1
    """Tokens of each decoding sequence in a step, of which drafts may be some."""

    def __init__(
        self,
        policy: Batching,
        step_time: StepTime,
        power: StepPower,
        kv: KvBlocks,
        max_running: int,
        max_waiting: float,
        gaps: Gaps,
        longest: float = math.inf,
    ) -> None:
        self.policy, self.kv, self.gaps = policy, kv, gaps
        self.max_running, self.max_waiting = max_running, max_waiting
        self._longest = min(longest, kv.total * kv.block_tokens + 1)
        self.waiting: Waiting = deque()
        self.running: dict[Request, None] = {}  # in the order of admission
        self.due: list[tuple[float, int, Request]] = []  # time-outs, a heap
        self.prefilling: list[Request] = []
        self.decoding = 0
        self.context: float = 0  # tokens in the KV cache of the decoding sequences
        self.windows = Windows(step_time.window) if step_time.window else None
        self.answers: Answers | None = None
        self.sees = False
        self.ledger = Ledger()
        self.stretch = Stretch(step_time, power)
        self.recomputed_tokens = 0
        self.lost_tokens = 0
        self.input_tokens = 0
        self._step = 0  # decode steps since the start
        # [last step, number, preemptions, request], a heap; preemptions tell a stay from the next.
        self._finishing: list[tuple[int, int, int, Request]] = []
        self._stale = 0  # entries in there of sequences that were preempted or gave up
        self._decoded_s = 0.0  # when the last decode step ended
        self._stalls = Stalls()
        # The step being filled.
        self.chunks: list[Chunk] = []
        self._owners: list[Request] = []  # of the chunks
        self._completing = 0  # chunks that end their prompts
        self._decodes = True
        self._growing = 0  # sequences that decode in the step being filled

    # -- arrivals and departures -------------------------------------------------------

    def enqueue(self, request: Request) -> bool:
        """Queue a request; refuse it if the queue is full or it is longer than can be."""
        if len(self.waiting) >= self.max_waiting:
            return False
        if request.prompt + request.output > self._longest:
            return False
        self.waiting.append(request)
        if request.due_s != math.inf:
            heappush(self.due, (request.due_s, request.number, request))
        return True

    def expire(self, now: float) -> list[Request]:
        """Drop the requests whose clients have given up by `now`."""
        gone: list[Request] = []
        due = self.due
        while due and due[0][0] <= now + INSTANT:
            request = heappop(due)[2]
            if request.gone:
                continue
            if request in self.running:
                del self.running[request]
                self._leave_early(request, now)
            else:
                self.waiting.remove(request)
            request.gone = True
            gone.append(request)
        return gone

    def note_answers(self) -> None:
        """Note from now on when the answers of requests begin that reason first."""
        self.answers = Answers()

    @property
    def completing(self) -> int:
        """Return how many prompts the step being filled completes."""
        return self._completing

    @property
    def moved_blocks(self) -> int:
        """Return the KV blocks moved to host memory and back: none without swapping."""
        return 0

    @property
    def loaded_blocks(self) -> tuple[int, ...]:
        """Return the KV blocks of prompts brought back from each tier of the prefix cache."""
        return ()

    def found(self, request: Request, now: float) -> int:
        """Return the tokens of a request's prompt that are held `now`: none without a cache."""
        return 0

    def joins(self) -> bool:
        """Tell whether the request just queued may join before the stretch's own end."""
        return (
            not self.chunks
            and len(self.waiting) == 1
            and len(self.running) < self.max_running
            and (self.policy.joins_running or not self.running)
        )

    # -- the moves of a batching policy ------------------------------------------------

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue if a slot and the blocks of its whole prompt are free.

        most: admit it only if no more than this many tokens are to be computed.
        """
        if not self.waiting or len(self.running) >= self.max_running:
            return None
        request = self.waiting[0]
        kv = self.kv
        size = kv.block_tokens
        target = request.prompt + request.emitted
        hit = 0
        if request.cached:
            hit = min(request.cached, target - 1) // size * size
        if most is not None and target - hit > most:
            return None
        blocks = -(-target // size)
        # Decodes of this step take a block each at the most: count them only when it matters.
        growing = self._growing
        if blocks > kv.free - growing and (
            not growing or blocks > kv.free - kv.need(self._step, 1, growing)
        ):
            self.stretch.kv_blocked = True
            return None
        self.waiting.popleft()
        kv.free -= blocks
        request.blocks = blocks
        request.hit = request.stored = hit
        request.left = target - hit
        if request.admitted_s != request.admitted_s:
            request.admitted_s = self.stretch.start_s
        self.running[request] = None
        self.prefilling.append(request)
        return request

    def prefill(self, request: Request, budget: int) -> int:
        """Give a request's prompt up to `budget` tokens of the next step; return how many."""
        left = request.left
        length = left if left < budget else budget
        self.chunks.append(make_chunk((request.stored, length)))
        self._owners.append(request)
        self._completing += length == left
        return length

    def make_room(self) -> None:
        """Preempt, last come first, until every decoding sequence has a block for its token.

        A victim's blocks are given back, its tokens computed again when it returns (vLLM's
        recomputation). It never fits into what it has just freed, and as it heads the queue
        nobody is admitted in this step.
        """
        kv = self.kv
        while self.decoding > kv.free and kv.need(self._step, 1, self.decoding) > kv.free:
            request = self._victim()
            stored = self._leave_early(request, self.stretch.start_s)
            self._preempted(request, stored)
            request.preemptions += 1
            self.waiting.appendleft(request)
            self.stretch.kv_blocked = True
        self._growing = self.decoding

    def hold_decodes(self) -> None:
        """Let the running sequences wait while the next step computes prompts."""
        self._decodes = False

    # -- the stretch of steps ----------------------------------------------------------

    def plan(self, now: float) -> bool:
        """Plan the next stretch, from `now`; return False when there is nothing to do."""
        stretch = self.stretch
        stretch.start_s = now
        stretch.kv_blocked = False
        if self.chunks:
            self.chunks, self._owners, self._completing = [], [], 0
            self._decodes = True
        if self.waiting or self.prefilling:
            self._growing = 0
            self.policy.fill(self)
        else:
            self.make_room()  # with no prompt to compute, any policy decodes
        n = self.decoding
        if self.chunks:
            self._plan_mixed(n if self._decodes else 0)
            return True
        if not n:
            return False
        steps = self._steps_ahead(n)
        windows = self.windows
        if windows is None:
            stretch.decode(steps, n, self.context + n)
        else:
            stretch.decode(steps, n, self.context + n, windows.attended, windows.filling)
        if self.due:
            stretch.cut(self.next_due_s())
        return True

    def advance(self) -> tuple[float, list[Request]]:
        """Carry out the stretch; return the time at its end and who has finished then."""
        stretch, n = self.stretch, self.decoding
        steps, end = stretch.steps, stretch.end_s
        stretch.book(self.ledger, steps)
        finished: list[Request] = []
        if self._decodes and n:
            self._decoded_s = end
            if self._stalls:
                self._stalls.release(self.gaps, stretch, n)
            else:
                self.gaps.steps(n, steps, stretch.first_s, stretch.growth_s)
            kv, step = self.kv, self._step
            kv.free -= kv.need(step, steps, n)
            self._step = step = step + steps
            self.context += n * steps
            if self.windows is not None:
                self.windows.advance(steps, step)
            if self.answers is not None:
                self.answers.advance(stretch, steps, step)
            finishing = self._finishing
            while finishing and finishing[0][0] <= step:
                ending = heappop(finishing)
                if self._stale and _is_stale(ending):
                    self._stale -= 1
                    continue
                request = ending[3]
                del self.running[request]
                self._leave(request, end)
                request.gone = True
                finished.append(request)
        elif n:
            self._stalls.hold_all(n, stretch.start_s)
        if self.chunks:
            for request, chunk in zip(self._owners, self.chunks, strict=True):
                self._prefilled(request, chunk.length, end, finished)
        return end, finished

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything at `now`: KV cache, the stretch under way and all requests, returned.

        What the stretch has drawn and made until now was drawn and made. Requests are as when
        they first arrived; tokens that were made for them count as `lost_tokens`.
        """
        steps = 0.0
        if stepping:
            steps = self.stretch.steps_by(now)
            self.stretch.book(self.ledger, steps)
        for request in self.running:
            made = request.emitted
            if request.finish_step >= 0:
                done = int(steps) if self._decodes else 0
                made = self._stored(request, done) - request.prompt + 1
            self.lost_tokens += made
        self.lost_tokens += sum(request.emitted for request in self.waiting)
        lost = [*self.running, *self.waiting]
        for request in lost:
            request.forget()
        self.waiting.clear()
        self.running.clear()
        self.due.clear()
        self.prefilling, self._finishing, self._stalls = [], [], Stalls()
        self.chunks, self._owners = [], []
        self.decoding = self.context = self._stale = self._completing = self._growing = 0
        self._decodes = True
        self.kv.clear()
        if self.windows is not None:
            self.windows.clear()
        if self.answers is not None:
            self.answers = Answers()
        return sorted(lost, key=lambda request: request.number)

    def write_down(self, now: float, stepping: bool) -> None:
        """Write down how far those who decode have come, as the run ends `now`."""
        steps = int(self.stretch.steps_by(now)) if stepping and self._decodes else 0
        for request in self.running:
            if request.finish_step >= 0:
                request.emitted = self._stored(request, steps) - request.prompt + 1
        if self.answers is not None:
            self.answers.advance(self.stretch, steps, self._step + steps)

    def check(self) -> None:
        """Recount everything from the requests themselves; AssertionError if a sum is off.

        For debug runs: this is what conservation of requests, tokens and KV blocks means.
        """
        decoding = [r for r in self.running if r.finish_step >= 0]
        assert len(decoding) == self.decoding, "sequences are lost"
        assert len(decoding) + len(self.prefilling) == len(self.running), "sequences are lost"
        self._check_context(decoding)
        held = self._held_blocks() + sum(request.blocks for request in self._sent())
        assert held + self.kv.free == self.kv.total, "KV blocks are lost"
        assert self.kv.free >= 0, "more KV blocks are in use than there are"

    # -- inside ------------------------------------------------------------------------

    def _victim(self) -> Request:
        """Take the request out of `running` that is to be preempted."""
        return self.running.popitem()[0]

    def _give_back(self, request: Request) -> None:
        """Give back the KV blocks of a request that holds them for its prompt."""
        self.kv.free += request.blocks

    def _known_until_s(self) -> float:
        """Return until when a request had to be queued for the plan that is being made."""
        return math.inf

    def _sent(self) -> Iterable[Request]:
        """Return the requests that have left and not given their KV blocks back."""
        return ()

    def _check_context(self, decoding: Sequence[Request]) -> None:
        """Recount the tokens in the KV cache of the decoding requests."""
        stored = [self._stored(request) for request in decoding]
        assert sum(stored) == self.context, "context tokens are lost"
        if self.windows is not None:
            inside = sum(min(tokens, self.windows.tokens) for tokens in stored)
            assert inside == self.windows.context, "window tokens are lost"

    def _stored(self, request: Request, ahead: int = 0) -> int:
        """Return the tokens that a decoding request has in the KV cache, so many steps ahead."""
        return request.prompt + request.output - (request.finish_step - self._step - ahead) - 1

    def _held_blocks(self) -> int:
        """Return the KV blocks that the running requests hold."""
        decoding = (self._stored(r) for r in self.running if r.finish_step >= 0)
        return sum(map(self.kv.blocks, decoding)) + sum(r.blocks for r in self.prefilling)

    def _preempted(self, request: Request, stored: int) -> None:
        """Count what a request must compute again that had `stored` tokens."""
        self.recomputed_tokens += stored - request.hit

    def _leave_early(self, request: Request, now: float) -> int:
        """Let a request that has not finished `_leave`."""
        self._stale += request.finish_step >= 0
        return self._leave(request, now)

    def _leave(self, request: Request, now: float) -> int:
        """Take a request, already out of `running`, out of every count; return its tokens."""
        if request.left:
            self.prefilling.remove(request)
            self._give_back(request)
            request.left = 0
            return request.stored
        stored = self._stored(request)
        request.emitted = stored - request.prompt + 1
        request.finish_step = -1
        if stored > request.stored:  # it has decoded since it came
            request.last_token_s = self._decoded_s
        if self._stalls:
            self._stalls.leave(request.last_token_s)
        self.kv.stop(stored, self._step)
        self.decoding -= 1
        self.context -= stored
        if self.windows is not None:
            self.windows.leave(stored)
        return stored

    def _plan_mixed(self, n: int) -> None:
        """Plan a step with prompt chunks and `n` decoding sequences, all or none."""
        stretch, chunks, tokens = self.stretch, self.chunks, n + self._completing
        context = windowed = 0.0
        if n:
            context = self.context + n
            if self.windows is not None:
                windowed = self.windows.attended
        cost = stretch.prompt_time.mixed(n, context, windowed, chunks, tokens)
        if self.sees:
            cost = with_images(cost, stretch.prompt_time, self._owners)  # type: ignore[arg-type]
        prompts = 1.0
        if n:
            far, near = stretch.prompt_time.per_context[0], stretch.prompt_time.per_windowed[0]
            context_s = far * context + near * windowed
            prompts = prompts_share(cost[0], context_s, sum(c[1] for c in chunks), n)
        stretch.one(cost, n + len(chunks), tokens, prompts)

    def _prefilled(
        self, request: Request, length: int, now: float, finished: list[Request]
    ) -> None:
        """Note that a chunk is computed; with the last one the request makes a token."""
        request.stored += length
        request.left -= length
        if request.left:
            return
        self.prefilling.remove(request)
        if request.emitted:
            self.gaps.one(now - request.last_token_s)
            if request.emitted == request.reasoning:
                request.answer_s = now
        else:
            request.first_token_s = now
            self.input_tokens += request.prompt
        request.last_token_s = now
        request.emitted += 1
        if request.emitted == request.output:
            del self.running[request]
            self._give_back(request)
            request.gone = True
            finished.append(request)
            return
        self._start_decoding(request, finished)

    def _start_decoding(self, request: Request, finished: list[Request]) -> None:
        """Let a request decode from the next step on; `finished` is for who goes elsewhere."""
        step = self._step
        request.finish_step = step + request.output - request.emitted
        ending = (request.finish_step, request.number, request.preemptions, request)
        heappush(self._finishing, ending)
        self.kv.grow(request.stored, step)
        self.decoding += 1
        self.context += request.stored
        if self.windows is not None:
            self.windows.join(request, request.stored, step)
        if self.answers is not None and request.emitted <= request.reasoning:
            self.answers.expect(request, step + request.reasoning + 1 - request.emitted)

    def _steps_ahead(self, n: int) -> int:
        """Return the decode steps to the next boundary: an end, a full window, no blocks."""
        step = self._step
        finishing = self._finishing
        while self._stale and _is_stale(finishing[0]):
            heappop(finishing)
            self._stale -= 1
        steps = finishing[0][0] - step
        if self.windows is not None:
            steps = int(min(steps, self.windows.next_fill() - step))
        if n * (steps // self.kv.block_tokens + 1) > self.kv.free:
            steps = min(steps, self.kv.steps_that_fit(step, n))
        return steps

    def next_due_s(self) -> float:
        """Return the next time-out among the requests still here; infinity if none."""
        due = self.due
        while due and due[0][2].gone:
            heappop(due)
        return due[0][0] if due else math.inf


def _is_stale(ending: tuple[int, int, int, Request]) -> bool:
    """Tell whether the sequence has left since, whether or not it has come back."""
    step, _, preemptions, request = ending
    return request.finish_step != step or request.preemptions != preemptions
