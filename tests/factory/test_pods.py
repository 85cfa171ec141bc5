"""Pods: who is dealt whom, who stays where, and what apart costs against together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from factory_sim.errors import InputError
from factory_sim.factory.layout import lay_out
from factory_sim.factory.pods import Deal
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario
from tests.queueing import md1_wait_s, mmc_wait_s


def test_pods_are_as_even_as_can_be() -> None:
    for pods, sizes in ((3, (3, 3, 2)), (8, (1,) * 8), (1, (8,))):
        (fleet,) = lay_out(podded(pods)).fleets
        assert fleet.pods == sizes


def test_of_few_replicas_for_many_as_many_pods_are_simulated_as_their_share() -> None:
    given = podded(4).model_dump(exclude_none=True)
    given["racks"][0]["count"] = 4
    for few, sizes in ((8, (8,)), (16, (8, 8)), (24, (8, 8, 8))):
        given["deployments"]["d"]["replicas"] = {"simulate": few, "represent": 32}
        (fleet,) = lay_out(validate(Scenario, given)).fleets
        assert fleet.pods == sizes


def test_each_pod_is_dealt_a_share_by_its_replicas() -> None:
    dealt = Deal([3, 1, 4], np.random.SeedSequence(1)).next_of(0, 80_000)
    assert chisquare(np.bincount(dealt), [30_000, 10_000, 40_000]).pvalue > 0.001


def test_who_is_dealt_whom_depends_on_the_stream_alone() -> None:
    seed = np.random.SeedSequence(1)
    whole = Deal([3, 1, 4], seed).next_of(1, 5_000)
    pieces, single = Deal([3, 1, 4], seed), Deal([3, 1, 4], seed)
    pieces.next_of(0, 777)
    parts = [pieces.next_of(1, many) for many in (1, 1023, 976, 3000)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert [single.one_of(1) for _ in range(5_000)] == whole.tolist()
    other = Deal([3, 1, 4], seed).next_of(2, 5_000)
    assert np.mean(whole == other) < 0.6  # as of streams that know nothing of each other


def podded(pods: int, **changes: Any) -> Scenario:
    """Return eight replicas that decode one sequence at a time, in so many pods."""
    return small_scenario(
        replicas=8,
        router={"policy": "least-outstanding", "pods": pods},
        engine={"max_num_seqs": 1},
        **changes,
    )


def ran(scenario: Scenario) -> Run:
    return simulate(scenario, debug=True)


def waits_s(run: Run) -> pd.Series[float]:
    """Return how long each request waited for its turn, the way to the replica not counted."""
    before_s = run.requests["admitted_s"] - run.requests["arrival_s"]
    return before_s - before_s.min()


def test_a_pod_is_a_deployment_with_its_share_of_the_requests() -> None:
    # With one sequence a replica and requests of one length, a pod of one is an M/D/1 queue.
    rate, seconds = 39.0, 600
    apart = simulate(podded(8, rate=f"{rate} /s", duration=f"{seconds} s"))
    service_s = apart.summary["utilisation"]["gpu_busy"] * 8 * seconds / len(apart.requests)
    assert 0.6 < rate / 8 * service_s < 0.8
    alone_s = md1_wait_s(rate / 8, service_s)
    assert waits_s(apart).mean() == pytest.approx(alone_s, rel=0.1)
    # Together they hardly wait, if longer than in one queue for all (half of M/M/8's wait).
    together = simulate(podded(1, rate=f"{rate} /s", duration=f"{seconds} s"))
    assert mmc_wait_s(8, rate, service_s) / 2 < waits_s(together).mean() < alone_s / 5


def test_whoever_is_lost_with_a_replica_stays_in_its_pod() -> None:
    given = podded(4, rate="40 /s", duration="12 s").model_dump(exclude_none=True)
    given["failures"] = {
        "schedule": [
            {"at": "4.001 s", "what": "rack-0/server-0/gpu-0", "lasts": "3 s"},
            {"at": "6.001 s", "what": "rack-0/server-0/gpu-6", "lasts": "300 s"},
            {"at": "6.001 s", "what": "rack-0/server-0/gpu-7", "lasts": "300 s"},
        ]
    }
    run = ran(validate(Scenario, given | {"drain": "5 s"}))
    again = run.requests[run.requests["retries"] > 0]
    # Replica 0 has a neighbour in its pod, 1; the last pod has none left, and keeps who comes.
    assert set(again["replica"][again["replica"] < 6]) == {1}
    lost = run.requests[run.requests["outcome"] == "unfinished"]
    assert set(lost["replica"]) <= {-1, 6, 7}
    assert (lost["arrival_s"] > 5.9).all() or (lost["replica"] >= 6).all()
    came = run.requests[run.requests["arrival_s"] > 6.1]
    assert (came["outcome"] == "unfinished").mean() == pytest.approx(0.25, abs=0.08)
    littles = run.summary["littles_law"]
    assert littles["requests_in_system"] == pytest.approx(
        littles["arrival_rate_per_s"] * littles["time_in_system_s"], rel=1e-9
    )


def test_one_pod_is_no_pod() -> None:
    one, none = ran(podded(1)), ran(small_scenario(replicas=8, router="least-outstanding"))
    assert len(one.requests) == len(none.requests)
    given = podded(1).model_dump(exclude_none=True)
    given["deployments"]["d"]["router"] = "least-outstanding"
    pd.testing.assert_frame_equal(one.requests, ran(validate(Scenario, given)).requests)


@pytest.mark.parametrize("pods", [0, -1, 1.5, "many"])
def test_pods_are_counted(pods: Any) -> None:
    with pytest.raises(InputError, match=r"deployments\.d\.router\.pods"):
        podded(pods)


def test_more_pods_than_replicas_are_refused() -> None:
    with pytest.raises(InputError, match=r"d\.router\.pods: 9 pods have only 8 replicas") as error:
        lay_out(podded(9))
    assert "ask for fewer pods" in str(error.value)


@pytest.mark.parametrize("policy", ["sticky", "cache-aware"])
def test_sessions_are_not_torn_apart(policy: str) -> None:
    with pytest.raises(InputError, match="pods are dealt requests at random; leave out 'pods'"):
        small_scenario(replicas=2, router={"policy": policy, "pods": 2})


def test_pods_stand_alone() -> None:
    given = podded(2).model_dump(exclude_none=True)
    given["deployments"]["d"]["autoscaling"] = {"policy": "reactive", "outstanding": 4}
    with pytest.raises(InputError, match=r"leave out router\.pods, or autoscaling"):
        validate(Scenario, given)


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    pytest.importorskip("numba")
    given = podded(4, rate="200 /s").model_copy(update={"kernel": "compiled"})
    one, other = (simulate(given, workers=many) for many in (1, 3))
    assert one.summary == other.summary
    pd.testing.assert_frame_equal(one.requests, other.requests, check_exact=True)
    pd.testing.assert_frame_equal(one.timeseries, other.timeseries, check_exact=True)


def test_pods_do_not_know_in_which_turn_workloads_send_at_once() -> None:
    pytest.importorskip("numba")
    given = podded(2).model_dump(exclude_none=True)
    (own,) = given["workload"].values()
    given["workload"] = {
        name: {**own, "arrivals": {"process": "constant", "rate": "2 /s"}} for name in ("a", "b")
    }
    auto = validate(Scenario, {**given, "kernel": "auto"})
    why = "workloads that may send in the same instant, to pods (router.pods)"
    assert simulate(auto).record["engine"] == {"d": f"simpy ({why})"}
    with pytest.raises(InputError, match="may send in the same instant, to pods"):
        simulate(validate(Scenario, {**given, "kernel": "compiled"}))
