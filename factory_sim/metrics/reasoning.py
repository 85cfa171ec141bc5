"""What an answer takes where a model reasons first: tokens, joules and dollars of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def reasoning_summary(requests: pd.DataFrame) -> dict[str, Any]:
    """Return how much was reasoned, of completed requests that arrived after the warm-up.

    Empty where the table has no reasoning, or nothing was completed.
    """
    done = _done(requests)
    if not len(done):
        return {}
    reasoning, output = done["reasoning_tokens"], done["output_tokens"]
    return {
        "reasoning": {
            "share_of_requests": float((reasoning > 0).mean()),
            "share_of_output_tokens": float(reasoning.sum() / output.sum()),
        },
        "per_answer": {
            "output_tokens": float(output.mean()),
            "reasoning_tokens": float(reasoning.mean()),
        },
    }


def with_costs(summary: Mapping[str, Any], requests: pd.DataFrame) -> dict[str, Any]:
    """Return `summary` with what an answer costs: its output tokens at the mean cost of one.

    What prompts cost is in that mean, and tokens that deployments asked before have made for it
    count. Revenue is that of the completed requests.
    """
    if "per_answer" not in summary:
        return dict(summary)
    answer = dict(summary["per_answer"])
    done = _done(requests)
    tokens = answer["output_tokens"]
    if "earlier_tokens" in done:
        tokens += float(done["earlier_tokens"].mean())
    for key, of, share in (
        ("energy_j", "energy_per_output_token_j", 1.0),
        ("gpu_energy_j", "gpu_energy_per_output_token_j", 1.0),
        ("energy_usd", "energy_usd_per_million_output_tokens", 1e-6),
    ):
        if of in summary:
            answer[key] = tokens * summary[of] * share
    if "revenue_usd" in summary:
        answer["revenue_usd"] = summary["revenue_usd"] / len(done)
    return {**summary, "per_answer": answer}


def _done(requests: pd.DataFrame) -> pd.DataFrame:
    if "reasoning_tokens" not in requests:
        return requests[:0]
    return requests[requests["measured"] & (requests["outcome"] == "completed")]
