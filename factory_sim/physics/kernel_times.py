"""A step time put together from the times of single kernels, as a table of them gives it.

Like a journey from a railway timetable: each leg is looked up, the changes between them are
added. The engine wants a decode step affine in its context, and attention kernels are so only
where they are busy: with little context they wait for their launch. One cost per context token
is therefore fitted over batches and contexts, with a constant for every batch size, so that the
relative error of whole steps is least; `error` says what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from factory_sim.physics.hardware import Host
from factory_sim.physics.step_time import Chunk, Cost

Array = NDArray[np.float64]

SHORTEST = 128
"""Tokens of the shortest context that the fit over contexts looks at."""


class Operator(NamedTuple):
    """Seconds of one operator at the reference clock.

    compute_s, memory_s: what it needs of either, alone; the larger is its time. network_s:
    of communication, on top.
    """

    compute_s: float
    memory_s: float
    network_s: float


class Kernels(Protocol):
    """The operators of a model on the GPUs of a replica, by what is in the step.

    window: tokens of a sliding window, 0 where the model has none.
    """

    window: int

    def generation(self, sequences: int) -> list[Operator]:
        """Return all operators of a decode step but attention."""

    def generation_attention(self, sequences: int, context: int, windowed: bool) -> list[Operator]:
        """Return attention of sequences with `context` tokens each, in the layers of a kind."""

    def context(self, tokens: int) -> list[Operator]:
        """Return all operators of a step with prompt chunks but attention and output head."""

    def head(self, sampled: int) -> list[Operator]:
        """Return the output head over `sampled` sequences."""

    def chunk(self, start: int, length: int) -> list[Operator]:
        """Return attention, in all layers, of `length` prompt tokens after `start` others."""


class Fit(NamedTuple):
    """Decode attention as `constant(n) + per_token_s * context`, in seconds.

    unit: an operator of one second whose shares of compute and memory are attention's.
    mean_error, worst_error: of whole decode steps, as shares, over the fitted points.
    """

    per_token_s: float
    unit: Operator
    mean_error: float
    worst_error: float


class KernelTimes:
    """The step time of a replica at one clock, out of the times of its kernels.

    host: what the engine adds. layers: kernels of so many layers are launched one by one in a
    step with prompt chunks. max_sequences, kv_tokens, longest: bounds of the batches and of
    the contexts, in all and of one sequence, over which attention is fitted. error: the mean
    and the largest error of the fitted decode step, as shares.
    """

    def __init__(
        self,
        kernels: Kernels,
        host: Host,
        layers: float,
        clock: float,
        max_sequences: int,
        kv_tokens: int,
        longest: int,
    ) -> None:
        self._kernels, self._host, self._clock = kernels, host, clock
        self._eager_s = layers * host.eager_per_layer_s
        self._kv_tokens, self._longest = kv_tokens, longest
        self.window = kernels.window
        sizes = sorted({2**power for power in range(max_sequences.bit_length())} | {max_sequences})
        self._far = self._fit(sizes, windowed=False)
        self.per_context = self._attend(self._far, self._far.per_token_s)
        self._near: Fit | None = None
        self.per_windowed = Cost(0.0)
        if self.window:
            self._near = self._fit(sizes, windowed=True)
            self.per_windowed = self._attend(self._near, self._near.per_token_s)
        fits = [fit for fit in (self._far, self._near) if fit is not None]
        self.error = (sum(f.mean_error for f in fits), sum(f.worst_error for f in fits))
        self._launched_s = _seconds(kernels.chunk(0, 1))
        # Made when first asked for: a run meets few of the possible steps.
        self._constants: Callable[[int], Cost] = lru_cache(maxsize=None)(self._constant)
        self._bodies: Callable[[int], Cost] = lru_cache(maxsize=None)(self._body)
        self._heads: Callable[[int], Cost] = lru_cache(maxsize=None)(self._head)
        self._chunks: Callable[[Chunk], Cost] = lru_cache(maxsize=1 << 16)(self._chunk)
        self.decode: Callable[[int], Cost] = lru_cache(maxsize=None)(self._decode)

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`.

        The products run once over the tokens of decodes and chunks together; attention of the
        decodes, of the chunks and the output head have kernels of their own. One kernel serves
        all chunks, so what the longest of them pays for its launch the others do not.
        """
        host_s = self._host.per_step_s + self._eager_s
        host_s += self._host.per_sequence_s * (sequences + len(chunks))
        parts = [Cost(host_s, host_s=host_s)]
        parts.append(self._bodies(sequences + sum(chunk.length for chunk in chunks)))
        if sampled:
            parts.append(self._heads(sampled))
        if sequences:
            parts.append(self._constants(sequences))
            parts.append(_scaled(self.per_context, context))
            parts.append(_scaled(self.per_windowed, windowed))
        attention = sorted(map(self._chunks, chunks), reverse=True)
        parts += attention[:1]
        for cost in attention[1:]:
            alone_s = cost.duration_s
            parts.append(_scaled(cost, max(0.0, alone_s - self._launched_s) / alone_s))
        return _sum(parts)

    def _decode(self, sequences: int) -> Cost:
        host_s = self._host.per_step_s + self._host.per_sequence_s * sequences
        host = Cost(host_s, host_s=host_s)
        if not sequences:
            return host
        return _sum(
            [host, self._cost(self._kernels.generation(sequences)), self._constants(sequences)]
        )

    def _constant(self, sequences: int) -> Cost:
        """Return what attention of `sequences` decodes costs besides their context."""
        parts = []
        for fit in (self._far, self._near):
            if fit is not None:
                windowed = fit is self._near
                contexts, seconds, weights = self._points(sequences, windowed)
                left = seconds - fit.per_token_s * sequences * contexts
                parts.append(self._attend(fit, float(np.average(left, weights=weights))))
        return _sum(parts)

    def _body(self, tokens: int) -> Cost:
        return self._cost(self._kernels.context(tokens))

    def _head(self, sampled: int) -> Cost:
        return self._cost(self._kernels.head(sampled))

    def _chunk(self, chunk: Chunk) -> Cost:
        return self._cost(self._kernels.chunk(chunk.start, chunk.length))

    def _attend(self, fit: Fit, seconds: float) -> Cost:
        """Return the cost of attention that takes `seconds` (or saves them) at full clock."""
        return _scaled(self._cost([fit.unit]), seconds)

    def _points(self, sequences: int, windowed: bool) -> tuple[Array, Array, Array]:
        """Return contexts of a sequence, the seconds of attention there, and their weights.

        A point weighs as the inverse square of the whole step: its relative error counts.
        """
        most = max(1, min(self._longest, self._kv_tokens // sequences))
        least = SHORTEST
        if windowed:
            most = min(most, self.window)
            least = min(least, max(1, self.window // 8))
        # Each twice the last or less, evenly in the logarithm.
        number = max(2, int(np.ceil(np.log2(max(2.0, most / least)))) + 1)
        contexts: Array = np.unique(np.geomspace(min(least, most), most, number).round())
        seconds = np.array(
            [
                _seconds(self._kernels.generation_attention(sequences, int(context), windowed))
                for context in contexts
            ]
        )
        rest_s = _seconds(self._kernels.generation(sequences))
        return contexts, seconds, (rest_s + seconds) ** -2.0

    def _fit(self, sizes: list[int], windowed: bool) -> Fit:
        """Fit one slope over the batches of all `sizes`, with a constant for each of them."""
        above = below = 0.0
        groups = []
        for n in sizes:
            contexts, seconds, weights = self._points(n, windowed)
            context = n * contexts
            from_mean = context - np.average(context, weights=weights)
            above += float(np.sum(weights * from_mean * seconds))
            below += float(np.sum(weights * from_mean**2))
            groups.append((context, seconds, weights))
        slope = max(0.0, above / below) if below else 0.0
        errors = []
        for context, seconds, weights in groups:
            left = seconds - slope * context
            errors.append(np.abs(left - np.average(left, weights=weights)) * np.sqrt(weights))
        pooled = np.concatenate(errors)
        # Compute and memory of attention both grow with its context: where there is most of
        # it, their ratio is free of what a launch costs.
        most, n = max((group[0][-1], n) for group, n in zip(groups, sizes, strict=True))
        operators = self._kernels.generation_attention(n, round(most / n), windowed)
        whole_s = _seconds(operators)
        unit = Operator(*(sum(terms) / whole_s for terms in zip(*operators, strict=True)))
        return Fit(slope, unit, float(pooled.mean()), float(pooled.max()))

    def _cost(self, operators: Iterable[Operator]) -> Cost:
        """Return what operators that follow one another cost at this clock.

        Compute slows with the clock, memory and network do not.
        """
        duration_s = bound_compute_s = bound_memory_s = sent_s = compute_s = memory_s = 0.0
        for computing_s, moving_s, sending_s in operators:
            duration_s += max(computing_s / self._clock, moving_s) + sending_s
            if computing_s >= moving_s:
                bound_compute_s += computing_s
            else:
                bound_memory_s += moving_s
            sent_s += sending_s
            compute_s += computing_s
            memory_s += moving_s + sending_s
        return Cost(duration_s, bound_compute_s, bound_memory_s, sent_s, 0.0, compute_s, memory_s)


def _seconds(operators: Iterable[Operator]) -> float:
    """Return the time of operators that follow one another, at the reference clock."""
    return sum(max(compute_s, memory_s) + sent_s for compute_s, memory_s, sent_s in operators)


def _scaled(cost: Cost, times: float) -> Cost:
    return Cost._make(times * term for term in cost)


def _sum(costs: Iterable[Cost]) -> Cost:
    return Cost._make(map(sum, zip(*costs, strict=True)))
