"""What a training job did, and its part of the summary."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, sub
from typing import Any, NamedTuple

DAY_S = 86_400.0


class TrainingTotals(NamedTuple):
    """Sums of a job until now. Seconds are those of each of its GPUs and add up to the time.

    computing_s, communicating_s: of steps that count; throttled_s: what a lower clock than the
    job's own added to computing. checkpointing_s: of checkpoints that were finished. lost_s:
    training and writing that failures undid. restarting_s: until it trained again. held_s: kept
    from it by a failure of the site. finished_s: after its last step. steps: that count, with the
    part of the one under way. energy_j: of a GPU while the job works or restarts; above_rest_j:
    above that of a GPU at rest. failures: of its own.
    """

    computing_s: float = 0.0
    communicating_s: float = 0.0
    throttled_s: float = 0.0
    checkpointing_s: float = 0.0
    lost_s: float = 0.0
    restarting_s: float = 0.0
    held_s: float = 0.0
    finished_s: float = 0.0
    steps: float = 0.0
    energy_j: float = 0.0
    above_rest_j: float = 0.0
    checkpoints: float = 0.0
    failures: float = 0.0
    restarts: float = 0.0

    def plus(self, other: TrainingTotals) -> TrainingTotals:
        """Return the sums of both."""
        return TrainingTotals._make(map(add, self, other))

    def minus(self, other: TrainingTotals) -> TrainingTotals:
        """Return what has come since `other`."""
        return TrainingTotals._make(map(sub, self, other))

    @property
    def useful_s(self) -> float:
        """Return the seconds of training that count."""
        return self.computing_s + self.throttled_s + self.communicating_s

    def undone(self) -> TrainingTotals:
        """Return the same with all its work lost; what it drew is drawn."""
        return TrainingTotals(
            lost_s=self.useful_s + self.checkpointing_s + self.lost_s,
            energy_j=self.energy_j,
            above_rest_j=self.above_rest_j,
        )


class TrainingShare(NamedTuple):
    """A job within the window. flops_per_step, tokens_per_step: of all its GPUs; peak_flops: of one
    of them. tokens: of the whole run. phases_w: of a GPU computing and communicating, at
    the clock of its boards, where it does both. step_s: of a step then."""

    name: str
    gpus: int
    totals: TrainingTotals
    seconds: float
    tokens: float
    tokens_per_step: int
    flops_per_step: float
    peak_flops: float
    phases_w: tuple[float, ...]
    step_s: float


def training_summary(share: TrainingShare) -> dict[str, Any]:
    """Return the summary of a job; rates are over the whole window, failures and all."""
    totals, seconds, gpus = share.totals, share.seconds, share.gpus
    trained = totals.steps * share.tokens_per_step
    found: dict[str, Any] = {
        "gpus": gpus,
        "steps": totals.steps,
        "tokens": trained,
        "tokens_per_s": trained / seconds,
        "goodput": totals.useful_s / seconds,
        "checkpoints": round(totals.checkpoints),
        "failures": round(totals.failures),
        "restarts": round(totals.restarts),
        "lost_to_failures_s": totals.lost_s,
        "time": _time(totals, seconds),
        "gpu_hours": gpus * seconds / 3600.0,
        "energy_mwh": gpus * totals.energy_j / 3.6e9,
        "gpu_power_w": totals.energy_j / seconds,
    }
    if totals.useful_s > 0.0:
        peak = share.peak_flops * gpus
        found["mfu"] = totals.steps * share.flops_per_step / (totals.useful_s * peak)
    if trained > 0.0:
        # A job that has ended kept its pace until then.
        whole_s = share.tokens / trained * (seconds - totals.finished_s)
        found["whole_run"] = {
            "days": whole_s / DAY_S,
            "gpu_hours": gpus * whole_s / 3600.0,
            "gpu_energy_mwh": found["energy_mwh"] * share.tokens / trained,
            "flops": share.tokens / share.tokens_per_step * share.flops_per_step,
        }
    if share.phases_w:
        high_w, low_w = max(share.phases_w), min(share.phases_w)
        found["power_swing"] = {
            "highest_mw": gpus * high_w / 1e6,
            "lowest_mw": gpus * low_w / 1e6,
            "amplitude_mw": gpus * (high_w - low_w) / 1e6,
            "period_s": share.step_s,
        }
    return found


TIME = {
    "computing": "computing_s",
    "communicating": "communicating_s",
    "power_throttled": "throttled_s",
    "checkpointing": "checkpointing_s",
    "lost_to_failures": "lost_s",
    "restarting": "restarting_s",
    "held_by_the_site": "held_s",
    "finished": "finished_s",
}
"""Where a job's time goes, and the totals it comes from."""


def _time(totals: TrainingTotals, seconds: float) -> dict[str, float]:
    """Return the shares of the window, which add up to 1."""
    shares = {name: getattr(totals, field) / seconds for name, field in TIME.items()}
    return {name: share for name, share in shares.items() if abs(share) > 1e-12}


def training_joules(shares: Sequence[TrainingShare]) -> float:
    """Return the joules of all jobs' GPU boards."""
    return sum(share.gpus * share.totals.energy_j for share in shares)
