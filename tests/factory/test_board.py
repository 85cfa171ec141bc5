"""Boards with a power limit of their own: they keep it, by the clock, and give tokens up for it."""

from __future__ import annotations

from functools import cache

import pytest

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.factory.layout import lay_out

SERVER = [
    *("duration=60 s", "warmup=10 s", "drain=0 s", "racks.0.count=1", "racks.0.servers_per_rack=1"),
    *("provisioning.oversubscribe=1", "power.policy=none", "power.period=1 s"),
    "workload.chat.arrivals={process: closed, concurrency: 200}",
]


@cache
def run(*more: str) -> fs.Run:
    return fs.simulate(fs.load(None, [*SERVER, *more]), debug=True)


def gpu_w(of: fs.Run) -> float:
    series = of.timeseries[of.timeseries.time_s > 15]
    return 1e6 * float(series.gpu_power_mw.mean()) / 8


@pytest.mark.parametrize("limit_w", [350, 450])
def test_the_mean_draw_is_the_limit_and_tokens_pay_for_it(limit_w: int) -> None:
    free, held = run(), run(f"racks.0.gpu_power_limit={limit_w} W")
    assert gpu_w(free) > 1.1 * limit_w
    assert gpu_w(held) == pytest.approx(limit_w, rel=0.03)
    assert held.summary["clock"]["lowest"] < 1.0
    assert held.summary["output_tokens_per_s"] < free.summary["output_tokens_per_s"]
    assert held.summary["time_lost"]["power_throttled"] > 0.0
    # What it is for: tokens are given up more slowly than watts.
    kept = held.summary["output_tokens_per_s"] / free.summary["output_tokens_per_s"]
    assert kept > gpu_w(held) / gpu_w(free)


def test_a_limit_that_is_never_reached_changes_nothing() -> None:
    light = "workload.chat.arrivals={process: closed, concurrency: 1}"
    free, held = run(light), run(light, "racks.0.gpu_power_limit=690 W")
    assert held.requests.equals(free.requests)
    assert held.summary["clock"]["lowest"] == 1.0
    whole = run("racks.0.gpu_power_limit=700 W")
    assert whole.requests.equals(run().requests)


def test_the_clock_never_falls_below_its_floor() -> None:
    held = run("racks.0.gpu_power_limit=120 W")
    assert held.summary["clock"]["lowest"] == pytest.approx(0.5)


def test_the_manager_and_the_board_agree_on_the_lower_clock() -> None:
    cap = ("site.grid_limit=8.5 kW", "power.policy=clock", "provisioning.oversubscribe=2")
    both = run(*cap, "racks.0.gpu_power_limit=600 W")
    alone = run(*cap)
    assert both.timeseries.clock.mean() <= alone.timeseries.clock.mean() + 0.01
    assert both.summary["cap_overshoot_s"] <= alone.summary["cap_overshoot_s"] + 1.0


def test_racks_that_draw_less_are_more_under_the_same_limit() -> None:
    def racks(*more: str) -> int:
        wanted = ["racks.0.count=fill", "site.grid_limit=300 kW", *more]
        return len(lay_out(fs.load(None, [*SERVER, *wanted])).site.racks)

    basis = "provisioning.basis=measured-peak"
    limited = "racks.0.gpu_power_limit=400 W"
    assert racks(basis, limited) > racks(basis)
    assert racks(limited) == racks()  # nameplates do not know


@pytest.mark.parametrize("limit", ["60 W", "900 W"])
def test_a_limit_that_no_board_has_is_an_error(limit: str) -> None:
    with pytest.raises(InputError, match=r"racks\.0\.gpu_power_limit: must lie between 80.3 W"):
        lay_out(fs.load(None, [*SERVER, f"racks.0.gpu_power_limit={limit}"]))
