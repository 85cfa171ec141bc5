"""Where GPU-seconds went: to each cause, to replicas that were away, to slower clocks."""

from __future__ import annotations

from collections.abc import Sequence

from factory_sim.metrics.share import Share
from factory_sim.metrics.site import Summary, Window

CAUSES = {
    "compute": "compute_s",
    "memory": "memory_s",
    "communication": "network_s",
    "host": "host_s",
    "power_throttled": "throttled_s",
    "thermally_throttled": "heated_s",
    "kv_full": "kv_full_s",
    "waiting_for_ranks": "rank_wait_s",
    "waiting_for_stages": "stage_wait_s",
    "down": "down_s",
    "loading": "loading_s",
    "stopped": "stopped_s",
    "waiting_for_transfer": "transfer_s",
    "waiting_for_encoder": "encoder_s",
    "drafting": "drafting_s",
}
"""Causes of lost time and the totals they come from; idle time is `waiting_for_work`."""


def time_lost(shares: Sequence[Share], seconds: float) -> Summary:
    """Return the share of the replicas' GPU-seconds by cause, and the largest avoidable one."""
    gpu_seconds = sum(share.gpus * seconds for share in shares)
    lost = {}
    busy = 0.0
    for cause, field in CAUSES.items():
        spent = sum(share.gpus_per_replica * getattr(share.totals, field) for share in shares)
        busy += spent
        if spent > 1e-9 * gpu_seconds:
            lost[cause] = spent / gpu_seconds
    idle = (gpu_seconds - busy) / gpu_seconds
    if idle > 1e-9:
        lost["waiting_for_work"] = idle
    avoidable = {cause: share for cause, share in lost.items() if cause != "compute"}
    found: Summary = {"time_lost": lost}
    if avoidable:
        found["bottleneck"] = max(avoidable, key=lambda cause: avoidable[cause])
    return found


def utilisation(shares: Sequence[Share], window: Window) -> Summary:
    """Return the share of time in which GPUs were busy, and the mean batch meanwhile."""
    gpu_seconds = sum(share.gpus * window.seconds for share in shares)
    busy = sum(share.gpus_per_replica * share.totals.busy_s for share in shares)
    found: Summary = {"gpu_busy": busy / gpu_seconds}
    replica_busy = sum(share.totals.busy_s for share in shares)
    if replica_busy:
        sequences = sum(share.totals.sequence_s for share in shares)
        found["mean_batch"] = sequences / replica_busy
    return found


def absences(shares: Sequence[Share], seconds: float) -> Summary:
    """Return availability and lost tokens where something failed; who stands for whom.

    Available are replicas that should be up: what autoscaling stops, or starts, is not asked for.
    """
    summary: Summary = {}
    gone = [(s, s.totals.down_s + s.totals.loading_s - s.totals.starting_s) for s in shares]
    away = sum(s.gpus_per_replica * seconds_away for s, seconds_away in gone)
    if away:
        asked = sum(
            s.gpus * seconds - s.gpus_per_replica * (s.totals.stopped_s + s.totals.starting_s)
            for s in shares
        )
        summary["availability"] = 1.0 - away / asked
        summary["output_tokens_lost_to_failures"] = round(sum(s.lost_tokens for s in shares))
    stands = {
        share.name: {
            "simulated": round(share.replicas / share.scale),
            "represented": share.replicas,
        }
        for share in shares
        if share.scale > 1.0
    }
    if stands:
        summary["represented_replicas"] = stands
    return summary


def held_back(shares: Sequence[Share], seconds: float) -> Summary:
    """Return the output tokens that GPUs would have made in the time that slower clocks took.

    An upper bound of what the cap cost: with work waiting they would have been made, without it
    they would have come sooner.
    """
    lost = 0.0
    for share in shares:
        totals = share.totals
        worked_s = totals.busy_s - totals.throttled_s - totals.heated_s
        if totals.throttled_s > 1e-9 * totals.busy_s:
            lost += totals.output_tokens * totals.throttled_s / worked_s
    return {"output_tokens_per_s_held_back_by_cap": lost / seconds} if lost else {}
