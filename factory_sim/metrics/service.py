"""What was earned, and what each tenant got: sums over the request table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from factory_sim.metrics.requests import Tier
from factory_sim.metrics.share import Share


def revenue(
    requests: pd.DataFrame, shares: Sequence[Share], tiers: Mapping[str, Tier]
) -> dict[str, float]:
    """Return the dollars that requests of these deployments paid, where anything has a price.

    Of requests that arrived after the warm-up and were completed: their prompt and output tokens
    times the prices of their class, those of replicas that are not simulated with them.
    """
    if not any(tier.input_usd or tier.output_usd for tier in tiers.values()):
        return {}
    paid = requests[requests["measured"] & (requests["outcome"] == "completed")]
    scales = {share.deployment: share.scale for share in shares}
    scale = paid["deployment"].map(scales).astype(float)
    dollars = 0.0
    for name, of in (("prompt_tokens", "input_usd"), ("output_tokens", "output_usd")):
        prices = {workload: getattr(tier, of) for workload, tier in tiers.items()}
        price = paid["workload"].map(prices).astype(float)
        dollars += float((scale * price * paid[name]).sum())
    return {"revenue_usd": dollars}


def by_tenant(requests: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return counts, tokens and TTFT of each tenant.

    Tokens, and TTFT, are of requests that arrived after the warm-up; tokens of the completed.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, own in requests.groupby("tenant", observed=True):
        measured = own[own["measured"]]
        done = measured[measured["outcome"] == "completed"]
        summary: dict[str, Any] = {
            "requests_arrived": len(own),
            "requests_completed": int((own["outcome"] == "completed").sum()),
            "input_tokens": int(done["prompt_tokens"].sum()),
            "output_tokens": int(done["output_tokens"].sum()),
        }
        waited = measured["ttft_ms"].dropna().to_numpy()
        if len(waited):
            summary["ttft_ms"] = {
                "mean": float(waited.mean()),
                "p50": float(np.quantile(waited, 0.5)),
                "p99": float(np.quantile(waited, 0.99)),
            }
        found[str(name)] = summary
    return found
