"""The summary of a run: what `summary.json` holds.

Latencies are of requests that arrived after the warm-up; rates, energy and lost time are of
the window from the end of the warm-up to the end of arrivals. A key is absent when the run
has no such thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from factory_sim.metrics.gaps import GapHistogram
from factory_sim.metrics.requests import Promise
from factory_sim.metrics.statistics import describe, half_widths
from factory_sim.metrics.totals import Totals

CAUSES = {
    "compute": "compute_s",
    "memory": "memory_s",
    "communication": "network_s",
    "host": "host_s",
    "power_throttled": "throttled_s",
    "thermally_throttled": "heated_s",
    "kv_full": "kv_full_s",
    "down": "down_s",
    "loading": "loading_s",
}
"""Causes of lost time and the totals they come from; idle time is `waiting_for_work`."""

Summary = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """What one deployment did within the window.

    replicas: all there are; scale: for how many of them each simulated one stands. totals: summed
    over all (per GPU of each). gpu_j: joules of its GPU boards, idle
    time included. request_seconds, system_seconds: the integral of requests inside over the
    whole run, and the sum of the times they spent inside (equal, by Little's law).
    """

    name: str
    replicas: int
    gpus_per_replica: int
    scale: float
    totals: Totals
    input_tokens: float
    recomputed_tokens: float
    gpu_j: float
    gaps: GapHistogram
    promise: Promise
    percentile: float
    request_seconds: float
    system_seconds: float
    accepted: int

    @property
    def gpus(self) -> int:
        """Return the GPUs of all replicas."""
        return self.replicas * self.gpus_per_replica


@dataclass(frozen=True)
class Window:
    """The site over the window [start_s, end_s].

    parts_j: joules by where they ended. it_j: those of IT. meter_j, generation_j: where they came
    from. water_kg, carbon_g, cost_usd: None where the site does not know. provisioned: watts set
    aside.
    """

    start_s: float
    end_s: float
    run_s: float
    parts_j: Mapping[str, float]
    it_j: float
    meter_j: float
    generation_j: float
    water_kg: float | None
    carbon_g: float | None
    cost_usd: float | None
    provisioned_it_w: float
    provisioned_grid_w: float
    gpus: int

    @property
    def load_j(self) -> float:
        """Return the joules that the site used itself, without what its battery took."""
        return sum(self.parts_j.values()) - self.parts_j["battery"]

    @property
    def seconds(self) -> float:
        """Return the length of the window."""
        return self.end_s - self.start_s


def summarise(
    requests: pd.DataFrame, timeseries: pd.DataFrame, window: Window, shares: Sequence[Share]
) -> Summary:
    """Return the summary of a run from its tables and what its deployments did."""
    services = {
        share.name: _service(requests[requests["deployment"] == share.name], window, [share])
        for share in shares
    }
    site = services[shares[0].name] if len(shares) == 1 else _service(requests, window, shares)
    output, total = site["output_tokens_per_s"], site["total_tokens_per_s"]
    summary = site | {"window_s": {"start": window.start_s, "end": window.end_s}}
    summary |= {"gpus": window.gpus} | _rates(output, total, window.gpus)
    summary |= _power(timeseries, window, output, total)
    summary["utilisation"] = _utilisation(shares, window, timeseries)
    summary["littles_law"] = _little(shares, window.run_s)
    summary["deployments"] = {
        share.name: services[share.name] | _own(timeseries, window, share) for share in shares
    }
    return summary


def _service(requests: pd.DataFrame, window: Window, shares: Sequence[Share]) -> Summary:
    """Return how the requests of these deployments were served, and what they cost in time."""
    output = sum(share.totals.output_tokens for share in shares) / window.seconds
    total = output + sum(share.input_tokens for share in shares) / window.seconds
    summary = _counts(requests) | _latencies(requests, shares)
    summary |= _rates(output, total, sum(share.gpus for share in shares))
    summary |= _goodput(requests, window, shares)
    summary |= _time_lost(shares, window.seconds)
    recomputed = sum(share.recomputed_tokens for share in shares)
    if recomputed:
        summary["recomputed_tokens"] = recomputed
    stands = {s.name: {"simulated": round(s.replicas / s.scale), "represented": s.replicas} for s in shares if s.scale > 1.0}
    if stands:
        summary["represented_replicas"] = stands
    return summary


def _own(timeseries: pd.DataFrame, window: Window, share: Share) -> Summary:
    """Return what only a deployment has: its replicas, its GPUs and their watts."""
    summary: Summary = {"replicas": share.replicas, "gpus": share.gpus}
    summary["gpu_power_w"] = share.gpu_j / window.seconds / share.gpus
    if share.totals.output_tokens:
        summary["gpu_energy_per_output_token_j"] = share.gpu_j / share.totals.output_tokens
    summary["utilisation"] = _utilisation([share], window, timeseries, f"{share.name}.")
    return summary


def _counts(requests: pd.DataFrame) -> Summary:
    counts = requests["outcome"].value_counts()
    failed = int(counts["timed_out"] + counts["rejected"])
    found = {
        "requests_arrived": len(requests),
        "requests_completed": int(counts["completed"]),
        "requests_failed": failed,
        "requests_unfinished": int(counts["unfinished"]),
    }
    for outcome in ("timed_out", "rejected"):
        if counts[outcome]:
            found[f"requests_{outcome}"] = int(counts[outcome])
    return found


def _latencies(requests: pd.DataFrame, shares: Sequence[Share]) -> Summary:
    measured = requests[requests["measured"]]
    found: Summary = {}
    confidence: Summary = {}
    for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
        values = measured[name].to_numpy()
        values = values[~np.isnan(values)]
        if len(values):
            found[name] = describe(values)
            widths = half_widths(values)
            if widths:
                confidence[name] = widths
    if len(shares) == 1 and shares[0].gaps.count:
        gaps = shares[0].gaps
        found["itl_ms"] = {"mean": 1e3 * gaps.mean_s(), "std": 1e3 * gaps.std_s()}
        found["itl_ms"] |= {f"p{p}": 1e3 * gaps.quantile_s(p / 100) for p in (50, 90, 95, 99)}
    if "tpot_ms" in found and found["tpot_ms"]["p50"] > 0:
        found["interactivity_tokens_per_s_per_user"] = 1e3 / found["tpot_ms"]["p50"]
    if confidence:
        found["confidence"] = confidence
    return found


def _rates(output: float, total: float, gpus: int) -> Summary:
    return {
        "output_tokens_per_s": output,
        "total_tokens_per_s": total,
        "output_tokens_per_s_per_gpu": output / gpus,
        "total_tokens_per_s_per_gpu": total / gpus,
    }


def _goodput(requests: pd.DataFrame, window: Window, shares: Sequence[Share]) -> Summary:
    """Return goodput and the verdict on the promises, where anything is promised."""
    promised = [share for share in shares if min(share.promise) < np.inf]
    if not promised:
        return {}
    measured = requests[requests["measured"]]
    good = measured[measured["slo_met"]]
    own = [(share.scale, good[good["deployment"] == share.name]) for share in shares]
    found: Summary = {
        "goodput_requests_per_s": sum(scale * len(rows) for scale, rows in own) / window.seconds,
        "goodput_output_tokens_per_s": sum(
            scale * float(rows["output_tokens"].sum()) for scale, rows in own
        )
        / window.seconds,
    }
    verdicts = [_verdict(measured, share) for share in promised]
    if len(shares) == 1:
        found["slo"] = verdicts[0]
    else:
        found["slo"] = {"met": all(verdict["met"] for verdict in verdicts)}
    return found


def _verdict(measured: pd.DataFrame, share: Share) -> Summary:
    """Return whether a deployment keeps its promise; a request without answer breaks it."""
    own = measured[measured["deployment"] == share.name]
    limits = zip(("ttft", "tpot", "e2e"), share.promise, strict=True)
    verdict: Summary = {"met": True, "percentile": share.percentile}
    if len(own):
        verdict["share_of_requests_met"] = float(own["slo_met"].mean())
    for name, limit_s in limits:
        if limit_s == np.inf:
            continue
        values = own[f"{name}_ms"]
        single = own["output_tokens"] == 1
        completed = own["outcome"] == "completed"
        if name == "tpot":
            values = values[~(completed & single)]
            completed = completed[~(completed & single)]
        waited = values.where(completed, np.inf).to_numpy()
        entry: Summary = {"limit_ms": limit_s * 1e3, "met": True}
        if len(waited):
            value = float(np.quantile(waited, share.percentile / 100, method="higher"))
            entry["met"] = value <= limit_s * 1e3
            if value < np.inf:
                entry["value_ms"] = value
        verdict[name] = entry
        verdict["met"] = verdict["met"] and entry["met"]
    return verdict


def _power(timeseries: pd.DataFrame, window: Window, output: float, total: float) -> Summary:
    seconds, parts = window.seconds, window.parts_j
    it_mw, grid_mw = window.it_j / seconds / 1e6, window.meter_j / seconds / 1e6
    inside = timeseries[
        (timeseries["time_s"] > window.start_s) & (timeseries["time_s"] <= window.end_s)
    ]
    grid, limit = timeseries["grid_power_mw"], timeseries["grid_limit_mw"]
    period = timeseries["time_s"].diff().fillna(timeseries["time_s"].iloc[:1])
    over = (grid - limit).clip(lower=0.0)
    over = over.where(over > 1e-9 * limit, 0.0)
    server_j = sum(parts[part] for part in ("gpus", "hosts", "fans", "server_supplies"))
    found: Summary = {
        "pue": window.load_j / window.it_j,
        "grid_power_mw": {"mean": grid_mw, "max": float(grid.max())},
        "grid_limit_mw": float(limit.min()),
        "power_mw": {
            "gpu": parts["gpus"] / seconds / 1e6,
            "server": server_j / seconds / 1e6,
            "it": it_mw,
            "grid": grid_mw,
        },
        "energy_mwh": {part: joules / 3.6e9 for part, joules in parts.items() if joules},
        "cap_headroom_mw": float((limit - grid)[inside.index].mean()),
        "cap_overshoot_s": float(period[over > 0].sum()),
        "cap_overshoot_max_mw": float(over.max()),
        "cap_overshoot_mwh": float((over * period).sum()) / 3600,
        "clock": {
            "mean": float(inside["clock"].mean()),
            "lowest": float(inside["clock"].min()),
            "share_below_reference": float((inside["clock"] < 1 - 1e-9).mean()),
        },
        "provisioned": {
            "it_mw": window.provisioned_it_w / 1e6,
            "utility_mw": window.provisioned_grid_w / 1e6,
        },
    }
    if window.generation_j:
        found["generation_mw"] = window.generation_j / seconds / 1e6
    for base, rate in (("output", output), ("total", total)):
        found[f"{base}_tokens_per_s_per_it_mw"] = rate / it_mw
        found[f"{base}_tokens_per_s_per_utility_mw"] = rate / grid_mw
        found[f"{base}_tokens_per_s_per_it_mw_provisioned"] = rate / (window.provisioned_it_w / 1e6)
        found[f"{base}_tokens_per_s_per_utility_mw_provisioned"] = rate / (
            window.provisioned_grid_w / 1e6
        )
    if output:
        found["energy_per_output_token_j"] = window.meter_j / (output * seconds)
        found["gpu_energy_per_output_token_j"] = parts["gpus"] / (output * seconds)
    return found | _footprint(window, output * seconds)


def _footprint(window: Window, output_tokens: float) -> Summary:
    """Return water, carbon and the energy bill, where the site knows them."""
    found: Summary = {}
    it_kwh = window.it_j / 3.6e6
    if window.water_kg is not None:
        found["wue_l_per_kwh"] = window.water_kg / it_kwh
        found["water_l"] = window.water_kg
    if window.carbon_g is not None:
        found["carbon_kg"] = window.carbon_g / 1e3
        if output_tokens:
            found["gco2_per_million_output_tokens"] = window.carbon_g / output_tokens * 1e6
    if window.cost_usd is not None:
        found["energy_cost_usd"] = window.cost_usd
        if output_tokens:
            per_million = window.cost_usd / output_tokens * 1e6
            found["energy_usd_per_million_output_tokens"] = per_million
    return found


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


def _utilisation(
    shares: Sequence[Share], window: Window, timeseries: pd.DataFrame, prefix: str = ""
) -> Summary:
    gpu_seconds = sum(share.gpus * window.seconds for share in shares)
    busy = sum(share.gpus_per_replica * share.totals.busy_s for share in shares)
    found: Summary = {"gpu_busy": busy / gpu_seconds}
    replica_busy = sum(share.totals.busy_s for share in shares)
    if replica_busy:
        sequences = sum(share.totals.sequence_s for share in shares)
        found["mean_batch"] = sequences / replica_busy
    inside = timeseries[
        (timeseries["time_s"] > window.start_s) & (timeseries["time_s"] <= window.end_s)
    ]
    if len(inside):
        use = inside[f"{prefix}kv_use"]
        found["kv_use"] = {"mean": float(use.mean()), "max": float(use.max())}
    return found


def _little(shares: Sequence[Share], run_s: float) -> Summary:
    """Return both sides of Little's law, L and lambda * W, over the whole run."""
    inside = sum(share.request_seconds for share in shares) / run_s
    accepted = sum(share.accepted for share in shares)
    found: Summary = {"requests_in_system": inside, "arrival_rate_per_s": accepted / run_s}
    if accepted:
        found["time_in_system_s"] = sum(share.system_seconds for share in shares) / accepted
    return found
