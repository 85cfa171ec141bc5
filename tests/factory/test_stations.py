"""The board of stations of whole runs."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.factory.run import simulate
from factory_sim.scenario.load import scenario_from
from tests.options.board import base, put


def summary(name: str, **changes: Any) -> dict[str, Any]:
    given = base(name)
    for path, value in changes.items():
        put(given, path.replace("__", "."), value)
    return dict(simulate(scenario_from(given)).summary)


def test_littles_law_holds_at_every_station_in_steady_state() -> None:
    found = summary("plain", duration="120 s", warmup="20 s", workload__w__round_trip="80 ms")
    assert list(found["stations"]) == ["network", "queue", "prefill", "decode"]
    for name, station in found["stations"].items():
        law = station["throughput_per_s"] * station["cycle_time_s"]
        assert station["wip"] == pytest.approx(law, rel=0.02), name
    assert found["stations"]["network"]["cycle_time_s"] == pytest.approx(0.08, rel=1e-9)
    # Poisson arrivals at 20 /s: 2,000 of them give 2 % either way.
    assert found["takt_time_s"] == pytest.approx(1.0 / 20.0, rel=0.07)


def test_the_pool_with_the_most_work_is_the_bottleneck_and_it_moves() -> None:
    """Long prompts keep who computes them busy, long answers who decodes."""
    at = {}
    for name, lengths in {"prompts": (1200, 4), "answers": (20, 300)}.items():
        shape = {"prompt": lengths[0], "output": lengths[1]}
        found = summary(
            "pools", workload__w__lengths=shape, network__links__kv__bandwidth="90 GB/s"
        )
        found = found["deployments"]["d"]
        assert set(found["station_loads"]) == {"prefill", "decode", "transfer"}
        at[name] = found["bottleneck_station"]
    assert at == {"prompts": "prefill", "answers": "decode"}


def test_a_slow_link_is_the_bottleneck() -> None:
    found = summary("pools", network__links__kv__bandwidth="0.8 GB/s")["deployments"]["d"]
    assert found["bottleneck_station"] == "transfer"
    assert found["stations"]["transfer"]["wip"] > found["stations"]["prefill"]["wip"]


def test_load_grows_with_the_rate_and_nothing_is_told_of_nobody() -> None:
    few, many = (summary("plain", workload__w__arrivals__rate=rate) for rate in ("5 /s", "40 /s"))
    load = [s["deployments"]["d"]["station_loads"]["prefill_and_decode"] for s in (few, many)]
    assert 4.0 < load[1] / load[0] < 16.0
    assert "stations" not in summary("plain", recording="aggregate")
