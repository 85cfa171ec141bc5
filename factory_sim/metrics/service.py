"""What was earned, and what each tenant got: sums over requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory_sim.metrics.answers import Answers
from factory_sim.metrics.requests import Tier
from factory_sim.metrics.share import Share


def revenue(
    requests: Answers, shares: Sequence[Share], tiers: Mapping[str, Tier]
) -> dict[str, float]:
    """Return the dollars that requests of these deployments paid, where anything has a price.

    Of requests that arrived after the warm-up and were completed: their prompt and output tokens
    times the prices of their class, those of replicas that are not simulated with them.
    """
    if not any(tier.input_usd or tier.output_usd for tier in tiers.values()):
        return {}
    usd = {workload: (tier.input_usd, tier.output_usd) for workload, tier in tiers.items()}
    scales = {share.deployment: share.scale for share in shares}
    return {"revenue_usd": requests.dollars(usd, scales)}


def by_tenant(requests: Answers) -> dict[str, dict[str, Any]]:
    """Return counts, tokens and TTFT of each tenant.

    Tokens, and TTFT, are of requests that arrived after the warm-up; tokens of the completed.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, own in requests.by("tenant"):
        outcomes, done = own.outcomes(), own.sums("done")
        found[name] = {
            "requests_arrived": own.sums("all").requests,
            "requests_completed": outcomes.get("completed", 0),
            "input_tokens": done.prompt,
            "output_tokens": done.output,
        }
        waited = own.spread("ttft_ms")
        if waited is not None:
            figures = waited.figures
            found[name]["ttft_ms"] = {key: figures[key] for key in ("mean", "p50", "p99")}
    return found
