"""The tables of a year: a row for each hour, and for each month what its hours come to."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from factory_sim.experiments.year.answers import TURNED_AWAY, Answers, Asked
from factory_sim.experiments.year.surface import Promise

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MWH_J = 3.6e9

SUMS = {
    "requests": "asked_requests_per_s",
    "turned_away": "turned_away_requests_per_s",
    "output_tokens": "output_tokens_per_s",
    "total_tokens": "total_tokens_per_s",
    "goodput_output_tokens": "goodput_output_tokens_per_s",
    "water_l": "water_l_per_s",
}
"""Columns of months that are sums of rates over the seconds of their hours."""

ENERGIES = {
    "gpu_energy_mwh": "gpu_power_mw",
    "it_energy_mwh": "it_power_mw",
    "site_energy_mwh": "site_power_mw",
    "energy_mwh": "grid_power_mw",
}
"""The same, of megawatts: MWh."""

MONEY = ("cost_usd", "carbon_t")


def hours_table(asked: Asked, found: Answers, promises: list[Promise]) -> pd.DataFrame:
    """Return a row for each hour. `slo_missed`: some promise is not kept in it."""
    hours, mean, start = asked.hours, asked.subject.asked, asked.subject.scenario.starts_at
    assert start is not None
    begins = [start + timedelta(seconds=each) for each in hours.time_s.tolist()]
    tokens = found.served * mean.output
    turned_away = found.asked - found.served
    overloaded = turned_away > TURNED_AWAY * found.asked
    seconds, meter_w = hours.step_s, found.meter_w
    columns: dict[str, object] = {
        "time_s": hours.time_s,
        "start": begins,
        "seconds": seconds,
        "asked_requests_per_s": found.asked,
        "turned_away_requests_per_s": turned_away,
        "speed": hours.speed,
        "replicas_up": asked.replicas,
        "dry_bulb_c": [ambient.dry_c for ambient in hours.ambient],
        "wet_bulb_c": [ambient.wet_c for ambient in hours.ambient],
        "clock": found.clock,
        "output_tokens_per_s": tokens,
        "total_tokens_per_s": found.served * (mean.prompt + mean.output),
        "goodput_output_tokens_per_s": tokens * np.where(overloaded, 0.0, found.met),
        **{name: _known(name, each, overloaded) for name, each in found.latencies.items()},
        "gpu_power_mw": found.gpu_w / 1e6,
        "it_power_mw": found.it_w / 1e6,
        "site_power_mw": found.load_w / 1e6,
        "grid_power_mw": meter_w / 1e6,
        "grid_limit_mw": hours.limit_w / 1e6,
        "pue": found.load_w / found.it_w,
        "water_l_per_s": found.water_kg_per_s,
    }
    if hours.usd_per_j is not None:
        columns["usd_per_mwh"] = hours.usd_per_j * MWH_J
        columns["cost_usd"] = hours.usd_per_j * meter_w * seconds
    if hours.g_per_j is not None:
        columns["gco2_per_kwh"] = hours.g_per_j * 3.6e6
        columns["carbon_t"] = hours.g_per_j * meter_w * seconds / 1e6
    missed = overloaded.copy()
    for promise in promises:
        missed |= found.latencies[promise.name] > promise.limit_ms
    top = asked.subject.clocks[0]
    columns |= {
        "capped": (found.clock < top - 1e-9) | found.over,
        "over_limit": found.over,
        "overloaded": overloaded,
        "slo_missed": missed,
    }
    return pd.DataFrame(columns)


def _known(name: str, values: Floats, overloaded: Flags) -> Floats:
    """Return a latency, but none of waiting where the queue grows until the hour is over."""
    waits = not name.rpartition(".")[2].startswith("tpot") and not name.startswith("tpot")
    return np.where(overloaded & waits, np.nan, values)


def months_table(hours: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each month, by the local time at which hours begin. Energy in MWh, water
    in litres; `hours_*`: hours in which something held."""
    months = pd.Index([f"{each:%Y-%m}" for each in hours["start"]], name="month")
    seconds = hours["seconds"]
    sums = {name: hours[rate] * seconds for name, rate in SUMS.items()}
    sums |= {name: hours[watts] * seconds / 3600.0 for name, watts in ENERGIES.items()}
    sums |= {name: hours[name] for name in MONEY if name in hours}
    sums |= {
        f"hours_{name}": hours[name] * seconds / 3600.0
        for name in ("slo_missed", "capped", "over_limit", "overloaded")
    }
    table = pd.DataFrame({"hours": seconds / 3600.0, **sums})
    found = table.groupby(months.to_numpy(), sort=False).sum().rename_axis("month").reset_index()
    found["pue"] = found["site_energy_mwh"] / found["it_energy_mwh"]
    found["grid_power_mw.max"] = (
        hours["grid_power_mw"].groupby(months.to_numpy(), sort=False).max().to_numpy()
    )
    return found
