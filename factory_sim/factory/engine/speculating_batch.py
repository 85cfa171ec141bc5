"""A batch whose sequences make several tokens a step: drafts are verified, some are accepted.

Like a walker whose every pace has a length of its own: how many paces the way takes is known when
he sets out, and in between he is taken to be where even paces would have brought him. So contexts
still grow by the same number in each step, and any number of steps is one closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappush
from typing import Any

from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.drafted_kv import DraftedBlocks, Stay
from factory_sim.factory.engine.drafted_windows import DraftedWindows
from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.engine.ledger import Ledger
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.stretch import Stretch, prompts_share
from factory_sim.metrics.totals import Totals
from factory_sim.physics.power import StepPower
from factory_sim.physics.step_time import StepTime


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
        self, steps: int, n: int, context: float, windowed: float = 0, filling: float = 0
    ) -> None:
        """Make it `steps` decode steps of `n` sequences.

        context: with a token of each sequence; of k + 1 tokens the mean one sees k / 2 more.
        windowed: what that one sees of windows, which grow by `filling`.
        """
        super().decode(steps, n, context + n * self.drafts / 2, windowed, filling)
        self.tokens, self.verifying = self.rate, n
        step_time = self.step_time
        growth_s = step_time.per_context[0] * self.rate + step_time.per_windowed[0] * filling
        self.growth_s = growth_s
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
        drafting_s += self.windowed * step_time.per_windowed.drafting_s
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
    """The batch of a replica with speculative decoding. drafts: draws how it fares."""

    kv: DraftedBlocks
    windows: DraftedWindows | None
    stretch: DraftedStretch
    ledger: DraftedLedger

    def __init__(self, *batch: Any, drafts: Drafts, **more: Any) -> None:
        super().__init__(*batch, **more)
        assert isinstance(self.kv, DraftedBlocks) and self.kv.drafts == drafts.tokens
        if self.windows is not None:
            self.windows = DraftedWindows(self.windows.tokens, drafts.tokens)
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
        self._squeezed |= len(self.running) < running

    def plan(self, now: float) -> bool:
        """Plan the next stretch; return False when there is nothing to do.

        It is one step long where somebody was preempted, who may come back right after.
        """
        self._squeezed = False
        going = super().plan(now)
        if not going:
            self.stretch.rate = 0.0  # as of a rank that only comes along
        if self._squeezed:
            self.stretch.cut(now)
        return going

    def advance(self) -> tuple[float, list[Request]]:
        """Carry out the stretch; return the time at its end and who has finished then."""
        if self._decodes and self.decoding:
            self.context += (self._rate - self.decoding) * self.stretch.steps
        step = self._step
        done = super().advance()
        self.kv.forget(step, self._step)
        if not self.decoding:
            self.context = self._rate = 0.0  # and no rounding
            if self.windows is not None:
                self.windows.clear()
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
        windows = self.windows
        if windows is not None:
            inside = sum(windows.inside(stays[request], step) for request in decoding)
            assert math.isclose(inside, windows.context, rel_tol=1e-9, abs_tol=1e-6), (
                "window tokens are lost"
            )

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
        if self.windows is not None:
            self.windows.end(request, stay, step)
        # The last of its tokens was booked in part, and is out as a whole.
        rest = stay.stored + made - position
        self.ledger.output_tokens += rest
        self.ledger.accepted += rest
        return stay.stored + made

    def _start_decoding(self, request: Request, finished: list[Request]) -> None:
        """Let a request decode from the next step on."""
        step, left = self._step, request.output - request.emitted
        steps = self.drafts.steps(request.lot, request.emitted, left)
        self._stays[request] = stay = Stay(step, request.stored, left, steps)
        request.finish_step = step + steps
        ending = (request.finish_step, request.number, request.preemptions, request)
        heappush(self._finishing, ending)
        self.kv.begin(stay)
        self.decoding += 1
        self.context += stay.stored
        self._rate += stay.rate
        if self.windows is not None:
            self.windows.begin(request, stay)
        if self.answers is not None and request.emitted <= request.reasoning:
            self.answers.expect(request, stay.step_of(request.reasoning + 1 - request.emitted))

    def _plan_mixed(self, n: int) -> None:
        stretch = self.stretch
        stretch.rate, stretch.verifying = (self._rate, n) if n else (0.0, 0)
        context = windowed = 0.0
        if n:
            context = self.context + n * (1.0 + stretch.drafts / 2)
            if self.windows is not None:
                windowed = self.windows.attended
        sampled = n + self._completing
        cost = stretch.prompt_time.mixed(n, context, windowed, self.chunks, sampled)
        far, near = stretch.prompt_time.per_context[0], stretch.prompt_time.per_windowed[0]
        context_s = far * context + near * windowed
        prompt, verified = sum(c[1] for c in self.chunks), n * (1.0 + stretch.drafts)
        prompts = prompts_share(cost[0], context_s, prompt, verified)
        stretch.one(cost, n + len(self.chunks), stretch.rate + self._completing, prompts)

    def _steps_ahead(self, n: int) -> int:
        steps = super()._steps_ahead(n)
        if self.kv.need(self._step, steps, n) > self.kv.free:
            steps = self.kv.steps_that_fit(self._step, n)
        self.stretch.rate = self._rate
        return steps
