"""What sessions ask: turns, their tokens and the pauses between them, drawn before they begin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.random import SeedSequence

from factory_sim.scenario.reasoning import Reasoning
from factory_sim.scenario.sessions import Sessions
from factory_sim.workload.lengths import Sampler, quantile
from factory_sim.workload.sometimes import sometimes

DRAWN = 256
"""Sessions drawn at a time."""

MIDPOINTS = 4096


class Script(NamedTuple):
    """One session as it goes if nothing ends it, a value a turn.

    asked, answers: new tokens of the prompt, and tokens of the answer. pauses_s: seconds from the
    answer before; the first is not waited for. reasoning: tokens made before each answer.
    """

    asked: list[int]
    answers: list[int]
    pauses_s: list[float]
    reasoning: list[int]


def draw_scripts(
    spec: Sessions, lengths: Sampler, seed: SeedSequence, reasoning: Reasoning | None = None
) -> Iterator[Script]:
    """Yield the script of one session after another, for ever.

    Turns, lengths, pauses, tools and reasoning have a random stream each.
    """
    counting, speaking, thinking, calling, reasons = (
        np.random.default_rng(SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, purpose)))
        for purpose in range(5)
    )
    while True:
        turns = quantile(spec.turns, counting.random(DRAWN))
        total = int(turns.sum())
        asked, answers = lengths.draw(speaking.standard_normal((total, 2)))
        pauses_s = np.full(total, spec.think_time)
        if spec.thinking == "exponential":
            pauses_s = thinking.exponential(spec.think_time, total)
        if spec.tools is not None:
            called = calling.random(total) < spec.tools.share
            pauses_s = np.where(called, spec.tools.delay, pauses_s)
        thoughts = np.zeros(total, dtype=np.int64)
        if reasoning is not None:
            shares = reasons.random((total, 2))
            thoughts = sometimes(reasoning.share, reasoning.tokens, shares)
        last = 0
        for count in turns.tolist():
            first, last = last, last + count
            yield Script(
                asked[first:last].tolist(),
                answers[first:last].tolist(),
                pauses_s[first:last].tolist(),
                thoughts[first:last].tolist(),
            )


def mean_turns(spec: Sessions) -> float:
    """Return the mean turns of a session that nothing ends early."""
    return float(_turns(spec).mean())


def mean_prompt(spec: Sessions, asked: float, answer: float) -> float:
    """Return the mean prompt of all turns, by the mean tokens of what is asked and answered.

    Turn k of N brings k questions and k - 1 answers, drawn apart from N: over all turns that is
    E[N (N + 1) / 2] questions and E[N (N - 1) / 2] answers in E[N] prompts.
    """
    turns = _turns(spec)
    questions = float((turns * (turns + 1) / 2).mean())
    before = float((turns * (turns - 1) / 2).mean())
    return (questions * asked + before * answer) / float(turns.mean())


def _turns(spec: Sessions) -> np.ndarray:
    shares = (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS
    return quantile(spec.turns, shares).astype(float)
