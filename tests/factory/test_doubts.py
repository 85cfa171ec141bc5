"""What a run warns of: not settled, too short; and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.factory.results.doubts import steady
from factory_sim.factory.run import simulate
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario


def doubts(**changes: Any) -> list[str]:
    """Return what a run warns of whose answers take half a minute, but not of too few requests."""
    given = small_scenario(
        duration="200 s",
        arrivals={"process": "constant", "rate": "4 /s"},
        lengths={"prompt": 100, "output": 3_000},
        replicas=8,
    ).model_dump(exclude_none=True)
    given["power"] = {"period": "1 s"}
    told = simulate(validate(Scenario, given | changes)).record.get("warnings", ())
    return [doubt for doubt in told if "99th" not in doubt]


def test_a_run_that_fills_up_while_it_is_measured_says_from_when_to_measure() -> None:
    (told,) = doubts()
    assert told.startswith("warmup: the requests in the factory settle after ")
    asked = told.rpartition("say warmup: ")[2]
    assert 30.0 <= float(asked.removesuffix(" s")) <= 80.0
    assert doubts(warmup=asked) == []


def test_a_run_that_never_settles_says_so() -> None:
    few = {"d": {"model": "llama-3.1-8b", "replicas": 1, "engine": {"max_num_seqs": 8}}}
    told = doubts(deployments=few)
    assert told[0].startswith("duration: the requests in the factory do not settle (MSER-5)")


def test_percentiles_of_few_requests_say_how_long_to_run() -> None:
    short = small_scenario(
        duration="100 s", lengths={"prompt": {"uniform": {"low": 1, "high": 9_000}}, "output": 20}
    )
    (told,) = simulate(short).record["warnings"]
    assert told.startswith("duration: 99th percentiles of 501 requests rest on the slowest 5")
    assert told.endswith("say duration: 200 s")


@pytest.mark.parametrize(
    "arrivals",
    [
        {"process": "poisson", "rate": "5 /s", "shape": {"steps": [["0 s", 1], ["5 s", 2]]}},
        {"process": "stages", "stages": [{"rate": "5 /s", "duration": "5 s"}]},
        {"process": "closed", "concurrency": 4, "requests": 40},
        {"process": "offline", "requests": 40},
    ],
)
def test_a_load_that_changes_is_not_expected_to_settle(arrivals: dict[str, Any]) -> None:
    assert steady(small_scenario())
    assert not steady(small_scenario(arrivals=arrivals))


def test_a_site_that_changes_is_not_expected_to_settle() -> None:
    given = small_scenario().model_dump(exclude_none=True)
    falling = {"grid_limit": {"steps": [["0 s", "100 kW"], ["5 s", "50 kW"]]}, "pue": 1.25}
    broken = {"schedule": [{"at": "5 s", "what": "rack-0", "lasts": "1 s"}]}
    for changes in ({"site": falling}, {"failures": broken}):
        assert not steady(validate(Scenario, given | changes))
