"""A batch whose sequences make several tokens a step: drafts are verified, some are accepted.

Like a walker whose every pace has a length of its own: how many paces the way takes is known when
he sets out, and in between he is taken to be where even paces would have brought him. So contexts
still grow by the same number in each step, and any number of steps is one closed form.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import heappush
from typing import Any, NamedTuple

from factory_sim.factory.async_batch import AsyncBatch
from factory_sim.factory.batch import Batch
from factory_sim.factory.drafts import Drafts
from factory_sim.factory.kv import KvBlocks
from factory_sim.factory.ledger import Ledger
from factory_sim.factory.request import Request
from factory_sim.factory.stretch import Stretch
from factory_sim.metrics.totals import Totals
from factory_sim.physics.power import StepPower
from factory_sim.physics.step_time import StepTime

ENDLESS = 2**62
"""Steps, where no block will be taken any more."""


class Stay(NamedTuple):
    """A sequence's time among those that decode.

    It began at decode step `begun` with `stored` tokens in the KV cache, and makes `left` more in
    `steps` steps: after the m-th of them it is at m left / steps, and what it has emitted is that,
    rounded up.
    """

    begun: int
    stored: int
    left: int
    steps: int

    @property
    def rate(self) -> float:
        """Return the tokens it makes in a step."""
        return self.left / self.steps

    def emitted(self, step: int) -> int:
        """Return the tokens it has made by decode step `step`."""
        return -(-(step - self.begun) * self.left // self.steps)

    def position(self, step: int) -> float:
        """Return the tokens it has in the KV cache at decode step `step`, not rounded."""
        return self.stored + (step - self.begun) * self.left / self.steps


class DraftedBlocks(KvBlocks):
    """KV blocks of sequences that need room for `drafts` tokens more in every step.

    Like vLLM's lookahead slots, these are taken before a step and kept after it. So a step takes
    the block whose first token it may write, and the steps in which a stay does are known when it
    begins. At most one a step: fewer tokens are drafted than a block holds.
    """

    __slots__ = ("_due_at", "_last", "drafts")

    def __init__(self, total: int, block_tokens: int, drafts: int) -> None:
        if drafts >= block_tokens:
            raise ValueError('"drafts" must be fewer than "block_tokens".')
        super().__init__(total, block_tokens)
        self.drafts = drafts
        self._due_at: defaultdict[int, int] = defaultdict(int)  # blocks by the step that takes them
        self._last = 0

    def clear(self) -> None:
        """Forget every sequence; all blocks are free."""
        super().clear()
        self._due_at.clear()

    def begin(self, stay: Stay) -> None:
        """A stay begins; the blocks of its prompt are taken already."""
        due_at = self._due_at
        for step in self._dues(stay):
            due_at[step] += 1
            self._last = max(self._last, step)

    def end(self, stay: Stay, step: int) -> None:
        """A stay ends with decode step `step`; give its blocks back."""
        due_at = self._due_at
        for due in self._dues(stay):
            if due >= step:
                due_at[due] -= 1
        self.free += self.held(stay, step)

    def held(self, stay: Stay, step: int) -> int:
        """Return the blocks that a stay has before decode step `step`."""
        if step == stay.begun:
            return self.blocks(stay.stored)
        return self.blocks(stay.stored + stay.emitted(step - 1) + self.drafts + 1)

    def forget(self, first: int, step: int) -> None:
        """Forget what was due from step `first` to before `step`: it is taken."""
        for due in range(first, step):
            self._due_at.pop(due, None)

    def need(self, step: int, steps: int, growing: int) -> int:
        """Return the blocks that the sequences take in `steps` steps from `step` on."""
        due_at = self._due_at
        if steps == 1:
            return due_at.get(step, 0)
        return sum([due_at.get(due, 0) for due in range(step, step + steps)])

    def steps_that_fit(self, step: int, growing: int) -> int:
        """Return how many steps from `step` on the free blocks allow; ENDLESS if all of them."""
        left = self.free
        for due in range(step, self._last + 1):
            left -= self._due_at.get(due, 0)
            if left < 0:
                return due - step
        return ENDLESS

    def _dues(self, stay: Stay) -> Iterator[int]:
        """Yield the steps of a stay that take a block.

        The next after b blocks is the first with stored + emitted + drafts + 1 > b block_tokens.
        """
        begun, stored, left, steps = stay
        short = self.blocks(stored) * self.block_tokens - stored - self.drafts
        while True:
            done = (short - 1) * steps // left + 1 if short > 0 else 0
            if done >= steps:
                return
            yield begun + done
            short += self.block_tokens


class DraftedStretch(Stretch):
    """A stretch whose steps verify drafts.

    drafts: of each sequence. rate: tokens that all who decode in it make in a step, and by which
    their contexts grow. verifying: how many they are.
    """

    __slots__ = ("drafts", "rate", "verifying")

    def __init__(self, step_time: StepTime, power: StepPower, drafts: int) -> None:
        super().__init__(step_time, power)
        self.drafts, self.rate, self.verifying = drafts, 0.0, 0

    def decode(
        self, steps: int, n: int, context: float, windowed: int = 0, filling: int = 0
    ) -> None:
        """Make it `steps` decode steps of `n` sequences.

        context: with a token of each sequence; of k + 1 tokens the mean one sees k / 2 more.
        """
        super().decode(steps, n, context + n * self.drafts / 2)
        self.tokens, self.verifying = self.rate, n
        self.growth_s = growth_s = self.step_time.per_context[0] * self.rate
        self.end_s = self.start_s + steps * (self.first_s + growth_s * (steps - 1) / 2)

    def book(self, ledger: Ledger, steps: float) -> None:
        """Book the first `steps` steps."""
        super().book(ledger, steps)
        assert isinstance(ledger, DraftedLedger)
        ledger.verified += steps * self.verifying
        ledger.accepted += steps * (self.rate - self.verifying)


class DraftedLedger(Ledger):
    """A ledger that tells drafts apart.

    drafting_s: of the steps with prompt chunks. verified: steps of every sequence, summed;
    accepted: tokens made in them beyond one each.
    """

    __slots__ = ("accepted", "drafting_s", "verified")

    def __init__(self) -> None:
        super().__init__()
        self.drafting_s = self.verified = self.accepted = 0.0

    def copy(self) -> DraftedLedger:
        """Return a ledger with the same sums, to add to."""
        other = DraftedLedger()
        for name in (*Ledger.__slots__, *self.__slots__):
            setattr(other, name, getattr(self, name))
        other.steps = self.steps.copy()
        return other

    def mixed(self, cost: Any, share: float = 1.0) -> None:
        """Book the causes of (`share` of) a step with prompt chunks."""
        super().mixed(cost, share)
        self.drafting_s += share * cost.drafting_s

    def totals(self, step_time: StepTime) -> Totals:
        """Return the sums by cause. step_time: of any clock; causes are at the reference."""
        found = super().totals(step_time)
        drafting_s = self.drafting_s + self.context * step_time.per_context.drafting_s
        drafting_s += sum(
            count * step_time.decode(sequences).drafting_s
            for sequences, count in self.steps.items()
        )
        return found._replace(
            throttled_s=found.throttled_s - drafting_s,
            drafting_s=drafting_s,
            verified=self.verified,
            accepted=self.accepted,
        )


class SpeculatingBatch(Batch):
    """The batch of a replica with speculative decoding. drafts: draws how it fares.

    Sliding windows and a prefix cache are others' business: `step_time` has no window.
    """

    kv: DraftedBlocks
    stretch: DraftedStretch
    ledger: DraftedLedger

    def __init__(self, *batch: Any, drafts: Drafts) -> None:
        super().__init__(*batch)
        assert self.windows is None and isinstance(self.kv, DraftedBlocks)
        assert self.kv.drafts == drafts.tokens
        self.drafts = drafts
        self.tokens_each = drafts.tokens + 1
        self.ledger = DraftedLedger()
        self.stretch = DraftedStretch(self.stretch.step_time, self.stretch.power, drafts.tokens)
        room = self.kv.total * self.kv.block_tokens + 1 - drafts.tokens
        self._longest = min(self._longest, room)
        self._stays: dict[Request, Stay] = {}
        self._rate = 0.0
        self._squeezed = False  # somebody was preempted for the step being filled

    def admit(self, most: int | None = None) -> Request | None:
        """Admit the head of the queue, but in a step for which somebody was preempted.

        As in vLLM: what it gave back, drafts included, may be more than it takes to return.
        """
        return None if self._squeezed else super().admit(most)

    def make_room(self) -> None:
        """Preempt until every decoding sequence has blocks for its token and its drafts."""
        running = len(self.running)
        super().make_room()
        self._squeezed = len(self.running) < running

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do.

        It is one step long where somebody was preempted, who may come back right after.
        """
        going = super().plan(now)
        if self._squeezed:
            self.stretch.cut(now)
        return going

    def advance(self) -> tuple[float, list[Request]]:
        """Carry out the stretch; return the time at its end and who has finished then."""
        if self._decodes and self.decoding:
            self.context += (self._rate - self.decoding) * self.stretch.steps
        self._squeezed = False
        step = self._step
        done = super().advance()
        self.kv.forget(step, self._step)
        if not self.decoding:
            self.context = self._rate = 0.0  # and no rounding
        return done

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything at `now`."""
        lost = super().abandon(now, stepping)
        self._stays.clear()
        self._rate, self._squeezed = 0.0, False
        return lost

    # -- inside ------------------------------------------------------------------------

    def _check_context(self, decoding: Sequence[Request]) -> None:
        stays, step = self._stays, self._step
        assert list(stays) == decoding or set(stays) == set(decoding), "stays are lost"
        context = sum(stays[request].position(step) for request in decoding)
        assert math.isclose(context, self.context, rel_tol=1e-9, abs_tol=1e-6), "context is lost"
        rate = sum(stays[request].rate for request in decoding)
        assert math.isclose(rate, self._rate, rel_tol=1e-9, abs_tol=1e-9), "tokens are lost"

    def _stored(self, request: Request, ahead: int = 0) -> int:
        stay = self._stays[request]
        return stay.stored + stay.emitted(self._step + ahead)

    def _held_blocks(self) -> int:
        kv, step = self.kv, self._step
        decoding = sum(kv.held(stay, step) for stay in self._stays.values())
        return decoding + sum(request.blocks for request in self.prefilling)

    def _leave(self, request: Request, now: float) -> int:
        """Take a request, already out of `running`, out of every count; return its tokens."""
        if request.left:
            return super()._leave(request, now)
        stay, step = self._stays.pop(request), self._step
        made, position = stay.emitted(step), stay.position(step)
        request.emitted += made
        request.finish_step = -1
        if made:
            request.last_token_s = self._decoded_s
        if self._stalls:
            self._stalls.leave(request.last_token_s)
        self.kv.end(stay, step)
        self.decoding -= 1
        self.context -= position
        self._rate -= stay.rate
        # The last of its tokens was booked in part, and is out as a whole.
        rest = stay.stored + made - position
        self.ledger.output_tokens += rest
        self.ledger.accepted += rest
        return stay.stored + made

    def _start_decoding(self, request: Request, finished: list[Request]) -> None:
        """Let a request decode from the next step on."""
        step, left = self._step, request.output - request.emitted
        steps = self.drafts.steps(request.number, request.emitted, left)
        self._stays[request] = stay = Stay(step, request.stored, left, steps)
        request.finish_step = step + steps
        ending = (request.finish_step, request.number, request.preemptions, request)
        heappush(self._finishing, ending)
        self.kv.begin(stay)
        self.decoding += 1
        self.context += stay.stored
        self._rate += stay.rate

    def _plan_mixed(self, n: int) -> None:
        stretch = self.stretch
        stretch.rate, stretch.verifying = (self._rate, n) if n else (0.0, 0)
        context = self.context + n * (1.0 + stretch.drafts / 2) if n else 0.0
        sampled = n + self._completing
        cost = stretch.prompt_time.mixed(n, context, 0, self.chunks, sampled)
        stretch.one(cost, n + len(self.chunks), stretch.rate + self._completing)

    def _steps_ahead(self, n: int) -> int:
        steps = super()._steps_ahead(n)
        if self.kv.need(self._step, steps, n) > self.kv.free:
            steps = self.kv.steps_that_fit(self._step, n)
        self.stretch.rate = self._rate
        return steps


class AsyncSpeculatingBatch(SpeculatingBatch, AsyncBatch):
    """The same of an engine with asynchronous scheduling."""
