"""What the summary says of services and of regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from factory_sim.metrics.share import Share
from factory_sim.metrics.statistics import describe


class ServiceUse(NamedTuple):
    """Who used a service. workloads: that send to it. asked: requests sent to each deployment.

    alone: whether nobody else sends to any of its deployments.
    """

    name: str
    workloads: Sequence[str]
    asked: Mapping[str, int]
    alone: bool


def trips_summary(
    requests: pd.DataFrame,
    services: Sequence[ServiceUse],
    shares: Sequence[Share],
    regions: Iterable[str],
) -> dict[str, Any]:
    """Return `services` and `regions`, each where the scenario has any."""
    found: dict[str, Any] = {}
    if services:
        found["services"] = {use.name: _service(requests, use, shares) for use in services}
    parts = {name: requests[requests["region"] == name] for name in regions}
    if parts:
        found["regions"] = {name: _region(own) for name, own in parts.items()}
    return found


def _service(requests: pd.DataFrame, use: ServiceUse, shares: Sequence[Share]) -> dict[str, Any]:
    """Return how a service was used: counts of the whole run, answers of those that were measured.

    What an answer cost all deployments is told where these work for nobody else.
    """
    own = requests[requests["workload"].isin(use.workloads)]
    done = own[own["outcome"] == "completed"]
    answered = done["deployment"].value_counts()
    found: dict[str, Any] = {
        "requests_arrived": len(own),
        "requests_completed": len(done),
        "requests_sent_on": int((own["deployments_asked"] - 1).sum()),
        "deployments": {
            name: {"asked": many, "answered": int(answered[name])}
            for name, many in use.asked.items()
        },
    }
    refused = own.get("escalation_refused")
    if refused is not None and refused.any():
        found["escalations_refused"] = int(refused.sum())
    measured = done[done["measured"]]
    if len(measured):
        tokens = measured["output_tokens"] + measured["earlier_tokens"]
        found["output_tokens_made_per_answer"] = float(tokens.mean())
        if use.alone:
            pools = [share for share in shares if share.deployment in use.asked]
            busy_s = sum(share.gpus_per_replica * share.totals.busy_s for share in pools)
            found["gpu_seconds_per_answer"] = busy_s / len(measured)
            found["gpu_energy_per_answer_j"] = sum(share.gpu_j for share in pools) / len(measured)
    return found


def _region(own: pd.DataFrame) -> dict[str, Any]:
    """Return what users of a region saw; latencies of those that arrived after the warm-up."""
    measured = own[own["measured"]]
    found: dict[str, Any] = {
        "requests_arrived": len(own),
        "requests_completed": int((own["outcome"] == "completed").sum()),
    }
    for name in ("ttft", "tpot", "e2e"):
        for side in ("", "server_"):
            values = measured[f"{side}{name}_ms"].dropna().to_numpy()
            if len(values):
                found[f"{side}{name}_ms"] = describe(values)
    done = measured[measured["outcome"] == "completed"]
    if len(done):
        found["longest_gap_ms"] = describe(done["longest_gap_ms"].to_numpy())
        for side in ("", "server_"):
            pace = 1e3 * done["output_tokens"] / done[f"{side}e2e_ms"]
            found[f"{side}answer_tokens_per_s"] = describe(pace.to_numpy())
    return found
