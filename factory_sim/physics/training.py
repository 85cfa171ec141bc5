"""Training in numbers: flops, what memory and links carry, and how often to save the work.

Like a ship's log: what a voyage takes in fair weather, what a storm costs, and how often it pays
to write down where one is.
"""

from __future__ import annotations

from math import exp, expm1, floor, sqrt
from typing import NamedTuple

FLOPS_PER_PARAMETER_TOKEN = 6.0
"""Two flops forward and four backward (Kaplan et al. 2020, section 2.1); attention left out."""

TOKENS_PER_PARAMETER = 20.0
"""Of a budget spent best, about (Hoffmann et al. 2022, table 3)."""

WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 2.0, 2.0, 12.0
"""Of a parameter under Adam in mixed precision, 16 in all: both halves of it in 16 bits, and a
master copy, momentum and variance in 32 (Rajbhandari et al. 2020, section 3.1)."""

CHECKPOINT_BYTES = WEIGHT_BYTES + OPTIMIZER_BYTES
"""Of a parameter in a checkpoint: gradients are not kept. BLOOM's 176 billion took 2.3 TiB
(BigScience, bloom-training/README), which is 14.4 each."""


def training_flops(parameters: float, tokens: float) -> float:
    """Return the flops to train on so many tokens: 6 N D (Kaplan et al. 2020).

    parameters: that a token passes through; of a mixture of experts, the active ones.
    """
    return FLOPS_PER_PARAMETER_TOKEN * parameters * tokens


def compute_optimal(flops: float) -> tuple[float, float]:
    """Return the parameters and the tokens on which a budget is spent best.

    D = 20 N of C = 6 N D (Hoffmann et al. 2022, 'Chinchilla').
    """
    parameters = sqrt(flops / (FLOPS_PER_PARAMETER_TOKEN * TOKENS_PER_PARAMETER))
    return parameters, TOKENS_PER_PARAMETER * parameters


def bubble_share(stages: int, micro_batches: int) -> float:
    """Return the share of a step in which a pipeline's stage has nothing to do.

    (p - 1) / (m + p - 1) (Huang et al. 2019, GPipe; the same for 1F1B).
    """
    return (stages - 1) / (micro_batches + stages - 1)


def exchange_s(size_bytes: float, ranks: int, bytes_per_s: float, zero: int) -> float:
    """Return the seconds in which data-parallel ranks exchange what a step changes, in a ring.

    2 (n - 1) / n of the bytes cross each link: gradients are reduced, and they or the weights made
    of them gathered. Where ZeRO deals out weights too (stage 3), they are gathered for the forward
    and again for the backward pass, half as much again (Rajbhandari et al. 2020, section 7.2).
    """
    passes = 3.0 if zero >= 3 else 2.0
    return passes * (ranks - 1) / ranks * size_bytes / bytes_per_s


def state_bytes(parameters: float, split: int, ranks: int, zero: int) -> float:
    """Return the bytes of weights, gradients and optimizer on a GPU, without activations.

    split: GPUs among which tensor and pipeline parallelism deal out the parameters. ranks: of data
    parallelism, among which ZeRO deals out more: its stage 1 the optimizer, 2 gradients as well,
    3 weights too (Rajbhandari et al. 2020, figure 1).
    """
    weights = WEIGHT_BYTES / (ranks if zero >= 3 else 1)
    gradients = GRADIENT_BYTES / (ranks if zero >= 2 else 1)
    optimizer = OPTIMIZER_BYTES / (ranks if zero >= 1 else 1)
    return parameters / split * (weights + gradients + optimizer)


def young_interval_s(write_s: float, mtbf_s: float) -> float:
    """Return the time between checkpoints that loses least, to first order.

    sqrt(2 C M), C seconds to write one, M between failures (Young 1974).
    """
    return sqrt(2.0 * write_s * mtbf_s)


def daly_interval_s(write_s: float, mtbf_s: float) -> float:
    """Return the time between checkpoints that loses least, to higher order (Daly 2006, eq. 37)."""
    ratio = write_s / (2.0 * mtbf_s)
    if ratio >= 1.0:
        return mtbf_s
    return young_interval_s(write_s, mtbf_s) * (1.0 + sqrt(ratio) / 3.0 + ratio / 9.0) - write_s


def expected_s(
    work_s: float, interval_s: float, write_s: float, restart_s: float, mtbf_s: float
) -> float:
    """Return the expected time of `work_s` with failures that come as a Poisson process.

    M exp(R/M) (exp((tau + C)/M) - 1) W / tau, where restarts and checkpoints may fail too (Daly
    2006, eq. 20).
    """
    whole = mtbf_s * exp(restart_s / mtbf_s) * expm1((interval_s + write_s) / mtbf_s)
    return whole * work_s / interval_s


class Progress(NamedTuple):
    """What some time of training did: whole steps finished, where in the next one it is now
    (seconds at the reference clock), and the seconds spent computing and communicating."""

    steps: int
    position_s: float
    computing_s: float
    communicating_s: float


class Rhythm(NamedTuple):
    """The steps of a training job: GPUs compute, then exchange gradients, again and again.

    Seconds at the reference clock, of which computing alone slows with a lower one.
    """

    computing_s: float
    communicating_s: float

    @property
    def step_s(self) -> float:
        """Return the seconds of a step at the reference clock."""
        return self.computing_s + self.communicating_s

    def step_at(self, clock: float) -> float:
        """Return the seconds of a step at a clock."""
        return self.computing_s / clock + self.communicating_s

    def elapsed_s(self, position_s: float, clock: float) -> float:
        """Return how long ago the step at this position would have begun, at a clock."""
        if position_s <= self.computing_s:
            return position_s / clock
        return self.computing_s * (1.0 / clock - 1.0) + position_s

    def until_s(self, position_s: float, steps: int, clock: float) -> float:
        """Return the seconds from a position to the end of so many steps, this one included."""
        return steps * self.step_at(clock) - self.elapsed_s(position_s, clock)

    def after(self, position_s: float, seconds: float, clock: float) -> Progress:
        """Return what `seconds` from a position on do at a clock."""
        before_s = self.elapsed_s(position_s, clock)
        step_s, computing_s = self.step_at(clock), self.computing_s / clock
        # The end of a step that rounding just misses counts as reached.
        steps = floor((before_s + seconds) / step_s + 1e-9)
        rest_s = max(0.0, before_s + seconds - steps * step_s)
        computed_s = min(rest_s, computing_s)
        spent_s = steps * computing_s + computed_s - min(before_s, computing_s)
        return Progress(steps, clock * computed_s + rest_s - computed_s, spent_s, seconds - spent_s)
