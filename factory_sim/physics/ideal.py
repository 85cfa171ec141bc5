"""The best steady rate of a replica: a batch that is always full and never waits."""

from __future__ import annotations

from typing import NamedTuple

from factory_sim.physics.step_time import Chunk, StepTime


class Ideal(NamedTuple):
    """The best steady state: sequences in the batch, seconds per step, requests per second.

    host_share: of a step, what the host takes, at the reference clock.
    """

    batch: int
    step_s: float
    requests_per_s: float
    host_share: float = 0.0


def ideal(
    step_time: StepTime,
    prompt: float,
    output: float,
    cached: float,
    most: int,
    max_tokens: int,
    per_step: float = 1.0,
    images: float = 0.0,
) -> Ideal:
    """Return the best steady state with batches of 1 to `most` sequences, a power of two or most.

    prompt, output, cached: mean tokens of a request; max_tokens: the token budget of a step. In
    a steady batch of n every sequence makes a token a step, so n / (output - 1) requests end in
    each, and as many prompts are computed beside: gathered in steps that use the whole budget,
    since a step with prompts has an overhead of its own. per_step: tokens that a sequence makes in
    a step in the mean, with drafts; those of drafts that are wrong take little of the budget, and
    are left out of it. images: of a request, in the mean, which steps with its prompt encode.
    """
    sizes = {most} | {2**power for power in range(most.bit_length())}
    return max(
        (
            steady(step_time, prompt, output, cached, n, max_tokens, per_step, images)
            for n in sorted(sizes)
        ),
        key=lambda state: state.requests_per_s,
    )


def steady(
    step_time: StepTime,
    prompt: float,
    output: float,
    cached: float,
    n: int,
    max_tokens: int,
    per_step: float,
    images: float,
) -> Ideal:
    """Return the steady state with a batch of n sequences; the rest as of `ideal`."""
    context = round(n * (prompt + output / 2))
    windowed = round(n * min(prompt + output / 2, step_time.window))
    new = prompt - cached
    steps = max(1.0, (output - 1.0) / per_step)  # the first token comes with the prompt
    needed = n * new / steps
    share = min(1.0, needed / max(1, max_tokens - n))
    length = needed / share
    if length < new:
        chunks = [Chunk(round((prompt + cached - length) / 2), max(1, round(length)))]
    else:
        prompts = round(length / new)
        chunks = [Chunk(round(cached), max(1, round(length / prompts)))] * prompts
    mixed = step_time.mixed(n, context, windowed, chunks, n)
    mixed_s = mixed.duration_s + _encoding_s(step_time, images * length / new)
    decode_s, host_s = _decoding(step_time, n, context, windowed)
    step_s = share * mixed_s + (1.0 - share) * decode_s
    host_s = share * mixed.host_s + (1.0 - share) * host_s
    return Ideal(n, step_s, n / (steps * step_s), host_s / step_s)


def _decoding(step_time: StepTime, n: int, context: float, windowed: float) -> tuple[float, float]:
    """Return the seconds of a step that only decodes, and what the host takes of them."""
    parts = (step_time.decode(n), step_time.per_context, step_time.per_windowed)
    weights = (1.0, context, windowed)
    step_s = sum(w * part.duration_s for w, part in zip(weights, parts, strict=True))
    return step_s, sum(w * part.host_s for w, part in zip(weights, parts, strict=True))


def _encoding_s(step_time: StepTime, images: float) -> float:
    """Return what encoding so many images in a step takes, in the mean."""
    if not images:
        return 0.0
    whole = max(1, round(images))
    return images / whole * step_time.encode(whole).duration_s  # type: ignore[attr-defined, no-any-return]


def ideal_prompts(
    step_time: StepTime,
    prompt: float,
    cached: float,
    most: int,
    max_tokens: int,
    images: float = 0.0,
) -> Ideal:
    """Return the best steady state of a replica that only computes prompts.

    Steps as full as the token budget allows: whole prompts and a chunk of the next, `most` in all;
    or, of a longer prompt, chunks of the whole budget.
    """
    new = prompt - cached
    max_tokens = min(max_tokens, round(most * new))
    whole, rest = divmod(max_tokens, new)
    chunks = [Chunk(round(cached), max(1, round(new)))] * int(whole)
    if rest >= 1.0:
        start = cached if whole else (prompt + cached - rest) / 2
        chunks.append(Chunk(round(start), round(rest)))
    mixed = step_time.mixed(0, 0, 0, chunks, max(1, int(whole)))
    step_s = mixed.duration_s + _encoding_s(step_time, images * max_tokens / new)
    return Ideal(len(chunks), step_s, max_tokens / new / step_s, mixed.host_s / step_s)


def ideal_decoding(
    step_time: StepTime, prompt: float, output: float, most: int, per_step: float = 1.0
) -> Ideal:
    """Return the best steady state of a replica that only decodes, with `most` sequences.

    The first token of each answer comes with its prompt. per_step: tokens that a sequence makes in
    a step.
    """
    context = round(most * (prompt + output / 2))
    windowed = round(most * min(prompt + output / 2, step_time.window))
    step_s, host_s = _decoding(step_time, most, context, windowed)
    rate = most / (max(1.0, (output - 1.0) / per_step) * step_s)
    return Ideal(most, step_s, rate, host_s / step_s)
