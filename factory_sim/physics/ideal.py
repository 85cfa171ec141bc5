"""The rate a replica cannot beat: a steady batch that is always full and never waits."""

from __future__ import annotations

from typing import NamedTuple

from factory_sim.physics.step_time import Chunk, StepTime


class Ideal(NamedTuple):
    """The best steady state: sequences in the batch, seconds per step, requests per second."""

    batch: int
    step_s: float
    requests_per_s: float


def ideal(step_time: StepTime, prompt: float, output: float, cached: float, most: int) -> Ideal:
    """Return the best steady state with batches of 1 to `most` sequences, a power of two or most.

    prompt, output, cached: mean tokens of a request. In a steady batch of n every sequence
    makes a token a step, so n / output requests end in each, and as many prompts are computed
    beside: chunks of n * (prompt - cached) / output tokens at the mean place in a prompt.
    """
    sizes = {most} | {2**power for power in range(most.bit_length())}
    return max(
        (_steady(step_time, prompt, output, cached, n) for n in sorted(sizes)),
        key=lambda state: state.requests_per_s,
    )


def _steady(step_time: StepTime, prompt: float, output: float, cached: float, n: int) -> Ideal:
    context = round(n * (prompt + output / 2))
    windowed = round(n * min(prompt + output / 2, step_time.window))
    length = max(1, round(n * (prompt - cached) / output))
    start = max(0, round((prompt + cached - length) / 2))
    step_s = step_time.mixed(n, context, windowed, [Chunk(start, length)], n).duration_s
    return Ideal(n, step_s, n / (output * step_s))
