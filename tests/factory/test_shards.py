"""Pods that others serve: whoever does, and in how many shards, the run is the same."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytest

from factory_sim.errors import InputError
from factory_sim.factory.hands import Answers, Call, Elsewhere, Wire
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario

pytest.importorskip("numba")


def podded(**changes: Any) -> Scenario:
    """Return seven replicas in three pods, two of which have two."""
    scenario = small_scenario(
        replicas=7, rate="60 /s", router={"policy": "power-of-two", "pods": 3}
    )
    given = scenario.model_dump(exclude_none=True) | {"kernel": "auto"}
    return validate(Scenario, given | changes)


def in_shards(scenario: Scenario, count: int, said: list[Call] | None = None) -> Elsewhere:
    """Return shards that serve a scenario's pods in this process, by what can be sent alone."""
    from factory_sim.experiments.apart import dealt
    from factory_sim.factory.kernel.shard import Shard

    def elsewhere(pods: Mapping[str, int]) -> Sequence[tuple[Mapping[str, range], Wire]]:
        return [(mine, wire(Shard(copied(scenario), mine))) for mine in dealt(pods, count)]

    def wire(shard: Shard) -> Wire:
        def send(calls: Sequence[Call]) -> Answers:
            if said is not None:
                said.extend(calls)
            found = copied(shard.converse(copied(calls)))
            return lambda: found

        return send

    return elsewhere


def copied(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def assert_same(one: Run, other: Run) -> None:
    assert one.summary == other.summary
    pd.testing.assert_frame_equal(one.timeseries, other.timeseries, check_exact=True)
    assert (one.rows is None) == (other.rows is None)
    if one.rows is not None:
        pd.testing.assert_frame_equal(one.requests, other.requests, check_exact=True)


@pytest.mark.parametrize("recording", ["full", "aggregate", {"keep": "sample", "share": 0.5}])
@pytest.mark.parametrize("count", [2, 3])
def test_whatever_is_kept_of_requests(recording: Any, count: int) -> None:
    scenario = podded(recording=recording)
    assert_same(simulate(scenario), simulate(scenario, elsewhere=in_shards(scenario, count)))


def test_what_fails_is_capped_and_comes_back_does_so_elsewhere_too() -> None:
    failures = {
        "schedule": [
            {"at": "4.001 s", "what": "rack-0/server-0/gpu-0", "lasts": "3 s"},
            {"at": "6.001 s", "what": "rack-0/server-0/gpu-5", "lasts": "300 s"},
        ]
    }
    scenario = podded(
        failures=failures,
        power={"policy": "clock"},
        site={"grid_limit": {"steps": [["0 s", "20 kW"], ["3 s", "4.6 kW"]]}, "pue": 1.2},
        provisioning={"oversubscribe": 2.5},
        recording="aggregate",
    )
    said: list[Call] = []
    far = simulate(scenario, elsewhere=in_shards(scenario, 2, said))
    assert_same(simulate(scenario), far)
    assert {"change", "do", "open_to", "clock"} <= {what for _, _, _, what, _ in said}
    assert (far.timeseries["clock"] < 1.0).any() and far.summary["oee"]["availability"] < 1.0


def test_several_deployments_have_their_own_pods() -> None:
    given = podded().model_dump(exclude_none=True)
    (own,), (work,) = given["deployments"].values(), given["workload"].values()
    given["deployments"] = {
        "a": own | {"replicas": 3},
        "b": own | {"replicas": 4, "router": {"pods": 2, "policy": "round-robin"}},
        "c": own | {"replicas": 1, "router": "random"},
    }
    rates = {"a": 20, "b": 35, "c": 8}
    given["workload"] = {
        name: work | {"deployment": name, "arrivals": {"process": "poisson", "rate": f"{rate} /s"}}
        for name, rate in rates.items()
    }
    scenario = validate(Scenario, given)
    said: list[Call] = []
    assert_same(simulate(scenario), simulate(scenario, elsewhere=in_shards(scenario, 2, said)))
    assert {call[:2] for call in said} == {("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)}


def test_orders_wait_for_the_next_look() -> None:
    scenario = podded(recording="aggregate")
    sent: list[list[str]] = []

    def counted(pods: Mapping[str, int]) -> Sequence[tuple[Mapping[str, range], Wire]]:
        def noting(wire: Wire) -> Wire:
            def send(calls: Sequence[Call]) -> Answers:
                sent.append([call[3] for call in calls])
                return wire(calls)

            return send

        return [(mine, noting(wire)) for mine, wire in in_shards(scenario, 1)(pods)]

    run = simulate(scenario, elsewhere=counted)
    looks = len(run.timeseries) + 200  # periods, and times at which rows are handed over
    assert len(sent) < 1.2 * looks and "put_aside" in {what for calls in sent for what in calls}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"router": "random"}, "--dask: nothing in this run is independent of the rest; give a "),
        ({"kernel": "simpy"}, r"--dask: pods are sent to a cluster only where .* \(d: as asked\)"),
    ],
)
def test_where_nothing_is_apart_there_is_nothing_to_send(changes: Any, why: str) -> None:
    given = podded().model_dump(exclude_none=True)
    if "router" in changes:
        given["deployments"]["d"] |= changes
        changes = {}
    scenario = validate(Scenario, given | changes)
    with pytest.raises(InputError, match=why):
        simulate(scenario, elsewhere=in_shards(scenario, 2))
