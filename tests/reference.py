"""The plain step-by-step replica that the macro-step engine is checked against.

It is one serving replica told as slowly as possible: every iteration of the batch is
simulated, every token is counted one by one, every KV block is held by somebody. Nothing is
solved in closed form and nothing is shared with `factory_sim.factory`, so that the two can
only agree for the right reason.

An arrival joins the waiting queue at once, also inside a step, or is rejected at once; it is
admitted at a boundary. A boundary at time s, always in this order:

1. the step that ends at s emits its tokens; requests with all their tokens leave;
2. control: clock changes due by s take effect, requests past their deadline leave;
3. arrivals at s join the waiting queue, or are rejected;
4. the next step is planned by the policy; it lasts until the next boundary.

"Due by s" means a time of at most s + 1e-9 seconds, "at s" one within 1e-9. Control and
deadlines inside a step wait for its end, and a replica with nothing to do sleeps until the
next arrival that it does not reject.

With asynchronous scheduling, 4. was decided when the step that ends at s began, from the queue
as it stood then: who joined the queue after that start (by more than 1e-9 seconds) is not yet
known, and nobody behind them either. Only if nobody is left running by 2. is the plan made at s
itself, with everybody in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

SAME_TIME_S = 1e-9
Chunk = tuple[int, int]
DrawSteps = Callable[[int, int, int], int]
Content = tuple[int, int]


class Physics(Protocol):
    """Step time and power of one replica at one clock.

    contexts: KV tokens after the step of every sequence decoded; with drafts, what one of its
    tokens sees in the mean. chunks: (start, length) of each stretch of prompt, start being the
    tokens already in KV. sampled: tokens emitted at the end of the step.
    """

    def step_s(self, contexts: Sequence[float], chunks: Sequence[Chunk], sampled: int) -> float:
        """Return the duration of the step in seconds."""
        ...

    def step_power_w(
        self, contexts: Sequence[float], chunks: Sequence[Chunk], sampled: int
    ) -> float:
        """Return the power of one GPU during the step in watts."""
        ...

    def images_s(self, images: int) -> float:
        """Return the seconds by which images to encode delay a step (asked only where one does)."""
        ...

    def paused_power_w(
        self, contexts: Sequence[int], chunks: Sequence[Chunk], sampled: int, paused_s: float
    ) -> float:
        """Return the same where the step pauses for so long (asked only where one does)."""
        ...


@dataclass(frozen=True)
class ReferenceRequest:
    """What a client asks for. Times in seconds; cached is the known prefix in tokens.

    hashes: in place of `cached`, what the blocks hold, one for every hash_blocks blocks from the
    first on; blocks beyond them are like no others.
    made_s: when another replica made its first token; it comes with that and with the KV cache of
    its prompt. sends_s: with its first token it leaves for another replica, and its KV cache so
    much later.
    priority, tenant, promised_s: what orders of the queue go by; the last is when its first token
    is promised.
    session: in place of hashes, whose words its blocks hold, prompt and answer; who asks for
    something of a session asks for all that was said in it before. follows: the request (by index)
    after whose last token it is sent, so many seconds (arrival_s); it then waits for deadline_s;
    it is never sent if that one is not completed.
    reasoning: of its output, made before the answer. forgets: what its session says next leaves
    that out, so that nobody can use what came after the prompt once it is completed.
    images: are encoded in the first step that computes any of the prompt.
    """

    arrival_s: float
    prompt: int
    output: int
    cached: int = 0
    deadline_s: float = math.inf
    made_s: float | None = None
    sends_s: float | None = None
    hashes: tuple[int, ...] = ()
    hash_blocks: int = 1
    priority: int = 0
    tenant: int = 0
    promised_s: float = math.inf
    session: int | None = None
    follows: int | None = None
    reasoning: int = 0
    forgets: bool = False
    images: int = 0

    @property
    def shareable(self) -> bool:
        """Whether others may know what its blocks hold."""
        return bool(self.hashes) or self.session is not None

    def content(self, block: int) -> Content | None:
        """Return what the block of this number holds; None if nobody else can know."""
        if self.session is not None:
            return self.session, block
        place = block // self.hash_blocks
        if place >= len(self.hashes):
            return None
        return self.hashes[place], block % self.hash_blocks


@dataclass
class ReferenceRecord:
    """What became of a request. `left_s` is when it left, whatever its outcome.

    outcome: completed, timed_out, rejected, or sent (on, after its first token). emissions_s: the
    time of every emitted token. recomputed: tokens lost from the KV cache by preemptions, known
    prefix apart (with hashes: those of them not found again). found: prompt tokens found when it
    was first admitted. outcome is empty if it was never sent.
    """

    request: ReferenceRequest
    outcome: str = ""
    admitted_s: float | None = None
    left_s: float | None = None
    emissions_s: list[float] = field(default_factory=list)
    preemptions: int = 0
    recomputed: int = 0
    found: int = 0

    @property
    def emitted(self) -> int:
        return len(self.emissions_s)

    @property
    def first_token_s(self) -> float | None:
        return self.emissions_s[0] if self.emissions_s else None

    @property
    def answer_s(self) -> float | None:
        """Return when the first token after its reasoning was made."""
        after = self.request.reasoning
        return self.emissions_s[after] if self.emitted > after else None

    @property
    def completed_s(self) -> float | None:
        return self.left_s if self.outcome == "completed" else None

    @property
    def gaps_s(self) -> list[float]:
        """Return the inter-token latencies: seconds between emissions, of one token or several."""
        times = sorted(set(self.emissions_s))
        return [b - a for a, b in pairwise(times)]


@dataclass(frozen=True)
class ReferenceStep:
    """One iteration: who took part (by index of the request) and what it cost.

    chunks belong to `prefilled`, one each. blocks_in_use and running hold during the step.
    known: how many of the waiting the plan knew of. energy_j is of one GPU. made: tokens emitted at
    the end, by their mean where drafts are verified.
    """

    start_s: float
    end_s: float
    clock: float
    decoded: tuple[int, ...]
    prefilled: tuple[int, ...]
    context: float
    chunks: tuple[Chunk, ...]
    sampled: int
    running: int
    waiting: int
    known: int
    blocks_in_use: int
    energy_j: float
    made: float

    @property
    def tokens(self) -> int:
        """Return the tokens that went through the model: decoded ones and prompt."""
        return len(self.decoded) + sum(length for _, length in self.chunks)


class ReferenceRun(list[ReferenceRecord]):
    """The records, in the order the requests were given, and every step taken."""

    def __init__(self, records: Iterable[ReferenceRecord]) -> None:
        super().__init__(records)
        self.steps: list[ReferenceStep] = []


@dataclass(eq=False)
class _Sequence:
    """A request at the replica: its KV tokens, the blocks that hold them, its tokens so far."""

    index: int
    record: ReferenceRecord
    cached: int
    carried: int = 0
    kv: int = 0
    target: int = 0
    own: int = 0
    shared: list[Content] = field(default_factory=list)
    lost: int = 0
    looked: bool = False
    seen: bool = False
    # With drafts: KV tokens at its first decode step, tokens to make from there, the steps that
    # takes and those it has taken.
    began: int = 0
    to_make: int = 0
    steps: int = 0
    done: int = 0

    @property
    def blocks(self) -> int:
        """Return the blocks that hold its tokens: its own, and those others may share."""
        return self.own + len(self.shared)

    @property
    def prompt_with_emitted(self) -> int:
        return self.record.request.prompt + self.record.emitted

    @property
    def remaining(self) -> int:
        """Return the prompt tokens still to be prefilled."""
        return self.target - self.kv

    @property
    def prefilled(self) -> bool:
        return self.kv >= self.target

    @property
    def exact_kv(self) -> Fraction:
        """Return its KV tokens, if it went on evenly from its first decode step to its last."""
        if not self.steps:
            return Fraction(self.kv)
        return self.began + Fraction(self.done * self.to_make, self.steps)


@dataclass
class _Plan:
    decoded: list[_Sequence] = field(default_factory=list)
    chunks: list[tuple[_Sequence, int]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.decoded and not self.chunks


@dataclass(frozen=True)
class Order:
    """The order of the queue: fcfs, priority, edf or fair.

    refuse_rate: prompt tokens a second by which edf predicts who is late, and refuses them; None:
    nobody. weights: of an input and an output token in a tenant's counter.
    """

    policy: str = "fcfs"
    refuse_rate: float | None = None
    weights: tuple[int, int] = (1, 2)


FCFS = Order()


class _Replica:
    def __init__(
        self,
        *,
        max_num_seqs: int,
        budget: int,
        blocks: int,
        block_tokens: int,
        max_queue: float,
        order: Order | None = None,
        host_blocks: int = 0,
        move_s: float = 0.0,
        shelves: Sequence[tuple[int, float]] = (),
        drafts: int = 0,
        draw_steps: DrawSteps | None = None,
    ) -> None:
        self.shelves = tuple(shelves)
        self.on: list[list[Content]] = [[] for _ in shelves]  # what is on each
        # The keys of each, the one of which something was put there last at the end.
        self.order_on: list[list[int]] = [[] for _ in shelves]
        self.fetching_s = 0.0  # what is brought back from shelves before the step being planned
        self.order, self.host_blocks, self.move_s = order or Order(), host_blocks, move_s
        self.counters: dict[int, int] = {}  # tokens served to each tenant, weighted
        self.last_tenant: int | None = None
        self.preempted = False  # somebody was, in the plan being made
        self.moved = 0  # blocks moved to and from host memory before the step being planned
        self.max_num_seqs = max_num_seqs
        self.budget = budget
        self.blocks = blocks
        self.block_tokens = block_tokens
        self.max_queue = max_queue
        self.drafts = drafts
        self.draw_steps = draw_steps
        self.running: list[_Sequence] = []
        self.waiting: list[_Sequence] = []
        self.unused: list[Content] = []  # kept in free blocks, the least recently used first
        self.sending: list[tuple[float, _Sequence]] = []  # when who has left gives blocks back
        self.looked_s = math.inf  # when the planner looked at the queue; infinity: just now
        self.answered: list[int] = []  # who was, since somebody last asked

    @property
    def free(self) -> int:
        own = sum(sequence.own for sequence in self.holding)
        return self.blocks - own - len(self.shared_by(self.holding))

    @property
    def holding(self) -> list[_Sequence]:
        """Return who holds blocks: who runs, and who has gone on without its KV cache so far."""
        return self.running + [sequence for _, sequence in self.sending]

    def shared_by(self, sequences: Iterable[_Sequence]) -> set[Content]:
        return {content for sequence in sequences for content in sequence.shared}

    def forget(self) -> None:
        """Free blocks that have been taken no longer hold what they held."""
        while len(self.unused) > self.free:
            content: Content | None = self.unused.pop(0)
            for shelf in range(len(self.shelves)):
                if content is not None:
                    content = self.put_away(content, shelf)

    def put_away(self, content: Content, shelf: int) -> Content | None:
        """Put one block on a shelf; return another that has to leave it, if it was full."""
        here, order = self.on[shelf], self.order_on[shelf]
        here.append(content)
        if content[0] in order:
            order.remove(content[0])
        order.append(content[0])
        if len(here) <= self.shelves[shelf][0]:
            return None
        oldest = next(key for key in order if any(c[0] == key for c in here))
        leaves = max(c for c in here if c[0] == oldest)
        here.remove(leaves)
        return leaves

    def shelved(self) -> set[Content]:
        return {content for here in self.on for content in here}

    def look_up(self, sequence: _Sequence) -> list[Content]:
        """Return the leading blocks of a prompt that are here, in use or not."""
        here = self.shared_by(self.holding) | set(self.unused) | self.shelved()
        found: list[Content] = []
        while (content := sequence.record.request.content(len(found))) in here:
            assert content is not None
            found.append(content)
        if sequence.record.request.shareable:
            most = (sequence.prompt_with_emitted - 1) // self.block_tokens
            sequence.cached = min(len(found), most) * self.block_tokens
        return found

    def share(self, sequence: _Sequence, tokens: int) -> None:
        """Let others use the whole blocks of a sequence's first `tokens` tokens."""
        for block in range(len(sequence.shared), tokens // self.block_tokens):
            content = sequence.record.request.content(block)
            if content is None:
                return
            assert content not in self.shared_by(self.holding), "computed twice at once"
            assert content not in self.unused, "computed while it was here"
            assert content not in self.shelved(), "computed while it was on a shelf"
            sequence.own -= 1
            sequence.shared.append(content)

    def give_back(self, sequence: _Sequence) -> None:
        """Free the blocks of a sequence that runs no longer, its tail first."""
        still = self.shared_by(self.holding)
        self.unused += [content for content in reversed(sequence.shared) if content not in still]
        sequence.own, sequence.shared = 0, []
        sequence.kv = sequence.target = 0
        sequence.steps = sequence.done = 0

    def blocks_for(self, tokens: int) -> int:
        return math.ceil(tokens / self.block_tokens)

    # 1. the end of a step

    def finish(self, plan: _Plan, now: float) -> None:
        emitting = sorted(plan.decoded, key=lambda sequence: sequence.index)
        for sequence in plan.decoded:
            self.move_on(sequence)
        for sequence, length in plan.chunks:
            sequence.kv += length
            if sequence.prefilled:
                emitting.append(sequence)
        for sequence in emitting:
            made = sequence.kv - sequence.prompt_with_emitted + 1
            sequence.record.emissions_s += [now] * made
            request = sequence.record.request
            self.charge(request.tenant, self.order.weights[1] * made)
            if sequence.record.emitted == request.output:
                self.leave(sequence, "completed", now)
            elif request.sends_s is not None:
                sequence.record.outcome, sequence.record.left_s = "sent", now
                self.running.remove(sequence)
                self.sending.append((now + request.sends_s, sequence))

    def move_on(self, sequence: _Sequence) -> None:
        """Take a decoded sequence one step on: by a token, or by what its drafts come to."""
        if not self.drafts:
            sequence.kv += 1
            return
        sequence.done += 1
        sequence.kv = math.ceil(sequence.exact_kv)

    def set_out(self, decoded: Sequence[_Sequence]) -> None:
        """Draw the steps of sequences that decode for the first time since they were computed."""
        for sequence in decoded:
            if self.drafts and not sequence.steps:
                assert self.draw_steps is not None
                made = sequence.record.emitted
                sequence.began = sequence.kv
                sequence.to_make = sequence.record.request.output - made
                sequence.steps = self.draw_steps(sequence.index, made, sequence.to_make)

    def leave(self, sequence: _Sequence, outcome: str, now: float) -> None:
        sequence.record.outcome = outcome
        sequence.record.left_s = now
        if outcome == "completed":
            self.answered.append(sequence.index)
        if sequence in self.running:
            self.stop(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def stop(self, sequence: _Sequence) -> None:
        self.share(sequence, sequence.kv)
        if sequence.record.outcome == "completed" and sequence.record.request.forgets:
            prompt = sequence.record.request.prompt // self.block_tokens
            sequence.own += len(sequence.shared[prompt:])
            sequence.shared = sequence.shared[:prompt]
        self.running.remove(sequence)
        self.give_back(sequence)

    # 2. control

    def get_back(self, now: float) -> None:
        """Take back the blocks of those whose KV cache has arrived elsewhere."""
        self.sending.sort(key=lambda item: item[0])
        while self.sending and self.sending[0][0] <= now + SAME_TIME_S:
            _, sequence = self.sending.pop(0)
            self.give_back(sequence)

    def time_out(self, now: float) -> None:
        everybody = self.running + self.waiting
        for sequence in sorted(everybody, key=lambda s: (s.record.request.deadline_s, s.index)):
            if sequence.record.request.deadline_s <= now + SAME_TIME_S:
                self.leave(sequence, "timed_out", now)

    # 3. arrivals

    def join(self, index: int, record: ReferenceRecord) -> None:
        request = record.request
        whole_blocks = min(request.cached, request.prompt - 1) // self.block_tokens
        sequence = _Sequence(index, record, cached=whole_blocks * self.block_tokens)
        if request.made_s is not None:
            record.emissions_s.append(request.made_s)
            sequence.carried = request.prompt
        if self.refuses(request) or self.too_late(sequence):
            self.leave(sequence, "rejected", request.arrival_s)
        else:
            self.waiting.append(sequence)

    def refuses(self, request: ReferenceRequest) -> bool:
        if request.sends_s is not None:
            return self.blocks_for(request.prompt) > self.blocks
        longest = request.prompt + request.output - 1 + self.drafts
        never_fits = self.blocks_for(longest) > self.blocks
        return never_fits or len(self.waiting) >= self.max_queue

    def too_late(self, newcomer: _Sequence) -> bool:
        """Whether a newcomer's first token would miss its promise, at refuse_rate."""
        request = newcomer.record.request
        if self.order.refuse_rate is None or request.promised_s == math.inf:
            return False
        tokens = request.prompt - request.cached
        for sequence in self.running:
            tokens += 0 if sequence.prefilled else sequence.remaining
        for sequence in self.waiting:
            if self.rank(sequence) < self.rank(newcomer) and not sequence.carried:
                tokens += sequence.prompt_with_emitted - sequence.record.request.cached
        return request.arrival_s + tokens / self.order.refuse_rate > request.promised_s

    # 4. planning

    def rank(self, sequence: _Sequence) -> tuple[float, ...]:
        request = sequence.record.request
        first = request.priority if self.order.policy == "priority" else request.promised_s
        return first, request.arrival_s, sequence.index

    def charge(self, tenant: int, tokens: int) -> None:
        self.counters[tenant] = self.counters.get(tenant, 0) + tokens

    def see_newcomers(self) -> None:
        """Lift the counter of each tenant that comes back to the queue."""
        if self.order.policy != "fair":
            return
        for sequence in sorted(self.waiting, key=lambda s: (s.record.request.arrival_s, s.index)):
            if sequence.seen or not self.knows(sequence):
                continue
            tenant = sequence.record.request.tenant
            queued = {other.record.request.tenant for other in self.waiting if other.seen}
            sequence.seen = True
            if tenant in queued:
                continue
            level = 0
            if queued:
                level = min(self.counters.get(other, 0) for other in queued)
            elif self.last_tenant is not None:
                level = self.counters.get(self.last_tenant, 0)
            self.counters[tenant] = max(self.counters.get(tenant, 0), level)

    def bring_forward(self) -> None:
        """Put who is to be served next at the head of the waiting queue."""
        if self.order.policy == "fcfs":
            return
        known = [sequence for sequence in self.waiting if self.knows(sequence)]
        if not known:
            return
        if self.order.policy == "fair":
            tenants = {sequence.record.request.tenant for sequence in known}
            least = min(tenants, key=lambda tenant: (self.counters.get(tenant, 0), tenant))
            known = [s for s in known if s.record.request.tenant == least]
            head = known[0]
        else:
            head = min(known, key=self.rank)
        self.waiting.remove(head)
        self.waiting.insert(0, head)

    def knows(self, sequence: _Sequence) -> bool:
        return sequence.record.request.arrival_s <= self.looked_s + SAME_TIME_S

    def head_fits(self) -> bool:
        """Whether the head of the waiting queue finds a slot and blocks for its whole target."""
        if self.preempted and (self.order != FCFS or self.host_blocks or self.drafts):
            # Nobody is let in in the same step. First come, first served needs no such rule: the
            # victim heads the queue, and does not fit unless all that decode are held back; with
            # drafts it has given back more than it takes to return.
            return False
        self.bring_forward()
        if not self.waiting or len(self.running) >= self.max_num_seqs:
            return False
        if not self.knows(self.waiting[0]):
            return False
        if self.waiting[0].carried:
            return False  # it joins, and is not computed
        found = self.look_up(self.waiting[0])
        in_use = len(self.shared_by(self.holding) & set(found))
        return self.blocks_for(self.waiting[0].prompt_with_emitted) - in_use <= self.free

    def join_carried(self, now: float) -> None:
        """Take in those at the head of the queue whose KV cache has come with them.

        Each needs blocks for its prompt, one more token and drafts, with all others growing.
        """
        self.bring_forward()
        if not self.waiting or not self.waiting[0].carried:
            return
        while self.needed_to_grow() > self.free:
            self.preempt_last()
        while not self.preempted:
            self.bring_forward()
            if not (self.waiting and self.waiting[0].carried and self.knows(self.waiting[0])):
                return
            sequence = self.waiting[0]
            room = self.free - self.needed_to_grow()
            if len(self.running) >= self.max_num_seqs:
                return
            if self.blocks_for(sequence.carried + 1 + self.drafts) > room:
                return
            self.waiting.pop(0)
            sequence.kv = sequence.target = sequence.carried
            sequence.own = self.blocks_for(sequence.carried)
            if sequence.record.request.made_s is None:
                self.moved += sequence.own
            self.last_tenant = sequence.record.request.tenant
            sequence.carried = 0
            if sequence.record.admitted_s is None:
                sequence.record.admitted_s = now
            self.running.append(sequence)

    def short_of(self, sequence: _Sequence) -> int:
        """Return the blocks a sequence lacks for its next token and the drafts after it."""
        return self.blocks_for(sequence.kv + 1 + self.drafts) - sequence.blocks

    def needed_to_grow(self) -> int:
        return sum(self.short_of(s) for s in self.running if s.prefilled)

    def admit(self, now: float) -> _Sequence:
        sequence = self.waiting.pop(0)
        request = sequence.record.request
        self.last_tenant = request.tenant
        if sequence.record.admitted_s is None:
            self.charge(request.tenant, self.order.weights[0] * request.prompt)
        sequence.shared = self.look_up(sequence)
        self.unused = [content for content in self.unused if content not in sequence.shared]
        for shelf, (_, each_s) in enumerate(self.shelves):
            for content in sequence.shared:
                if content in self.on[shelf]:
                    self.on[shelf].remove(content)
                    self.fetching_s += each_s
        sequence.target = sequence.prompt_with_emitted
        sequence.kv = sequence.cached
        sequence.own = self.blocks_for(sequence.target) - len(sequence.shared)
        if sequence.record.admitted_s is None:
            sequence.record.admitted_s = now
            sequence.record.found = sequence.cached
        sequence.record.recomputed += max(0, sequence.lost - sequence.cached)
        sequence.lost = 0
        self.running.append(sequence)
        self.forget()
        return sequence

    def schedule(self, plan: _Plan, sequence: _Sequence, most: int) -> int:
        """Compute up to `most` tokens of a prompt in the next step; return how many.

        Whoever is admitted after that, into this very step too, may share their blocks.
        """
        length = min(sequence.remaining, most)
        plan.chunks.append((sequence, length))
        self.share(sequence, sequence.kv + length)
        return length

    def preempt_last(self) -> None:
        sequence = self.running[-1]
        if self.order.policy == "priority":
            sequence = max(self.running, key=self.rank)
        self.preempted = True
        in_host = sum(self.blocks_for(other.carried) for other in self.waiting)
        filled = self.blocks_for(sequence.kv)  # of its blocks; those taken for drafts hold nothing
        if sequence.prefilled and filled <= self.host_blocks - in_host:
            self.moved += filled
            sequence.carried = sequence.kv
        elif sequence.record.request.shareable:
            sequence.lost = sequence.kv
        else:
            sequence.record.recomputed += sequence.kv - sequence.cached
        self.stop(sequence)
        sequence.record.preemptions += 1
        self.waiting.insert(0, sequence)

    def decode_all(self) -> tuple[list[_Sequence], bool]:
        """Give every decoding sequence room for one more token, preempting as needed.

        Return the sequences to decode and whether anyone was preempted.
        """
        preempted = False
        while True:
            decoding = [sequence for sequence in self.running if sequence.prefilled]
            if sum(self.short_of(sequence) for sequence in decoding) <= self.free:
                break
            self.preempt_last()
            preempted = True
        for sequence in decoding:
            sequence.own += self.short_of(sequence)
        self.set_out(decoding)
        self.forget()
        return decoding, preempted

    def check(self) -> None:
        """Every KV token has its block, nobody holds a spare one, and the pool is finite."""
        assert self.free >= len(self.unused)
        for here, (room, _) in zip(self.on, self.shelves, strict=True):
            assert len(here) <= room
        assert sum(map(len, self.on)) == len(self.shelved())
        assert not self.shelved() & (set(self.unused) | self.shared_by(self.holding))
        assert not self.shared_by(self.holding) & set(self.unused)
        assert len(self.running) <= self.max_num_seqs
        assert all(sequence.blocks == 0 for sequence in self.waiting)
        for sequence in self.running:
            if sequence.prefilled:
                assert sequence.kv == sequence.prompt_with_emitted - 1
                ahead = self.blocks_for(sequence.kv + self.drafts)
                assert self.blocks_for(sequence.kv) <= sequence.blocks <= ahead
            else:
                assert sequence.blocks == self.blocks_for(sequence.target)


def _plan_chunked(replica: _Replica, now: float) -> _Plan:
    """Decode first; prompt chunks fill what is left of the token budget."""
    decoded, preempted = replica.decode_all()
    plan = _Plan(decoded)
    left = replica.budget - len(decoded) * (1 + replica.drafts)
    for sequence in replica.running:
        if not sequence.prefilled and left > 0:
            left -= replica.schedule(plan, sequence, left)
    while not preempted and left > 0 and replica.head_fits():
        left -= replica.schedule(plan, replica.admit(now), left)
    return plan


def _plan_continuous(replica: _Replica, now: float) -> _Plan:
    """Prefill first, whole prompts; decodes wait while anyone can be admitted."""
    plan = _Plan()
    tokens = 0
    while replica.head_fits():
        head = replica.waiting[0]
        tokens += head.prompt_with_emitted - head.cached
        if plan.chunks and tokens > replica.budget:
            break
        sequence = replica.admit(now)
        replica.schedule(plan, sequence, sequence.remaining)
    if plan.empty:
        plan.decoded, _ = replica.decode_all()
    return plan


def _plan_static(replica: _Replica, now: float) -> _Plan:
    """Serve one batch from prefill to its last token before looking at the queue again."""
    plan = _Plan()
    if replica.running:
        plan.decoded, _ = replica.decode_all()
        return plan
    while replica.head_fits():
        sequence = replica.admit(now)
        replica.schedule(plan, sequence, sequence.remaining)
    return plan


_POLICIES: dict[str, Callable[[_Replica, float], _Plan]] = {
    "chunked": _plan_chunked,
    "continuous": _plan_continuous,
    "static": _plan_static,
}


def run_reference(
    requests: Sequence[ReferenceRequest],
    *,
    policy: str,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    blocks: int,
    block_tokens: int = 16,
    physics_by_clock: Mapping[float, Physics],
    clock_changes: Sequence[tuple[float, float]],
    max_queue: int | None = None,
    async_scheduling: bool = False,
    order: Order | None = None,
    host_blocks: int = 0,
    move_s: float = 0.0,
    shelves: Sequence[tuple[int, float]] = (),
    drafts: int = 0,
    draw_steps: DrawSteps | None = None,
) -> ReferenceRun:
    """Serve `requests` until all have left; return their records, and `.steps`.

    policy: chunked, continuous or static; static has no token budget and does not look at
    max_num_batched_tokens. clock_changes: (time in seconds, clock) in order of time; the first
    clock holds from the start, whatever its time. max_queue: None for a queue without bound.
    async_scheduling: whether a step is planned while the one before runs. order: of the queue.
    host_blocks: KV blocks of victims that fit into host memory; to move one there or back delays
    the next step by move_s. shelves: where KV blocks go that others may find once they are
    forgotten: (how many fit, seconds by which each that is brought back delays the next step); what
    has to leave one goes to the next. drafts: tokens drafted
    of every decoding sequence in a step; draw_steps: in how many steps a request (its number, the
    tokens it has made) makes so many more. In between it is where even steps bring it, and what it
    has emitted is that, rounded up.
    """
    for request in requests:
        assert request.prompt >= 1 and request.output >= 1 and 0 <= request.cached < request.prompt
        assert not (request.cached and request.shareable)
    assert max_num_seqs >= 1 and max_num_batched_tokens >= 1
    assert policy != "chunked" or max_num_batched_tokens >= max_num_seqs * (1 + drafts)
    assert list(clock_changes) == sorted(clock_changes, key=lambda change: change[0])
    plan_step = _POLICIES[policy]
    replica = _Replica(
        max_num_seqs=max_num_seqs,
        budget=max_num_batched_tokens,
        blocks=blocks,
        block_tokens=block_tokens,
        max_queue=math.inf if max_queue is None else max_queue,
        order=order,
        host_blocks=host_blocks,
        move_s=move_s,
        shelves=shelves,
        drafts=drafts,
        draw_steps=draw_steps,
    )
    run = ReferenceRun(ReferenceRecord(request) for request in requests)
    arrivals = [item for item in enumerate(run) if item[1].request.follows is None]
    arrivals.sort(key=lambda item: item[1].request.arrival_s)
    in_turn = any(request.follows is not None for request in requests)
    changes = list(clock_changes)
    _, clock = changes.pop(0)
    plan = _Plan()
    joins_running = policy != "static"

    def next_accepted_s() -> float | None:
        while arrivals and replica.refuses(arrivals[0][1].request):
            replica.join(*arrivals.pop(0))
        return arrivals[0][1].request.arrival_s if arrivals else None

    def go_on() -> None:
        """Let those send who have waited for the answers that are there now."""
        if not in_turn:
            return
        while replica.answered:
            before = replica.answered.pop(0)
            for index, record in enumerate(run):
                request = record.request
                if request.follows == before:
                    sent_s = now + request.arrival_s
                    patience_s = request.deadline_s
                    record.request = replace(
                        request, arrival_s=sent_s, deadline_s=sent_s + patience_s, follows=None
                    )
                    arrivals.append((index, record))
        arrivals.sort(key=lambda item: item[1].request.arrival_s)

    now = next_accepted_s()
    while now is not None:
        while arrivals and arrivals[0][1].request.arrival_s < now - SAME_TIME_S:
            replica.join(*arrivals.pop(0))
        replica.get_back(now - 2 * SAME_TIME_S)
        replica.finish(plan, now)
        go_on()
        while changes and changes[0][0] <= now + SAME_TIME_S:
            _, clock = changes.pop(0)
        replica.get_back(now)
        replica.time_out(now)
        while arrivals and arrivals[0][1].request.arrival_s <= now + SAME_TIME_S:
            replica.join(*arrivals.pop(0))
        replica.check()
        planned_ahead = async_scheduling and replica.running
        replica.looked_s = run.steps[-1].start_s if planned_ahead else math.inf

        replica.preempted, replica.moved, replica.fetching_s = False, 0, 0.0
        replica.see_newcomers()
        if joins_running or not replica.running:
            replica.join_carried(now)
        plan = plan_step(replica, now)
        if plan.empty:
            assert not replica.running
            if replica.waiting:  # for blocks that are still to be sent
                wakes = [time for time, _ in replica.sending]
                wakes += [s.record.request.deadline_s for s in replica.waiting]
                now = min([*wakes, *(record.request.arrival_s for _, record in arrivals)])
            else:
                now = next_accepted_s()
            continue

        step = _measure(replica, plan, now, clock, physics_by_clock[clock])
        run.steps.append(step)
        now = step.end_s
    return run


def _measure(
    replica: _Replica, plan: _Plan, now: float, clock: float, physics: Physics
) -> ReferenceStep:
    if replica.drafts:
        sees = Fraction(sum(range(1, replica.drafts + 2)), replica.drafts + 1)
        contexts = [float(sequence.exact_kv + sees) for sequence in plan.decoded]
        made = float(sum(Fraction(s.to_make, s.steps) for s in plan.decoded))
    else:
        contexts = [sequence.kv + 1 for sequence in plan.decoded]
        made = len(plan.decoded)
    chunks = tuple((sequence.kv, length) for sequence, length in plan.chunks)
    finishing = sum(length == sequence.remaining for sequence, length in plan.chunks)
    sampled = len(plan.decoded) + finishing
    work = (contexts, chunks, sampled)
    moving_s = replica.moved * replica.move_s + replica.fetching_s
    images = 0
    for sequence, _ in plan.chunks:
        images += 0 if sequence.looked else sequence.record.request.images
        sequence.looked = True
    if images:
        moving_s += physics.images_s(images)
    duration_s = physics.step_s(*work) + moving_s
    assert duration_s > 0
    return ReferenceStep(
        start_s=now,
        end_s=now + duration_s,
        clock=clock,
        decoded=tuple(sequence.index for sequence in plan.decoded),
        prefilled=tuple(sequence.index for sequence, _ in plan.chunks),
        context=sum(contexts),
        chunks=chunks,
        sampled=sampled,
        running=len(replica.running),
        waiting=len(replica.waiting),
        known=sum(replica.knows(sequence) for sequence in replica.waiting),
        blocks_in_use=replica.blocks - replica.free,
        energy_j=(
            physics.paused_power_w(*work, moving_s) if moving_s else physics.step_power_w(*work)
        )
        * duration_s,
        made=made + finishing,
    )
