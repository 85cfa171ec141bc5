"""A run as the engine would leave it, made of smooth curves and seeded noise.

For tests of what is written, read, printed and drawn; nothing here is a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

DURATION_S, WARMUP_S, PERIOD_S = 600.0, 60.0, 1.0
LIMIT_MW = 0.2
OUTCOMES = ["completed", "timed_out", "rejected", "unfinished"]
TTFT_LIMIT_MS, TPOT_LIMIT_MS = 2000.0, 50.0


class Scenario:
    """The little of a scenario that a run folder asks for."""

    name, kernel = "synthetic", "simpy"

    def __init__(self, **more: Any) -> None:
        self._more = more

    def model_dump(self, *, mode: str, exclude_none: bool, exclude_unset: bool) -> dict[str, Any]:
        assert mode == "json" and exclude_none and exclude_unset
        own = {"name": self.name, "seed": 1, "duration": "600.0 s", "warmup": "60.0 s"}
        return own | self._more


@dataclass
class Run:
    summary: dict[str, Any]
    requests: pd.DataFrame
    timeseries: pd.DataFrame
    scenario: Scenario
    record: dict[str, Any]
    assumed: list[dict[str, Any]]


ASSUMED = [
    {
        "of": "accelerator h100-sxm",
        "figure": "tdp",
        "value": "700.0 W",
        "kind": "datasheet",
        "source": "NVIDIA H100 datasheet",
    },
    {
        "of": "engine vllm",
        "figure": "per_step",
        "value": "0.002 s",
        "kind": "calibrated",
        "source": "a fit",
        "note": "of its own",
    },
]


def run(requests: int = 4000, seed: int = 1) -> Run:
    """Return ten minutes of a small site that runs into its cap for a while."""
    rng = np.random.default_rng(seed)
    frame = _requests(requests, rng)
    series = _timeseries(requests, rng)
    return Run(_summary(frame, series), frame, series, Scenario(), record(), ASSUMED)


def record() -> dict[str, Any]:
    return {
        "schema_version": 2,
        "version": "0.1.0",
        "seed": 1,
        "engine": {"chat": "compiled"},
        "versions": {"python": "3.11.0", "numpy": "2.0.0", "simpy": "4.1.1"},
        "wall_s": 3.2,
        "kinds": {"datasheet": 14, "estimate": 9, "calibrated": 6},
    }


def _requests(count: int, rng: np.random.Generator) -> pd.DataFrame:
    arrival = np.sort(rng.uniform(0.0, DURATION_S, count))
    busy = np.exp(-(((arrival - 330.0) / 90.0) ** 2))
    prompt = rng.lognormal(6.6, 0.9, count).astype(np.int64) + 1
    output = rng.lognormal(4.9, 0.8, count).astype(np.int64) + 1
    ttft = 60.0 + 0.08 * prompt + rng.lognormal(4.6, 0.7, count) * (1 + 9 * busy)
    tpot = rng.lognormal(3.35, 0.18, count) * (1 + 0.5 * busy)
    tpot[output == 1] = np.nan
    e2e = ttft + np.nan_to_num(tpot) * (output - 1)
    outcome = np.full(count, "completed", dtype=object)
    outcome[arrival * 1000.0 + e2e > 612_000.0] = "unfinished"
    outcome[rng.random(count) < 0.002] = "timed_out"
    done = outcome == "completed"
    for column in (ttft, tpot, e2e):
        column[~done] = np.nan
    met = done & (ttft <= TTFT_LIMIT_MS) & ~(tpot > TPOT_LIMIT_MS)
    return pd.DataFrame(
        {
            "request_id": np.arange(count),
            "workload": pd.Categorical(["chat"] * count),
            "deployment": pd.Categorical(["chat"] * count),
            "replica": rng.integers(0, 4, count),
            "arrival_s": arrival,
            "admitted_s": arrival + np.nan_to_num(ttft) / 4000.0,
            "ttft_ms": ttft,
            "tpot_ms": tpot,
            "e2e_ms": e2e,
            "prompt_tokens": prompt,
            "output_tokens": output,
            "cached_tokens": np.zeros(count, dtype=np.int64),
            "preemptions": rng.poisson(0.01, count),
            "outcome": pd.Categorical(outcome, categories=OUTCOMES),
            "slo_met": met,
            "measured": arrival >= WARMUP_S,
        }
    )


def _timeseries(count: int, rng: np.random.Generator) -> pd.DataFrame:
    time = np.arange(0.0, DURATION_S + 12.0, PERIOD_S)
    load = np.clip(time / 40.0, 0.0, 1.0) * (0.72 + 0.28 * np.exp(-(((time - 330) / 90) ** 2)))
    load = np.where(time > DURATION_S, load * 0.2, load) + rng.normal(0.0, 0.012, time.size)
    load = np.clip(load, 0.05, 1.0)
    gpu = 0.024 + 0.088 * load
    server = gpu * 1.22 + 0.010
    it = server + 0.004
    grid = it * 1.3
    clock = np.clip(LIMIT_MW * 0.93 / grid, 0.6, 1.0)
    gpu, server, it, grid = (
        power * np.minimum(clock * 1.0, 1.0) for power in (gpu, server, it, grid)
    )
    queue = np.maximum(0.0, 260.0 * (load - 0.85)).round()
    running = (load * 380).round()
    tokens = count / DURATION_S * 180.0
    series = {
        "time_s": time,
        "gpu_power_mw": gpu,
        "server_power_mw": server,
        "it_power_mw": it,
        "grid_power_mw": grid,
        "grid_limit_mw": np.full(time.size, LIMIT_MW),
        "pue": grid / it,
        "clock": clock,
        "queue_requests": queue,
        "running_requests": running,
        "kv_use": np.clip(load * 0.8, 0.0, 1.0),
        "output_tokens_per_s": tokens * load / 0.8,
        "prompt_tokens_per_s": tokens * 5.5 * load / 0.8,
    }
    own = ("queue_requests", "running_requests", "kv_use", "output_tokens_per_s")
    return pd.DataFrame(series | {f"chat.{name}": series[name] for name in own})


def distribution(values: pd.Series) -> dict[str, float]:
    """Return the six figures a summary gives of a latency."""
    values = values.dropna()
    percentiles = {f"p{q}": float(np.percentile(values, q)) for q in (50, 90, 95, 99)}
    return {"mean": float(values.mean()), "std": float(values.std())} | percentiles


def _promise(limit_ms: float, values: pd.Series) -> dict[str, Any]:
    value = float(np.percentile(values.dropna(), 99))
    return {"limit_ms": limit_ms, "met": value <= limit_ms, "value_ms": value}


def _summary(requests: pd.DataFrame, series: pd.DataFrame) -> dict[str, Any]:
    done = requests[(requests.outcome == "completed") & requests.measured]
    outcomes = requests.outcome.value_counts()
    window = DURATION_S - WARMUP_S
    inside = series[(series.time_s >= WARMUP_S) & (series.time_s < DURATION_S)]
    output = float(inside.output_tokens_per_s.mean())
    total = output + float(inside.prompt_tokens_per_s.mean())
    power = {
        level: float(inside[f"{level}_power_mw"].mean())
        for level in ("gpu", "server", "it", "grid")
    }
    slo = {
        "ttft": _promise(TTFT_LIMIT_MS, done.ttft_ms),
        "tpot": _promise(TPOT_LIMIT_MS, done.tpot_ms),
    }
    slo = {
        "met": bool(slo["ttft"]["met"] and slo["tpot"]["met"]),
        "percentile": 99.0,
        "share_of_requests_met": float(requests[requests.measured].slo_met.mean()),
        **slo,
    }
    rates = {}
    for base, rate in (("output", output), ("total", total)):
        rates |= {
            f"{base}_tokens_per_s": rate,
            f"{base}_tokens_per_s_per_gpu": rate / 96,
            f"{base}_tokens_per_s_per_it_mw": rate / power["it"],
            f"{base}_tokens_per_s_per_utility_mw": rate / power["grid"],
            f"{base}_tokens_per_s_per_it_mw_provisioned": rate / 0.1836,
            f"{base}_tokens_per_s_per_utility_mw_provisioned": rate / 0.23868,
        }
    return {
        "requests_arrived": len(requests),
        "requests_completed": int(outcomes.get("completed", 0)),
        "requests_failed": int(outcomes.get("timed_out", 0)),
        "requests_unfinished": int(outcomes.get("unfinished", 0)),
        "requests_rejected": 0,
        "requests_timed_out": int(outcomes.get("timed_out", 0)),
        "window_s": {"start": WARMUP_S, "end": DURATION_S},
        "gpus": 96,
        "ttft_ms": distribution(done.ttft_ms),
        "tpot_ms": distribution(done.tpot_ms),
        "itl_ms": distribution(done.tpot_ms),
        "e2e_ms": distribution(done.e2e_ms),
        "interactivity_tokens_per_s_per_user": 1000.0 / float(done.tpot_ms.median()),
        **rates,
        "goodput_requests_per_s": float(done.slo_met.sum()) / window,
        "goodput_output_tokens_per_s": output * float(done.slo_met.mean()),
        "utilisation": {
            "gpu_busy": 0.93,
            "kv_use": {"mean": float(inside.kv_use.mean()), "max": float(inside.kv_use.max())},
            "mean_batch": 74.2,
        },
        "provisioned": {"it_mw": 0.1836, "utility_mw": 0.23868},
        "power_mw": power,
        "energy_per_output_token_j": power["grid"] * 1e6 / output,
        "gpu_energy_per_output_token_j": power["gpu"] * 1e6 / output,
        "pue": 1.3,
        "grid_power_mw": {"mean": power["grid"], "max": float(series.grid_power_mw.max())},
        "grid_limit_mw": LIMIT_MW,
        "cap_headroom_mw": LIMIT_MW - float(series.grid_power_mw.max()),
        "cap_overshoot_s": 0.0,
        "cap_overshoot_max_mw": 0.0,
        "clock": {
            "mean": float(inside.clock.mean()),
            "share_below_reference": float((inside.clock < 1.0).mean()),
            "lowest": float(inside.clock.min()),
        },
        "time_lost": {
            "compute": 0.11,
            "memory": 0.44,
            "communication": 0.08,
            "host": 0.21,
            "power_throttled": 0.06,
            "waiting_for_work": 0.085,
            "kv_full": 0.015,
        },
        "bottleneck": "host",
        "oee": {"availability": 1.0, "performance": 0.62, "quality": 0.91, "oee": 0.5642},
        "confidence": {
            "ttft_ms": {"mean": 21.0, "p50": 11.0},
            "tpot_ms": {"mean": 0.4, "p50": 0.3, "p99": 2.1},
            "e2e_ms": {"mean": 160.0},
        },
        "littles_law": {"requests_in_system": 40.1, "arrival_rate_per_s": 6.67},
        "slo": slo,
        "deployments": {"chat": {"slo": slo}},
    }


POWER_KW = {
    "gpus": 80.0,
    "hosts": 20.0,
    "fans": 3.0,
    "server_supplies": 5.0,
    "switches": 12.0,
    "pdu": 0.5,
    "ups": 4.0,
    "transformer": 1.5,
    "air_movers": 3.0,
    "coolant_pumps": 1.0,
    "water_pumps": 1.0,
    "roof_fans": 4.0,
    "chillers": 10.0,
    "building": 5.0,
}
"""Mean power of a site with a building around it, by where it ends: 120 kW of IT, 150 in all."""

USE_KW = {"prefill": 30.0, "decode": 40.0, "communication": 5.0, "idle": 5.0}


def building(requests: int = 400, battery_kw: float = 0.0, generation_kw: float = 0.0) -> Run:
    """Return a run with a power chain, a cooling plant and weather.

    battery_kw: what the battery took in the mean (below 0: gave), swinging by 8 kW about it.
    """
    found = run(requests)
    old = found.timeseries
    time = old.time_s.to_numpy()
    shape = old.grid_power_mw.to_numpy() / old.grid_power_mw[old.time_s.between(61, 600)].mean()
    parts = {part: kw / 1e3 * shape for part, kw in POWER_KW.items()}
    servers = sum(parts[part] for part in ("gpus", "hosts", "fans", "server_supplies"))
    it, load = servers + parts["switches"], sum(parts.values())
    battery = (battery_kw + 8.0 * np.sin(time / 540.0 * 2.0 * np.pi)) / 1e3 * bool(battery_kw)
    own = {"battery_mw": battery} if battery_kw else {}
    own |= {"generation_mw": np.full(time.size, generation_kw / 1e3)} if generation_kw else {}
    grid_kw = 150.0 + battery_kw - generation_kw
    found.timeseries = old.assign(
        gpu_power_mw=parts["gpus"],
        server_power_mw=servers,
        it_power_mw=it,
        grid_power_mw=load + battery - generation_kw / 1e3,
        pue=load / it,
        **{f"{part}_mw": power for part, power in list(parts.items())[5:]},
        **own,
        dry_bulb_c=24.0 + 3.0 * time / 600.0,
        wet_bulb_c=np.full(time.size, 17.0),
        air_loop_c=np.full(time.size, 20.0),
        liquid_loop_c=np.full(time.size, 32.0),
        coolant_hottest_c=36.0 + 3.0 * shape,
        gpu_hottest_c=32.0 + 34.0 * shape,
    )
    hours = (DURATION_S - WARMUP_S) / 3600.0
    energy = {part: kw / 1e3 * hours for part, kw in POWER_KW.items()}
    found.summary |= {
        "power_mw": {"gpu": 0.080, "server": 0.108, "it": 0.120, "grid": grid_kw / 1e3},
        "grid_power_mw": {
            "mean": grid_kw / 1e3,
            "max": float(found.timeseries.grid_power_mw.max()),
        },
        "pue": 1.25,
        "energy_mwh": energy | ({"battery": battery_kw / 1e3 * hours} if battery_kw else {}),
        "energy_use_mwh": {use: kw / 1e3 * hours for use, kw in USE_KW.items()},
        "temperature_c": {"gpu_hottest_c": 69.4, "coolant_hottest_c": 39.2},
        "power_chain": {
            "transformer": _stage(1, "N+1", 0.180, 0.240, 0.149, 0.85),
            "ups": _stage(2, "2N", 0.160, 0.320, 0.1205, 0.80),
            "pdu": _stage(4, "N", 0.160, 0.160, 0.120, 0.78),
        },
    }
    if generation_kw:
        found.summary["generation_mw"] = generation_kw / 1e3
    found.record |= {"racks": 3}
    return found


def scaled(requests: int = 400, battery_kw: float = 0.0, generation_kw: float = 0.0) -> Run:
    """Return the run of `building` with autoscaling: four replicas by the load, of eight."""
    found = building(requests, battery_kw, generation_kw)
    time = found.timeseries.time_s.to_numpy()
    found.timeseries = found.timeseries.assign(
        **{
            "chat.replicas_up": np.where(time < 300.0, 2.0, 6.0),
            "chat.replicas_starting": np.where((time > 200.0) & (time < 300.0), 4.0, 0.0),
            "chat.replicas_draining": np.where(time > 550.0, 1.0, 0.0),
        }
    )
    chat = found.summary["deployments"]["chat"]
    chat |= {"replicas": 8, "gpus": 64}
    chat["autoscaling"] = {
        "starts": 4,
        "stops": 1,
        "replica_hours": 0.6,
        "replicas_mean": 4.0,
        "requests_waited_for_start": 1234,
        "cold_start_s": {"mean": 100.0},
    }
    return found


OEE_LOSSES = {
    "useful": 0.45,
    "slo_missed": 0.04,
    "recomputed": 0.01,
    "small_batches": 0.12,
    "host_overhead": 0.08,
    "power_throttled": 0.05,
    "failures": 0.03,
    "cold_starts": 0.02,
    "no_demand": 0.15,
    "stopped": 0.05,
}


def priced() -> dict[str, Any]:
    """Return what the money of a run may come to."""
    paid = {"equipment": 6.0, "facility": 2.0, "electricity": 1.5, "demand": 0.5}
    return {
        "cost_usd": 10.0,
        "costs_usd": paid,
        "usd_per_gpu_h": 2.5,
        "usd_per_million_total_tokens": 0.5,
        "usd_per_million_input_tokens": 0.6,
        "usd_per_million_output_tokens": 4.0,
        "energy_usd_per_million_output_tokens": 0.3,
        "usd_per_million_by_kind": {"input": 0.2, "output": 3.0},
        "cost_band": {
            "usd_per_gpu_h": [2.0, 3.0],
            "usd_per_million_total_tokens": [0.4, 0.6],
            "usd_per_million_input_tokens": [0.5, 0.7],
            "usd_per_million_output_tokens": [3.0, 5.0],
            "profit_usd_per_mw_year": [-1e6, 9e6],
        },
        "revenue_usd_per_h": 80.0,
        "profit_usd_per_h": 20.0,
        "profit_usd_per_mw_year": 5e6,
        "contribution_usd_per_mw_year": 15e6,
        "downtime_usd_per_h": 66.0,
        "breakeven_utilisation": 0.75,
    }


def served(
    requests: int = 400,
    battery_kw: float = 0.0,
    generation_kw: float = 0.0,
    refused: float = 0.0,
) -> Run:
    """Return the run of `scaled` with two regions and a service of two deployments.

    A third of the requests come from far, a quarter are answered by `large`, and the share
    `refused` by nobody.
    """
    found = scaled(requests, battery_kw, generation_kw)
    found.summary |= priced() | {"oee_losses": OEE_LOSSES}
    users = {"chat": {"deployment": "ask"}, "apart": {"deployment": "chat"}}
    found.scenario = Scenario(workload=users)
    number = np.arange(len(found.requests))
    far = number % 3 == 0
    found.requests = table = found.requests.assign(
        workload="chat",
        deployment=np.where(number % 4 == 0, "large", "chat"),
        outcome=np.where(number < refused * requests, "rejected", "completed"),
        measured=True,
        region=np.where(far, "far", "near"),
        output_tokens=100,
        ttft_ms=np.where(far, 400.0, 60.0),
        server_ttft_ms=50.0,
        e2e_ms=np.where(far, 4000.0, 1010.0),
        server_e2e_ms=1000.0,
        longest_gap_ms=np.where(far, 900.0, 20.0),
    )
    done = table[table["outcome"] == "completed"]
    found.summary["services"] = {
        "ask": {
            "requests_arrived": len(table),
            "requests_completed": len(done),
            "requests_sent_on": 7,
            "deployments": {
                name: {"asked": 1, "answered": int((done["deployment"] == name).sum())}
                for name in ("chat", "large")
            },
        }
    }
    found.summary["regions"] = {
        name: {"answer_tokens_per_s": {"p50": pace}, "server_answer_tokens_per_s": {"p50": 100.0}}
        for name, pace in (("near", 99.0), ("far", 25.0))
    }
    return found


def _stage(
    blocks: int, redundancy: str, rating: float, installed: float, mean: float, highest: float
) -> dict[str, Any]:
    return {
        "blocks": blocks,
        "redundancy": redundancy,
        "rating_mw": rating,
        "installed_mw": installed,
        "stranded_mw": installed - rating,
        "mean_mw": mean,
        "highest_load": highest,
    }
