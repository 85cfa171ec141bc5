"""The summary of a run: what `summary.json` holds.

Latencies are of requests that arrived after the warm-up; rates, energy and lost time are of
the window from the end of the warm-up to the end of arrivals. A key is absent when the run
has no such thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from factory_sim.metrics.answers import LATENCIES, Answers
from factory_sim.metrics.gpu_time import absences, held_back, time_lost, utilisation
from factory_sim.metrics.promises import goodput
from factory_sim.metrics.reasoning import reasoning_summary, with_costs
from factory_sim.metrics.requests import Tariff, Tier
from factory_sim.metrics.sampled import with_widths
from factory_sim.metrics.scaling import scaling_summary
from factory_sim.metrics.service import by_tenant, revenue
from factory_sim.metrics.share import Share, by_deployment
from factory_sim.metrics.site import Window, power_of_site, uses_of
from factory_sim.metrics.training import TrainingShare, training_joules, training_summary

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
    parts = by_deployment(shares)
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
    summary["utilisation"] = utilisation(shares, window) | _kv_use(window, timeseries)
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
    parts = by_deployment(shares)
    for name, own in requests.by("class" if tiers else "workload"):
        used = own.deployments
        pools = [share for share in shares if share.deployment in used]
        summary = _counts(own) | _latencies(own, ()) | goodput(own, window, pools, tiers)
        summary |= revenue(own, pools, tariffs) | reasoning_summary(own)
        summary = with_costs(summary, own)
        for deployment in parts:
            made = requests.of([deployment]).sums("all").output
            held = held_back(parts[deployment], window.seconds) if made else {}
            mine = own.of([deployment]).sums("all").output
            for key, tokens in held.items():
                if deployment in used:
                    summary[key] = summary.get(key, 0.0) + tokens * mine / made
        found[name] = summary
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
    summary |= goodput(requests, window, shares, tiers) | revenue(requests, shares, tariffs)
    summary |= time_lost(shares, window.seconds)
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
    return summary | absences(shares, window.seconds) | held_back(shares, window.seconds)


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


def _own(timeseries: pd.DataFrame, window: Window, pools: Sequence[Share]) -> Summary:
    """Return what only a deployment has: its replicas, its GPUs and their watts, by pool."""
    if len(pools) == 1:
        return _pool(timeseries, window, pools[0])
    summary: Summary = {
        "replicas": sum(pool.replicas for pool in pools),
        "gpus": sum(pool.gpus for pool in pools),
        "utilisation": utilisation(pools, window),
        "pools": {},
    }
    gpu_j = sum(pool.gpu_j for pool in pools)
    summary["gpu_power_w"] = gpu_j / window.seconds / summary["gpus"]
    output = sum(pool.totals.output_tokens for pool in pools)
    if output:
        summary["gpu_energy_per_output_token_j"] = gpu_j / output
    for pool in pools:
        found = _pool(timeseries, window, pool) | time_lost([pool], window.seconds)
        found |= absences([pool], window.seconds) | held_back([pool], window.seconds)
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
    summary["utilisation"] = utilisation([share], window)
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
    gaps = shares[0].gaps if len(by_deployment(shares)) == 1 else None
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
