"""The summary of a run: what `summary.json` holds.

Latencies are of requests that arrived after the warm-up; rates, energy and lost time are of
the window from the end of the warm-up to the end of arrivals. A key is absent when the run
has no such thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from factory_sim.metrics.answers import LATENCIES, Answers
from factory_sim.metrics.reasoning import reasoning_summary, with_costs
from factory_sim.metrics.requests import Promise, Tariff, Tier
from factory_sim.metrics.sampled import with_widths
from factory_sim.metrics.scaling import scaling_summary
from factory_sim.metrics.service import by_tenant, revenue
from factory_sim.metrics.share import Share
from factory_sim.metrics.site import Window, power_of_site, uses_of
from factory_sim.metrics.training import TrainingShare, training_joules, training_summary

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

Summary = dict[str, Any]


def summarise(
    requests: Answers,
    timeseries: pd.DataFrame,
    window: Window,
    shares: Sequence[Share],
    tiers: Mapping[str, Tier] | None = None,
    jobs: Sequence[TrainingShare] = (),
    tariffs: Mapping[str, Tariff] | None = None,
) -> Summary:
    """Return the summary of a run from its requests and what its deployments did.

    requests: with a row each, or counted only; what counting cannot tell is left out. tiers: of
    every workload, by its name, where workloads have classes. jobs: of training. tariffs: of
    workloads that pay, by name.
    """
    parts = _by_deployment(shares)
    tiers, tariffs = tiers or {}, tariffs or {}
    services = {
        name: _service(requests.of([name]), window, pools, tiers, tariffs)
        for name, pools in parts.items()
    }
    site = next(iter(services.values()))
    if len(parts) > 1:
        site = _service(requests, window, shares, tiers, tariffs)
    output, total = site["output_tokens_per_s"], site["total_tokens_per_s"]
    summary = site | {"window_s": {"start": window.start_s, "end": window.end_s}}
    summary |= {"gpus": window.gpus} | rates(output, total, window.gpus)
    summary |= power_of_site(timeseries, window, output, total)
    summary |= uses_of(window, shares, training_joules(jobs))
    summary = with_widths(summary, requests, shares, window.seconds)
    summary = with_costs(summary, requests)
    summary["utilisation"] = _utilisation(shares, window) | _kv_use(window, timeseries)
    summary["littles_law"] = _little(shares, window.run_s)
    summary["deployments"] = {
        name: with_widths(
            with_costs(services[name] | _own(timeseries, window, pools), requests.of([name])),
            requests.of([name]),
            pools,
            window.seconds,
        )
        for name, pools in parts.items()
    }
    if tiers or len(requests.workloads) > 1:
        summary["classes"] = _by_class(requests, window, shares, tiers, tariffs)
    if jobs:
        summary["training"] = {job.name: training_summary(job) for job in jobs}
    if requests.has("tenant"):
        summary["tenants"] = by_tenant(requests)
    return summary


def _by_class(
    requests: Answers,
    window: Window,
    shares: Sequence[Share],
    tiers: Mapping[str, Tier],
    tariffs: Mapping[str, Tariff],
) -> dict[str, Summary]:
    """Return how each class was served; without classes, each workload.

    What a cap held back is split by the tokens made.
    """
    found: dict[str, Summary] = {}
    parts = _by_deployment(shares)
    for name, own in requests.by("class" if tiers else "workload"):
        used = own.deployments
        pools = [share for share in shares if share.deployment in used]
        summary = _counts(own) | _latencies(own, ()) | _goodput(own, window, pools, tiers)
        summary |= revenue(own, pools, tariffs) | reasoning_summary(own)
        summary = with_costs(summary, own)
        for deployment in parts:
            made = requests.of([deployment]).sums("all").output
            held = _held_back(parts[deployment], window.seconds) if made else {}
            mine = own.of([deployment]).sums("all").output
            for key, tokens in held.items():
                if deployment in used:
                    summary[key] = summary.get(key, 0.0) + tokens * mine / made
        found[name] = summary
    return found


def _by_deployment(shares: Sequence[Share]) -> dict[str, list[Share]]:
    """Return the pools of each deployment, the one whose name it bears first."""
    found: dict[str, list[Share]] = {}
    for share in shares:
        found.setdefault(share.deployment, []).append(share)
    return found


def _service(
    requests: Answers,
    window: Window,
    shares: Sequence[Share],
    tiers: Mapping[str, Tier],
    tariffs: Mapping[str, Tariff],
) -> Summary:
    """Return how the requests of these deployments were served, and what they cost in time."""
    output = sum(share.totals.output_tokens for share in shares) / window.seconds
    total = output + sum(share.input_tokens for share in shares) / window.seconds
    summary = _counts(requests) | _latencies(requests, shares)
    summary |= rates(output, total, sum(share.gpus for share in shares))
    summary |= _goodput(requests, window, shares, tiers) | revenue(requests, shares, tariffs)
    summary |= _time_lost(shares, window.seconds)
    recomputed = sum(share.recomputed_tokens for share in shares)
    if recomputed:
        summary["recomputed_tokens"] = round(recomputed)
    swapped = sum(share.swapped_bytes for share in shares)
    if swapped:
        summary["swapped_gb"] = swapped / 1e9
    for tier in sorted({tier for share in shares for tier in share.loaded_tokens}):
        back = [(share.loaded_tokens.get(tier, 0.0), share.kv_bytes_per_token) for share in shares]
        tokens, size = sum(many for many, _ in back), sum(many * each for many, each in back)
        if tokens:
            summary[tier] = {"loaded_tokens": round(tokens), "loaded_gb": size / 1e9}
    summary |= _prefix_cache(requests, shares) | _speculation(shares)
    summary |= reasoning_summary(requests) | _images(requests)
    return summary | _absences(shares, window.seconds) | _held_back(shares, window.seconds)


def _prefix_cache(requests: Answers, shares: Sequence[Share]) -> Summary:
    """Return what prompts that came in the window, and got into a batch, found of themselves."""
    asked = found = 0.0
    for share in shares:
        if share.prefix_caching:
            admitted = requests.of([share.deployment]).sums("admitted")
            asked += share.scale * admitted.prompt
            found += share.scale * admitted.cached
    if not asked:
        return {}
    return {
        "prefix_cache": {
            "hit_rate": found / asked,
            "found_tokens": round(found),
            "prompt_tokens": round(asked),
        }
    }


def _images(requests: Answers) -> Summary:
    """Return the images of requests that came in the window."""
    measured = requests.sums("measured")
    if not measured.images:
        return {}
    return {
        "images": {
            "share_of_requests": measured.pictured / measured.requests,
            "per_request": measured.images / measured.requests,
        }
    }


def _speculation(shares: Sequence[Share]) -> Summary:
    """Return how drafts fared in the window: of all steps of all sequences with them."""
    steps = drafted = accepted = 0.0
    for share in shares:
        steps += share.totals.verified
        drafted += share.totals.verified * share.draft_tokens
        accepted += share.totals.accepted
    if not steps:
        return {}
    return {
        "speculation": {
            "mean_acceptance_length": 1.0 + accepted / steps,
            "draft_acceptance_rate": accepted / drafted,
            "draft_tokens": round(drafted),
            "rejected_draft_tokens": round(drafted - accepted),
        }
    }


def _absences(shares: Sequence[Share], seconds: float) -> Summary:
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


def _held_back(shares: Sequence[Share], seconds: float) -> Summary:
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


def _own(timeseries: pd.DataFrame, window: Window, pools: Sequence[Share]) -> Summary:
    """Return what only a deployment has: its replicas, its GPUs and their watts, by pool."""
    if len(pools) == 1:
        return _pool(timeseries, window, pools[0])
    summary: Summary = {
        "replicas": sum(pool.replicas for pool in pools),
        "gpus": sum(pool.gpus for pool in pools),
        "utilisation": _utilisation(pools, window),
        "pools": {},
    }
    gpu_j = sum(pool.gpu_j for pool in pools)
    summary["gpu_power_w"] = gpu_j / window.seconds / summary["gpus"]
    output = sum(pool.totals.output_tokens for pool in pools)
    if output:
        summary["gpu_energy_per_output_token_j"] = gpu_j / output
    for pool in pools:
        found = _pool(timeseries, window, pool) | _time_lost([pool], window.seconds)
        found |= _absences([pool], window.seconds) | _held_back([pool], window.seconds)
        summary["pools"][pool.role] = found
    return summary


def _pool(timeseries: pd.DataFrame, window: Window, share: Share) -> Summary:
    """Return what a pool of equal replicas has."""
    summary: Summary = {"replicas": share.replicas, "gpus": share.gpus}
    summary["gpu_power_w"] = share.gpu_j / window.seconds / share.gpus
    if share.totals.output_tokens and share.role != "prefill":
        summary["gpu_energy_per_output_token_j"] = share.gpu_j / share.totals.output_tokens
    if share.scaling is not None:
        summary["autoscaling"] = scaling_summary(
            share.scaling, share.totals, share.replicas, window.seconds
        )
    prefix = f"{share.name}."
    summary["utilisation"] = _utilisation([share], window)
    if f"{prefix}kv_use" in timeseries:
        summary["utilisation"] |= _kv_use(window, timeseries, prefix)
    return summary


def _counts(requests: Answers) -> Summary:
    counts = requests.outcomes()
    refused = {outcome: counts.get(outcome, 0) for outcome in ("timed_out", "rejected")}
    found = {
        "requests_arrived": sum(counts.values()),
        "requests_completed": counts.get("completed", 0),
        "requests_failed": sum(refused.values()),
        "requests_unfinished": counts.get("unfinished", 0),
    }
    return found | {f"requests_{outcome}": many for outcome, many in refused.items() if many}


def _latencies(requests: Answers, shares: Sequence[Share]) -> Summary:
    found: Summary = {}
    confidence: Summary = {}
    for name in LATENCIES:
        spread = requests.spread(name)
        if spread is not None:
            found[name] = spread.figures
            if spread.half_widths:
                confidence[name] = spread.half_widths
    # The first pool is the one that decodes; gaps are not told apart by workload.
    gaps = shares[0].gaps if len(_by_deployment(shares)) == 1 else None
    if gaps is not None and gaps.count:
        found["itl_ms"] = {"mean": 1e3 * gaps.mean_s(), "std": 1e3 * gaps.std_s()}
        found["itl_ms"] |= {f"p{p}": 1e3 * gaps.quantile_s(p / 100) for p in (50, 90, 95, 99)}
    if "tpot_ms" in found and found["tpot_ms"]["p50"] > 0:
        found["interactivity_tokens_per_s_per_user"] = 1e3 / found["tpot_ms"]["p50"]
    if confidence:
        found["confidence"] = confidence
    return found


def rates(output: float, total: float, gpus: float) -> Summary:
    """Return output tokens/s and all tokens/s, of so many GPUs and of each."""
    return {
        "output_tokens_per_s": output,
        "total_tokens_per_s": total,
        "output_tokens_per_s_per_gpu": output / gpus,
        "total_tokens_per_s_per_gpu": total / gpus,
    }


def _goodput(
    requests: Answers, window: Window, shares: Sequence[Share], tiers: Mapping[str, Tier]
) -> Summary:
    """Return goodput and the verdict on the promises, where anything is promised."""
    verdicts = _verdicts(requests, shares, tiers)
    if not verdicts:
        return {}
    own = [(share.scale, requests.of([share.name]).sums("good")) for share in shares]
    found: Summary = {
        "goodput_requests_per_s": sum(scale * good.requests for scale, good in own)
        / window.seconds,
        "goodput_output_tokens_per_s": sum(scale * good.output for scale, good in own)
        / window.seconds,
    }
    if len(verdicts) == 1 and (tiers or len(_by_deployment(shares)) == 1):
        found["slo"] = verdicts[0]
    else:
        found["slo"] = {"met": all(verdict["met"] for verdict in verdicts)}
    return found


def _verdicts(
    requests: Answers, shares: Sequence[Share], tiers: Mapping[str, Tier]
) -> list[Summary]:
    """Return the verdict on each promise: of classes, and of deployments to all other requests."""
    here = requests.workloads
    alike: dict[tuple[str, Promise, float], list[str]] = {}
    for workload, tier in tiers.items():
        if workload in here and tier.promise is not None:
            alike.setdefault((tier.name, tier.promise, tier.percentile), []).append(workload)
    found = [
        _verdict(requests.of(workloads=workloads), promise, percentile)
        for (_, promise, percentile), workloads in alike.items()
    ]
    promised = {workload for workload, tier in tiers.items() if tier.promise is not None}
    rest = requests.of(workloads=set(here) - promised)
    return found + [
        _verdict(rest.of([share.name]), share.promise, share.percentile)
        for share in shares
        if min(share.promise) < np.inf and (not tiers or share.name in rest.deployments)
    ]


def _verdict(own: Answers, promise: Promise, percentile: float) -> Summary:
    """Return whether a promise is kept to these requests; one without answer breaks it."""
    limits = zip(("ttft", "tpot", "e2e", "ttfo"), promise, strict=True)
    verdict: Summary = {"met": True, "percentile": percentile}
    measured = own.sums("measured").requests
    if measured:
        verdict["share_of_requests_met"] = own.sums("good").requests / measured
    for name, limit_s in limits:
        if limit_s == np.inf:
            continue
        kept = own.kept(name, limit_s, percentile)
        entry: Summary = {"limit_ms": limit_s * 1e3, "met": kept.met}
        if kept.value_ms is not None:
            entry["value_ms"] = kept.value_ms
        verdict[name] = entry
        verdict["met"] = verdict["met"] and entry["met"]
    return verdict


def _time_lost(shares: Sequence[Share], seconds: float) -> Summary:
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


def _utilisation(shares: Sequence[Share], window: Window) -> Summary:
    gpu_seconds = sum(share.gpus * window.seconds for share in shares)
    busy = sum(share.gpus_per_replica * share.totals.busy_s for share in shares)
    found: Summary = {"gpu_busy": busy / gpu_seconds}
    replica_busy = sum(share.totals.busy_s for share in shares)
    if replica_busy:
        sequences = sum(share.totals.sequence_s for share in shares)
        found["mean_batch"] = sequences / replica_busy
    return found


def _kv_use(window: Window, timeseries: pd.DataFrame, prefix: str = "") -> Summary:
    inside = timeseries[
        (timeseries["time_s"] > window.start_s) & (timeseries["time_s"] <= window.end_s)
    ]
    if not len(inside):
        return {}
    use = inside[f"{prefix}kv_use"]
    return {"kv_use": {"mean": float(use.mean()), "max": float(use.max())}}


def _little(shares: Sequence[Share], run_s: float) -> Summary:
    """Return both sides of Little's law, L and lambda * W, over the whole run."""
    inside = sum(share.request_seconds for share in shares) / run_s
    accepted = sum(share.accepted for share in shares)
    found: Summary = {"requests_in_system": inside, "arrival_rate_per_s": accepted / run_s}
    if accepted:
        found["time_in_system_s"] = sum(share.system_seconds for share in shares) / accepted
    return found
