"""Services whose deployments stand at several sites: who is asked goes by price, carbon, way."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.errors import InputError
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario

NORTH = {
    "grid_limit": "30 kW",
    "pue": 1.2,
    "price": "0.05 USD/kWh",
    "carbon": {"steps": [["0 s", "30 g/kWh"], ["20 s", "500 g/kWh"]]},
}
SOUTH = {
    "grid_limit": "30 kW",
    "pue": 1.2,
    "price": {"steps": [["0 s", "0.1 USD/kWh"], ["30 s", "0.01 USD/kWh"]]},
    "carbon": "300 g/kWh",
}


def two(policy: dict[str, Any], **more: Any) -> Scenario:
    row = {"system": "dgx-h100", "count": 1, "servers_per_rack": 1}
    given = {
        "name": "two",
        "seed": 1,
        "duration": "40 s",
        "sites": {"north": NORTH, "south": SOUTH},
        "racks": [row | {"site": "north"}, row | {"site": "south"}],
        "deployments": {
            "n": {"model": "llama-3.1-8b", "replicas": 1, "site": "north"},
            "s": {"model": "llama-3.1-8b", "replicas": 1, "site": "south"},
        },
        "services": {"chat": {"deployments": ["n", "s"], **policy}},
        "workload": {
            "w": {
                "deployment": "chat",
                "arrivals": {"process": "poisson", "rate": "5 /s"},
                "lengths": {"prompt": 200, "output": 50},
            }
        },
    }
    return validate(Scenario, given | more)


def asked(run: Run, start_s: float, end_s: float) -> set[str]:
    rows = run.requests[run.requests["arrival_s"].between(start_s, end_s)]
    assert len(rows) > 10
    return set(rows["deployment"].unique())


@pytest.mark.parametrize(("policy", "turns_s"), [("cheapest", 30.0), ("cleanest", 20.0)])
def test_requests_follow_the_lower_signal_as_it_turns(policy: str, turns_s: float) -> None:
    run = simulate(two({"policy": policy}), debug=True)
    assert asked(run, 0.0, turns_s) == {"n"}
    assert asked(run, turns_s, 40.0) == {"s"}
    made = {name: site["output_tokens_per_s"] for name, site in run.summary["sites"].items()}
    assert made["north"] / made["south"] == pytest.approx(turns_s / (40.0 - turns_s), rel=0.3)


def test_a_site_that_goes_dark_sends_its_users_to_the_other() -> None:
    struck = {"schedule": [{"at": "20 s", "what": "north/feed", "lasts": "15 s"}]}
    run = simulate(two({"policy": "fallback"}, failures=struck), debug=True)
    assert asked(run, 0.0, 19.0) == {"n"}
    assert asked(run, 21.0, 34.0) == {"s"}
    assert run.summary["requests_completed"] == len(run.requests)


def test_users_go_to_the_nearest_site() -> None:
    regions = {
        "up": {"share": "50 %", "round_trip": {"n": "10 ms", "s": "80 ms"}},
        "down": {"share": "50 %", "round_trip": {"n": "80 ms", "s": "10 ms"}},
    }
    run = simulate(two({"policy": "nearest"}, regions=regions), debug=True)
    pairs = set(zip(run.requests["region"], run.requests["deployment"], strict=True))
    assert pairs == {("up", "n"), ("down", "s")}
    seen = run.requests["ttft_ms"] - run.requests["server_ttft_ms"]
    assert seen.min() == pytest.approx(seen.max(), abs=1e-6)
    assert 10.0 <= seen.min() < 20.0  # the way there and back, and the host's time for a request


@pytest.mark.parametrize(("policy", "figure"), [("cheapest", "price"), ("cleanest", "carbon")])
def test_the_same_figure_at_all_sites_is_refused(policy: str, figure: str) -> None:
    same = {**SOUTH, figure: NORTH[figure]}
    with pytest.raises(InputError, match=f"policy: {figure} is the same at all its sites"):
        two({"policy": policy}, sites={"north": NORTH, "south": same})


def test_one_price_for_all_is_refused() -> None:
    with pytest.raises(InputError, match="all its deployments are at one site"):
        two(
            {"policy": "cheapest"},
            deployments={
                "n": {"model": "llama-3.1-8b", "replicas": 1, "site": "north"},
                "s": {"model": "llama-3.1-8b", "replicas": 1, "site": "north"},
            },
            sites={"north": NORTH},
            racks=[{"system": "dgx-h100", "count": 1, "servers_per_rack": 1, "site": "north"}],
        )
