"""Autoscaling of disaggregated pools: each follows its own load, and nothing on its way is lost."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.errors import InputError
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.scenario.scenario import Scenario
from tests.factory.side_by_side import Toy
from tests.factory.test_scaling import START_S, WEIGHTS, acts, energy, scaled, timetable

REACTIVE = {"policy": "reactive", "outstanding": 4}
KV_BYTES = 2 * 8 * 128 * 2 * 32  # of a token of llama-3.1-8b in bf16


def pools(
    decode: dict[str, Any] | None = None,
    prefill: dict[str, Any] | None = None,
    many: tuple[int, int] = (2, 2),
    kv: str = "50 GB/s",
    deployment: dict[str, Any] | None = None,
    overlap: bool = False,
    **changes: Any,
) -> Scenario:
    """Return a scenario of one deployment `d` in two pools, each scaled as told or not at all.

    many: replicas that compute prompts, and that decode. kv: bandwidth between them.
    """
    own: dict[str, Any] = {"replicas": many[0], "kv_link": "kv", "overlap": overlap}
    if prefill is not None:
        own["autoscaling"] = prefill
    changes.setdefault("network", {"links": {"kv": {"bandwidth": kv}}})
    given = {"prefill": own, "autoscaling": decode, **(deployment or {})}
    return scaled({}, many[1], link=None, deployment=given, **changes)


# -- to the second, with steps of a second ---------------------------------------------


def test_a_replica_that_decodes_finishes_what_it_has_and_stops() -> None:
    table = timetable(("0 s", 2), ("20 s", 1))
    # Prompts take a second each, caches cross in 26 us. At 30 s both have a request: the last goes,
    # whose own has 44 tokens to make from 11 s on.
    log = acts(pools(table), 90.0, (5.0, 60), (10.0, 45))
    crossed_s = 10 * KV_BYTES / 50e9
    assert log == [(30.0, 1, "drain"), (round(55.0 + crossed_s, 6), 1, "stop")]


def test_a_replica_that_computes_prompts_stops_when_all_its_kv_caches_are_sent() -> None:
    table = timetable(("0 s", 2), ("20 s", 1))
    slow = pools(prefill=table, kv=f"{10 * KV_BYTES / 35.0} B/s")
    # Each prompt's cache takes 35 s alone, and both share the link from 11 s on: the first is
    # through at 71 s, having had 5 s alone, and the second at 76 s.
    log = acts(slow, 90.0, (5.0, 60), (10.0, 60), pool="d/prefill")
    assert log == [(30.0, 1, "drain"), (76.0, 1, "stop")]


def test_a_request_wakes_first_one_pool_and_then_the_other() -> None:
    to_zero = {"policy": "reactive", "outstanding": 2, "min": 0, "stabilisation": "20 s"}
    both = pools(to_zero, to_zero)
    load_s = WEIGHTS / 8e9  # from storage
    open_s = 3.0 + load_s + START_S
    log = acts(both, 300.0, (3.0, 5), pool="d/prefill")
    assert log[:2] == [(3.0, 0, "start"), (round(open_s, 6), 0, "open")]
    # The prompt is computed a second later, and its KV cache waits for somebody to decode.
    assert acts(both, 300.0, (3.0, 5))[:2] == [
        (round(open_s + 1.0, 6), 0, "start"),
        (round(open_s + 1.0 + load_s + START_S, 6), 0, "open"),
    ]
    # It holds blocks where its prompt was computed until then, 188.03 s: the last look that saw it,
    # at 180 s, counts at 195 s, not at 210 s.
    assert log[2:] == [(210.0, 0, "stop")]


@pytest.mark.parametrize("overlap", [False, True])
def test_a_deadline_of_either_drain_sends_requests_back_to_their_prompts(overlap: bool) -> None:
    table = timetable(("0 s", 2), ("20 s", 1), drain_deadline="2 s")
    burst = {"process": "closed", "concurrency": 12}
    for decode, prefill in ((table, None), (None, table)):
        run = simulate(
            pools(decode, prefill, arrivals=burst, overlap=overlap, duration="2 min"),
            step_time=lambda fleet, clock: Toy(base=1.0, clock=clock),
            debug=True,
        )
        assert set(run.requests["outcome"]) == {"completed"}
        parts = run.summary["deployments"]["d"]["pools"]
        own = parts["decode" if decode else "prefill"]["autoscaling"]
        assert own["stops"] == 1
        if decode is not None:
            assert own["requests_resent"] > 0
            again = run.requests[run.requests["retries"] > 0]
            assert len(again) == own["requests_resent"]


# -- each by its own signal ------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "up"),
    [({"prompt": 30_000, "output": 2}, (3, 1)), ({"prompt": 100, "output": 1000}, (1, 3))],
)
def test_the_pool_that_has_the_work_grows(lengths: dict[str, int], up: tuple[int, int]) -> None:
    """Twelve clients are outstanding at the one pool or at the other: three replicas of four."""
    run = simulate(
        pools(
            REACTIVE,
            REACTIVE,
            (4, 4),
            arrivals={"process": "closed", "concurrency": 12},
            lengths=lengths,
            duration="10 min",
        )
    )
    last = run.timeseries.iloc[-20]
    assert run.timeseries["time_s"].iloc[-20] < 600.0
    assert (last["d/prefill.replicas_up"], last["d.replicas_up"]) == up
    parts = run.summary["deployments"]["d"]["pools"]
    assert parts["prefill"]["autoscaling"]["starts"] == up[0] - 1
    assert parts["decode"]["autoscaling"]["starts"] == up[1] - 1


# -- watts -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["decode", "prefill"])
def test_a_pool_that_sleeps_at_night_saves_the_idle_watts_of_its_servers(which: str) -> None:
    """Replicas of whole servers: of four, one is off from the look after the eighth minute on."""
    night = timetable(("0 s", 2), ("8 min", 1), stopped="off")
    whole = {"parallelism": {"tp": 8}}

    def quiet(scaling: dict[str, Any] | None) -> Run:
        return simulate(pools(**{which: scaling}, deployment=whole, servers=4))

    kept, saved = quiet(None), quiet(night)
    rack = lay_out(kept.scenario).site.racks[0]
    server_w = rack.load.draw(rack.gpu_idle_w).inlet / 4.0
    assert energy(kept) - energy(saved) == pytest.approx(1.25 * server_w * 720.0, rel=1e-9)
    parts = saved.summary["deployments"]["d"]["pools"]
    hours = parts[which]["autoscaling"]["replica_hours"]
    assert hours == pytest.approx((2 * 480.0 + 720.0) / 3600.0)
    assert sum("autoscaling" in part for part in parts.values()) == 1


# -- whatever happens ------------------------------------------------------------------


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    many = draw(st.integers(2, 4)), draw(st.integers(2, 4))

    def scaling(most: int) -> dict[str, Any]:
        more: dict[str, Any] = draw(
            st.sampled_from([{}, {"stopped": "off", "boot": "20 s"}, {"drain_deadline": "3 s"}])
        )
        if draw(st.booleans()):
            target = draw(st.sampled_from([{"outstanding": 2}, {"kv_use": "40 %"}]))
            least = {"min": draw(st.integers(0, 1)), "stabilisation": "30 s"}
            return {"policy": "reactive", **least, **target, **more}
        steps = [[f"{90 * n} s", draw(st.integers(0, most))] for n in range(5)]
        return {
            "policy": "scheduled",
            "replicas": {"steps": [*steps, ["450 s", 1], ["900 s", most - 1]]},
            **more,
        }

    which = draw(st.sampled_from(["decode", "prefill", "both", "both"]))
    changes: dict[str, Any] = {}
    if draw(st.booleans()):
        what = st.sampled_from(["rack-0/server-0/gpu-0", "rack-0/server-0", "storage"])
        changes["failures"] = {
            "schedule": [
                {"at": f"{draw(st.integers(1, 500))} s", "what": draw(what), "lasts": "40 s"}
                for _ in range(draw(st.integers(1, 2)))
            ]
        }
    engine: dict[str, Any] = {
        "max_num_seqs": draw(st.integers(1, 6)),
        "gpu_memory_utilization": 0.23,
    }
    return pools(
        scaling(many[1]) if which != "prefill" else None,
        scaling(many[0]) if which != "decode" else None,
        many,
        draw(st.sampled_from(["50 GB/s", "10 MB/s"])),
        {"engine": engine},
        draw(st.booleans()),
        arrivals=draw(
            st.sampled_from(
                [
                    {"process": "poisson", "rate": "0.3 /s"},
                    {"process": "closed", "concurrency": 6, "think_time": "20 s"},
                ]
            )
        ),
        lengths={"prompt": 50, "output": {"uniform": {"low": 1, "high": 200}}},
        seed=draw(st.integers(0, 99)),
        duration="9 min",
        drain="40 min",
        **changes,
    )


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_whatever_happens_requests_and_time_are_conserved(scenario: Scenario) -> None:
    def slow(fleet: object, clock: float) -> Toy:
        return Toy(base=0.02, per_sequence=0.005, clock=clock)

    run = simulate(scenario, step_time=slow, debug=True)
    requests = run.requests
    assert requests["request_id"].tolist() == list(range(len(requests)))
    # One replica of each pool is wanted from 450 s on, so that all are served in the end.
    assert set(requests["outcome"]) <= {"completed"}
    assert sum(run.summary["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)
    assert min(run.summary["time_lost"].values()) >= 0.0
    little = run.summary["littles_law"]
    if "time_in_system_s" in little:
        assert little["requests_in_system"] == pytest.approx(
            little["arrival_rate_per_s"] * little["time_in_system_s"], rel=1e-6
        )
    again = simulate(scenario, step_time=slow)
    assert pickle.dumps((requests, run.timeseries, run.summary)) == pickle.dumps(
        (again.requests, again.timeseries, again.summary)
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"prefill": REACTIVE | {"min": 2}},
            "deployments.d.prefill.autoscaling.min: keeps all 2 replicas up",
        ),
        (
            {"prefill": timetable(("0 s", 3))},
            "deployments.d.prefill.autoscaling.replicas: asks for 3 replicas, and 2 are placed",
        ),
        ({"prefill": {"policy": "reactive"}}, "prefill.autoscaling.*give a target: 'outstanding'"),
        (
            {"prefill": REACTIVE | {"weights_link": "kv"}},
            "deployments.d.prefill.autoscaling.weights_link: 'kv' carries KV caches",
        ),
        (
            {"prefill": REACTIVE | {"weights_link": "store"}},
            "deployments.d.prefill.autoscaling.weights_link: there is no link 'store'",
        ),
        (
            {
                "prefill": REACTIVE,
                "deployment": {"encoder": {"replicas": 1}, "autoscaling": None},
            },
            "a pool beside 'encoder' is not scaled yet",
        ),
    ],
)
def test_bad_input_is_named_with_its_mend(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        lay_out(pools(**given))
