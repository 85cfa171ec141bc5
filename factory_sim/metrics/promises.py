"""Goodput, and the verdict on every promise: was it kept, and to how many requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from factory_sim.metrics.answers import Answers
from factory_sim.metrics.requests import Promise, Tier
from factory_sim.metrics.share import Share, by_deployment
from factory_sim.metrics.site import Summary, Window


def goodput(
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
    if len(verdicts) == 1 and (tiers or len(by_deployment(shares)) == 1):
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
