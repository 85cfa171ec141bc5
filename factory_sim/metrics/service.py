"""What was earned, and what each tenant got: sums over requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory_sim.metrics.answers import Answers
from factory_sim.metrics.requests import Tariff
from factory_sim.metrics.share import Share


def revenue(
    requests: Answers, shares: Sequence[Share], tariffs: Mapping[str, Tariff]
) -> dict[str, float]:
    """Return the dollars that requests of these deployments paid, where anything has a price.

    Of requests that arrived after the warm-up and were completed, within their promise where only
    those pay: their prompt and output tokens times their prices, those of replicas that are not
    simulated with them.
    """
    if not tariffs:
        return {}
    scales = {share.deployment: share.scale for share in shares}
    return {"revenue_usd": requests.dollars(tariffs, scales)}


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
