"""What an answer takes where a model reasons first: tokens, joules and dollars of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory_sim.metrics.answers import Answers, Sums


def reasoning_summary(requests: Answers) -> dict[str, Any]:
    """Return how much was reasoned, of completed requests that arrived after the warm-up.

    Empty where nothing reasons, or nothing was completed.
    """
    done = _done(requests)
    if not done.requests:
        return {}
    return {
        "reasoning": {
            "share_of_requests": done.reasoned / done.requests,
            "share_of_output_tokens": done.reasoning / done.output,
        },
        "per_answer": {
            "output_tokens": done.output / done.requests,
            "reasoning_tokens": done.reasoning / done.requests,
        },
    }


def with_costs(summary: Mapping[str, Any], requests: Answers) -> dict[str, Any]:
    """Return `summary` with what an answer costs: its output tokens at the mean cost of one.

    What prompts cost is in that mean, and tokens that deployments asked before have made for it
    count. Revenue is that of the completed requests.
    """
    if "per_answer" not in summary:
        return dict(summary)
    answer = dict(summary["per_answer"])
    done = _done(requests)
    tokens = answer["output_tokens"] + done.earlier / done.requests
    for key, of, share in (
        ("energy_j", "energy_per_output_token_j", 1.0),
        ("gpu_energy_j", "gpu_energy_per_output_token_j", 1.0),
        ("energy_usd", "energy_usd_per_million_output_tokens", 1e-6),
    ):
        if of in summary:
            answer[key] = tokens * summary[of] * share
    if "revenue_usd" in summary:
        answer["revenue_usd"] = summary["revenue_usd"] / done.requests
    return {**summary, "per_answer": answer}


def _done(requests: Answers) -> Sums:
    return requests.sums("done") if requests.has("reasoning_tokens") else Sums()
