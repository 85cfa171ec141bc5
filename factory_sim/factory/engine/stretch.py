"""A stretch of steps in which nobody comes or goes, as one closed form.

Like a lift between two floors: nothing changes but its height. In a stretch of decode steps n
sequences with C context tokens take `first + growth * j` seconds in the j-th step, and k steps
together `first * k + growth * k (k - 1) / 2`. A step with prompt chunks is a stretch of one.
"""

from __future__ import annotations

from math import ceil, floor, inf, sqrt

from factory_sim.factory.engine.ledger import Ledger
from factory_sim.physics.power import StepPower
from factory_sim.physics.step_time import Cost, StepTime

INSTANT = 1e-9
"""Seconds within which two times are equal."""


class Stretch:
    """The steps under way: `steps` of them from `start_s` to `end_s`.

    cost: of a step, but for the context in decode steps. sequences: in each step, decoding or
    with a chunk. prompt_time, prompt_power: of steps with chunks, where these run at a clock of
    their own; prompts: the share of such a step that is theirs. tokens: made in each step, by which
    the context of decode steps grows. context, windowed: tokens attended to in the first decode
    step, in layers with full attention and in those with a sliding window, which grow by `filling`
    tokens a step. kv_blocked: work waits for blocks.
    """

    __slots__ = (
        "context",
        "cost",
        "end_s",
        "filling",
        "first_s",
        "growth_s",
        "kv_blocked",
        "mixed",
        "power",
        "prompt_power",
        "prompt_time",
        "prompts",
        "sequences",
        "start_s",
        "step_time",
        "steps",
        "tokens",
        "windowed",
    )

    def __init__(self, step_time: StepTime, power: StepPower) -> None:
        self.step_time, self.power = step_time, power
        self.prompt_time, self.prompt_power = step_time, power
        self.start_s = self.end_s = self.first_s = self.growth_s = 0.0
        self.steps = self.sequences = 0
        self.tokens: float = 0
        self.context: float = 0
        self.windowed: float = 0
        self.filling: float = 0
        self.cost = Cost(0.0)
        self.mixed = self.kv_blocked = False
        self.prompts = 1.0

    def one(self, cost: Cost, sequences: int, tokens: float, prompts: float = 1.0) -> None:
        """Make it one step with prompt chunks, of which a share is the prompts'."""
        self.mixed, self.steps, self.cost, self.prompts = True, 1, cost, prompts
        self.first_s = step_s = cost[0]
        self.growth_s = 0.0
        self.end_s = self.start_s + step_s
        self.sequences, self.tokens = sequences, tokens

    def decode(
        self, steps: int, n: int, context: float, windowed: float = 0, filling: float = 0
    ) -> None:
        """Make it `steps` decode steps of `n` sequences."""
        self.mixed = False
        step_time = self.step_time
        self.cost = cost = step_time.decode(n)
        self.sequences = self.tokens = n
        self.context, self.windowed, self.filling = context, windowed, filling
        per_token_s = step_time.per_context[0]
        first_s, growth_s = cost[0] + per_token_s * context, per_token_s * n
        if windowed:
            per_token_s = step_time.per_windowed[0]
            first_s += per_token_s * windowed
            growth_s += per_token_s * filling
        self.steps, self.first_s, self.growth_s = steps, first_s, growth_s
        self.end_s = self.start_s + steps * (first_s + growth_s * (steps - 1) / 2)

    def time_after(self, steps: int) -> float:
        """Return when the first `steps` steps have passed."""
        return self.start_s + steps * (self.first_s + self.growth_s * (steps - 1) / 2)

    def last_start_s(self) -> float:
        """Return when the last step starts."""
        return self.end_s - (self.first_s + self.growth_s * (self.steps - 1))

    def cut(self, time: float, more: int = 0) -> bool:
        """End at the first boundary at `time` or later; return whether that is earlier.

        more: steps to take beyond that boundary.
        """
        first, half, last = self.first_s, self.growth_s / 2, self.steps - 1 - more
        target = time - self.start_s - INSTANT
        if last < 1 or last * (first + half * (last - 1)) < target:
            return False
        steps = max(1, ceil(self._steps_in(target)))
        # Mend what rounding may have done to the root.
        while steps > 1 and (steps - 1) * (first + half * (steps - 2)) >= target:
            steps -= 1
        while steps * (first + half * (steps - 1)) < target:
            steps += 1
        self.steps = steps = steps + more
        self.end_s = self.start_s + steps * (first + half * (steps - 1))
        return True

    def steps_by(self, now: float) -> float:
        """Return the steps done by `now`, the one under way by the share that has passed."""
        return self.steps if now >= self.end_s else self._steps_in(now - self.start_s)

    def book(self, ledger: Ledger, steps: float) -> None:
        """Book the first `steps` steps."""
        half = (steps - 1) / 2
        busy_s = steps * (self.first_s + self.growth_s * half)
        ledger.busy_s += busy_s
        energy_j = self.energy_j(steps)
        ledger.energy_j += energy_j
        ledger.output_tokens += self.tokens * steps
        ledger.sequence_s += self.sequences * busy_s
        if self.mixed:
            ledger.prefill_j += energy_j
            ledger.prompt_j += energy_j * self.prompts
            ledger.mixed(self.cost, steps)
        elif self.kv_blocked:
            ledger.kv_full_s += busy_s
        else:
            n = self.sequences
            ledger.steps[n] += steps
            ledger.context += steps * (self.context + self.tokens * half)
            if self.windowed:
                ledger.windowed += steps * (self.windowed + self.filling * half)

    def energy_j(self, steps: float) -> float:
        """Return the joules of the first `steps` steps, on each GPU.

        The middle step stands for all while contexts grow little; its error and that of
        Simpson's rule are under 0.1 % (tests compare them with the plain sum).
        """
        cost = self.cost
        if self.mixed:
            return steps * self.prompt_power.energy_j(cost[0], cost[5], cost[6])
        half = (steps - 1) / 2
        grown = self.tokens * half
        # A rank's steps grow with those of the slowest, whatever its own contexts do.
        if grown > 0.05 * self.context or self.growth_s * half > 0.05 * self.first_s:
            return self._simpson(steps)
        context, far = self.context + grown, self.step_time.per_context
        computing_s, moving_s = cost[5] + context * far[5], cost[6] + context * far[6]
        if self.windowed:
            filled = self.filling * half
            if filled > 0.05 * self.windowed:
                return self._simpson(steps)
            windowed, near = self.windowed + filled, self.step_time.per_windowed
            computing_s += windowed * near[5]
            moving_s += windowed * near[6]
        step_s = self.first_s + self.growth_s * half
        return steps * self.power.energy_j(step_s, computing_s, moving_s)

    def _simpson(self, steps: float) -> float:
        """Return the joules of the first `steps` decode steps, on each GPU.

        Simpson's rule for a sum, exact where a step's energy is quadratic in its number, over
        pieces in which no context more than doubles: power is no polynomial of it.
        """
        energy_j, start = 0.0, 0.0
        while start < steps:
            piece = min(steps - start, 1.0 + floor(self._steps_to_double(start)))
            last = piece - 1.0
            middle = self._step_j(start + last / 2.0)
            energy_j += piece * middle
            if last > 1e-3:  # a piece of one step, or less, is its middle
                ends = self._step_j(start) + self._step_j(start + last)
                energy_j += (ends - 2.0 * middle) * piece * (piece + 1.0) / (6.0 * last)
            start += piece
        return energy_j

    def _steps_to_double(self, start: float) -> float:
        """Return the steps after `start` in which contexts, windowed or not, or times double."""
        steps = self.context / self.tokens + start if self.tokens else inf
        if self.growth_s:
            steps = min(steps, self.first_s / self.growth_s + start)
        if self.filling:
            steps = min(steps, self.windowed / self.filling + start)
        return steps

    def _step_j(self, number: float) -> float:
        """Return the joules of decode step `number`, on each GPU."""
        cost = self.cost
        far, near = self.step_time.per_context, self.step_time.per_windowed
        context = self.context + self.tokens * number
        windowed = self.windowed + self.filling * number
        return self.power.energy_j(
            self.first_s + self.growth_s * number,
            cost[5] + context * far[5] + windowed * near[5],
            cost[6] + context * far[6] + windowed * near[6],
        )

    def _steps_in(self, elapsed: float) -> float:
        """Return the steps that `elapsed` seconds hold, not rounded: a root of the quadratic."""
        first, growth = self.first_s, self.growth_s
        if elapsed <= 0.0:
            return 0.0
        if growth <= 1e-12 * first:
            return elapsed / first
        half = first - growth / 2
        return (sqrt(half * half + 2.0 * growth * elapsed) - half) / growth


def prompts_share(step_s: float, context_s: float, prompt: int, decoding: float) -> float:
    """Return the share of a step that prompts take: tokens share alike what is not of one's own.

    context_s: of the step, what decodes spend on attending to their context. prompt, decoding:
    tokens that are multiplied. Attention of prompts counts as shared: it is little of a step, or
    else decodes are few.
    """
    return (1.0 - context_s / step_s) * prompt / (prompt + decoding)
