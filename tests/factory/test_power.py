"""Power policies: a curtailment, and what each of them makes of it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import factory_sim as fs
from factory_sim.factory.fleets.make import power_of
from factory_sim.factory.layout import lay_out

CURTAILED = "site.grid_limit={steps: [[0 s, 60 kW], [40 s, 28 kW], [80 s, 60 kW]]}"


@cache
def run(policy: str) -> fs.Run:
    overrides = [
        "duration=2 min",
        "warmup=0 s",
        "racks.0.count=1",
        "provisioning.oversubscribe=1",
        "workload.chat.arrivals={process: closed, concurrency: 300}",
        CURTAILED,
        f"power.policy={policy}",
    ]
    return fs.simulate(fs.load(None, overrides), debug=True)


def grid_kw(of: fs.Run, start_s: float, end_s: float) -> np.ndarray:
    series = of.timeseries
    inside = (series.time_s > start_s) & (series.time_s <= end_s)
    return 1e3 * series.grid_power_mw[inside].to_numpy()


def test_nobody_acting_leaves_the_overshoot_to_see() -> None:
    watched = run("none")
    assert watched.summary["clock"]["lowest"] == 1.0
    assert watched.summary["cap_overshoot_s"] == 40.0
    assert grid_kw(watched, 41, 80).min() > 28.0


def test_clocks_fall_at_once_and_come_back_by_steps() -> None:
    clocked = run("clock")
    over_s = clocked.summary["cap_overshoot_s"]
    assert 1.0 <= over_s <= 3.0  # the period in which it fell, and the delays
    assert grid_kw(clocked, 44, 80).max() <= 28.0
    clocks = clocked.timeseries.clock.to_numpy()
    assert clocks[:40].min() == 1.0
    assert 0.5 <= clocks[45:80].min() < 1.0
    rises = np.diff(clocks[80:])
    assert clocks[100:120].max() == 1.0
    assert rises.max() <= 0.05 + 1e-9
    assert clocked.summary["time_lost"]["power_throttled"] > 0.0


def test_admitting_less_empties_batches_instead() -> None:
    admitted = run("admit")
    running = admitted.timeseries.running_requests.to_numpy()
    assert admitted.summary["clock"]["lowest"] == 1.0
    assert running[60:80].mean() < 0.8 * running[20:40].mean()
    assert grid_kw(admitted, 60, 80).max() < grid_kw(run("none"), 60, 80).min()


def test_energy_at_the_meter_is_its_parts() -> None:
    done = run("none")
    layout = lay_out(done.scenario)
    (fleet,) = layout.fleets
    series = done.timeseries
    model = power_of(fleet.accelerator, fleet.power_curve)
    gpus = len(layout.site.gpus)
    assert series.gpu_power_mw.between(gpus * model.idle_w / 1e6, gpus * model.tdp_w / 1e6).all()
    idle, peak = layout.idle, layout.peak
    assert series.grid_power_mw.between(idle.load_w / 1e6, peak.load_w / 1e6 * (1 + 1e-9)).all()
    parts = sum(done.summary["energy_mwh"].values())
    metered = done.summary["power_mw"]["grid"] * done.summary["window_s"]["end"] / 3600.0
    assert parts == pytest.approx(metered, rel=1e-9)
