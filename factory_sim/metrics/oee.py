"""OEE of a factory of tokens: availability x performance x quality, and the tree of what was lost.

As on a shop floor: of the time for which there was work, how long were the machines up; of that,
how long would the work have taken at the best; of what was made, how much was good. Every
GPU-second of the window is on exactly one leaf of the tree, so that its leaves sum to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from factory_sim.metrics.answers import Answers
from factory_sim.metrics.share import Share
from factory_sim.metrics.totals import Totals

BESIDE = ("no_demand", "stopped")
"""Leaves without demand: outside planned time."""

AVAILABILITY = ("failures", "cold_starts")
PERFORMANCE = (
    "power_throttled",
    "thermally_throttled",
    "kv_full",
    "host_overhead",
    "small_batches",
    "waiting_for_ranks",
    "waiting_for_stages",
    "waiting_for_transfer",
    "waiting_for_encoder",
)
QUALITY = ("slo_missed", "not_completed", "lost_to_failures", "recomputed")
USEFUL = "useful"
LEAVES = (USEFUL, *QUALITY, *PERFORMANCE, *AVAILABILITY, *BESIDE)

Tree = dict[str, float]
"""GPU-seconds, or shares of them, by leaf."""


class Made(NamedTuple):
    """What became of the tokens that a deployment made: shares that sum to one."""

    useful: float
    slo_missed: float
    not_completed: float
    lost_to_failures: float
    recomputed: float


NOTHING = Made(0.0, 0.0, 0.0, 0.0, 0.0)


def made_of(pools: Sequence[Share], own: Answers) -> Made | None:
    """Return what became of a deployment's tokens of the window; None where it made none.

    Output tokens made, those that failures destroyed included, and tokens computed again after
    preemption. Those that reached their requests are good, late or not completed as those of
    requests that came in the window were.
    """
    output = sum(pool.totals.output_tokens for pool in pools)
    again = sum(pool.recomputed_tokens for pool in pools)
    lost = min(output, sum(pool.lost_tokens for pool in pools))
    measured, done, good = (own.sums(which).output for which in ("measured", "done", "good"))
    if not output or not measured:
        return None
    reached = (output - lost) / (output + again)
    return Made(
        reached * good / measured,
        reached * (done - good) / measured,
        reached * (measured - done) / measured,
        lost / (output + again),
        again / (output + again),
    )


def at_work_s(totals: Totals) -> float:
    """Return the seconds in steps at the reference clock, without what they waited in them."""
    causes = (totals.compute_s, totals.memory_s, totals.network_s, totals.host_s)
    return sum(causes) + totals.drafting_s + totals.kv_full_s


def tree_of(
    totals: Totals, gpus: float, seconds: float, best_s: float, host_share: float, made: Made
) -> Tree:
    """Return the GPU-seconds of a replica in a window of so many seconds, by leaf.

    gpus: that its figures stand for. best_s: what the tokens that it made would have taken at the
    best; all its time at work where that is less. Time at work beyond it is lost to a full KV cache
    by that one's share, then to the host as far as it took more than its share at the best, and for
    the rest to batches that are smaller than the best.
    """
    worked_s = at_work_s(totals)
    best_s = min(best_s, worked_s)
    excess_s = worked_s - best_s
    kv_s = excess_s * totals.kv_full_s / worked_s if worked_s else 0.0
    host_s = min(max(totals.host_s - host_share * best_s, 0.0), excess_s - kv_s)
    found = {name: best_s * share for name, share in made._asdict().items()} | {
        "power_throttled": totals.throttled_s,
        "thermally_throttled": totals.heated_s,
        "kv_full": kv_s,
        "host_overhead": host_s,
        "small_batches": excess_s - kv_s - host_s,
        "waiting_for_ranks": totals.rank_wait_s,
        "waiting_for_stages": totals.stage_wait_s,
        "waiting_for_transfer": totals.transfer_s,
        "waiting_for_encoder": totals.encoder_s,
        "failures": totals.down_s + totals.loading_s - totals.starting_s,
        "cold_starts": totals.starting_s,
        "stopped": totals.stopped_s,
    }
    found["no_demand"] = seconds - sum(found.values())
    return {name: gpus * found[name] for name in LEAVES}


def joined(trees: Sequence[Tree]) -> Tree:
    """Return the sum of some trees."""
    return {name: sum(tree[name] for tree in trees) for name in LEAVES}


def figures(tree: Tree) -> dict[str, float] | None:
    """Return availability, performance, quality and their product; None without planned time.

    Their product is the share of useful time in the time for which there was work.
    """

    def of(names: Sequence[str]) -> float:
        return sum(tree[name] for name in names)

    best = tree[USEFUL] + of(QUALITY)
    up = best + of(PERFORMANCE)
    planned = up + of(AVAILABILITY)
    if not (best > 0.0 and planned > 0.0):
        return None
    return {
        "availability": up / planned,
        "performance": best / up,
        "quality": tree[USEFUL] / best,
        "oee": tree[USEFUL] / planned,
    }


def shares(tree: Tree) -> Tree:
    """Return the leaves as shares of all GPU-seconds, those that are nothing left out."""
    whole = sum(tree.values())
    return {name: part / whole for name, part in tree.items() if abs(part) > 1e-9 * whole}


def oee_of(trees: Sequence[Tree]) -> dict[str, dict[str, float]]:
    """Return `oee` and `oee_losses` of some trees together; nothing without planned time."""
    tree = joined(trees)
    found = figures(tree)
    return {} if found is None else {"oee": found, "oee_losses": shares(tree)}
