"""Prefix caching in a deployment: who caches, who is sent where, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.factory.engine.request import Request
from factory_sim.factory.routing import ROUTING
from factory_sim.factory.run import Run, simulate
from factory_sim.scenario.scenario import Scenario
from tests.factory.facility.sites import site_of
from tests.factory.small import small_scenario

COLUMNS = {
    "arrival": "at",
    "prompt": "prompt",
    "output": "output",
    "session": "who",
    "hashes": "hashes",
    "hash_tokens": 64,
}


def row(at: float, prompt: int, output: int, hashes: list[Any], who: str = "") -> dict[str, Any]:
    return {"at": at, "prompt": prompt, "output": output, "hashes": hashes, "who": who}


def conversations(count: int, turns: int) -> list[dict[str, Any]]:
    """Return conversations that share their first 64 tokens and grow by 128 a turn."""
    rows = []
    for who in range(count):
        for turn in range(turns):
            hashes = ["system", *(f"{who}-{part}" for part in range(2 * turn + 2))]
            prompt = 64 * len(hashes) - who % 3
            rows.append(row(0.3 * who + 2.0 * turn, prompt, 20, hashes, f"user {who}"))
    return sorted(rows, key=lambda row: row["at"])


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return what writes rows to a file and says how to send them."""

    def written(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
        path = tmp_path / "trace.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        columns = COLUMNS | changes.pop("columns", {})
        columns = {key: value for key, value in columns.items() if value is not None}
        return {"process": "trace", "path": str(path), "columns": columns} | changes

    return written


def problems(scenario: Scenario) -> list[str]:
    """Return what `check` and a run both find wrong."""
    found = [str(problem) for problem in fs.check(scenario).problems]
    with pytest.raises(InputError) as caught:
        simulate(scenario)
    assert set(map(str, caught.value.problems)) <= set(found)
    return found


# What a run makes of hashes.


def test_a_deployment_caches_where_prompts_carry_hashes(trace: Any) -> None:
    arrivals = trace(conversations(3, 4))
    run = simulate(small_scenario(duration="20 s", arrivals=arrivals), debug=True)
    rows = run.requests.sort_values("arrival_s")
    # Of the first prompt nothing, of each other first one the common beginning, of the next
    # turns the whole last prompt (a last hash that is not whole is nobody else's).
    assert rows["cached_tokens"].tolist() == [
        *(0, 64, 64),
        *(192, 128, 128),
        *(320, 256, 256),
        *(448, 384, 384),
    ]
    found, asked = rows["cached_tokens"].sum(), rows["prompt_tokens"].sum()
    assert run.summary["prefix_cache"] == {
        "hit_rate": found / asked,
        "found_tokens": found,
        "prompt_tokens": asked,
    }
    assert run.summary["deployments"]["d"]["prefix_cache"] == run.summary["prefix_cache"]
    off = small_scenario(duration="20 s", arrivals=arrivals, engine={"prefix_caching": False})
    plain = simulate(off)
    assert plain.requests["cached_tokens"].max() == 0
    assert "prefix_cache" not in plain.summary
    assert run.summary["ttft_ms"]["mean"] < plain.summary["ttft_ms"]["mean"]


def test_only_requests_of_the_window_count(trace: Any) -> None:
    scenario = small_scenario(duration="20 s", arrivals=trace(conversations(1, 4)))
    late = scenario.model_copy(update={"warmup": 3.0})
    assert simulate(late).summary["prefix_cache"]["prompt_tokens"] == 448 + 576
    assert simulate(late).summary["prefix_cache"]["found_tokens"] == 320 + 448


def test_copies_and_rounds_of_a_trace_are_others(trace: Any) -> None:
    rows = [row(0.0, 300, 5, [1, 2, 3, 4]), row(1.0, 300, 5, [1, 2, 7, 8])]
    for more in ({"superpose": 3}, {"loop": True, "requests": 6}):
        many = simulate(small_scenario(duration="60 s", arrivals=trace(rows, **more)))
        assert sorted(many.requests["cached_tokens"]) == [0, 0, 0, 128, 128, 128]


def test_two_workloads_do_not_find_each_other(trace: Any) -> None:
    scenario = small_scenario(duration="20 s", arrivals=trace(conversations(2, 3)))
    alone = simulate(scenario).requests["cached_tokens"]
    w = scenario.workload["w"]
    both = simulate(scenario.model_copy(update={"workload": {"w": w, "v": w}}))
    for name in ("w", "v"):
        own = both.requests[both.requests["workload"] == name]
        assert own["cached_tokens"].tolist() == alone.tolist()


# Routers.


class Desk:
    """A replica as a router sees it."""

    clock = 1.0

    def __init__(self, number: int, tokens: int = 0) -> None:
        self.number, self.tokens = number, tokens

    def found(self, request: Request) -> int:
        return self.tokens


def chosen(policy: str, loads: list[int], found: list[int]) -> int:
    router = ROUTING[policy](np.random.default_rng(0))
    desks = [Desk(number, tokens) for number, tokens in enumerate(found)]
    return router.choose(loads, desks, Request(0, 0.0, 100, 1))


@pytest.mark.parametrize(
    ("loads", "found", "number"),
    [
        ([3, 0, 1], [0, 0, 0], 1),  # nothing is cached: the shortest queue
        ([3, 0, 1], [51, 0, 0], 0),  # over half of the prompt
        ([3, 0, 1], [50, 0, 0], 1),
        ([3, 0, 1], [60, 70, 90], 2),
        ([3, 2, 1], [90, 90, 60], 1),  # equally much: the shorter queue
        ([32, 0, 1], [90, 0, 0], 0),
        ([33, 0, 1], [90, 0, 0], 1),  # too uneven
    ],
)
def test_cache_aware_weighs_what_is_cached_against_load(
    loads: list[int], found: list[int], number: int
) -> None:
    assert chosen("cache-aware", loads, found) == number


def test_sticky_goes_back_to_where_a_session_began() -> None:
    router = ROUTING["sticky"](np.random.default_rng(0))
    desks = [Desk(number) for number in range(3)]

    def sent(session: int, loads: list[int], open_desks: list[Desk]) -> int:
        asked = Request(0, 0.0, 100, 1, session=session)
        return open_desks[router.choose(loads, open_desks, asked)].number

    log = [sent(7, [1, 0, 2], desks), sent(8, [0, 1, 0], desks), sent(7, [0, 9, 0], desks)]
    log += [sent(-1, [0, 9, 0], desks), sent(-1, [1, 0, 0], desks)]  # of no session
    log += [sent(7, [3, 1], [desks[0], desks[2]])]  # desk 1 is closed: move, and stay
    log += [sent(7, [0, 0, 9], desks)]
    assert log == [1, 0, 1, 0, 1, 2, 2]


def test_routers_keep_conversations_together(trace: Any) -> None:
    rows = conversations(11, 5)
    arrivals = trace(rows)
    hits = {}
    for policy in ("round-robin", "cache-aware", "sticky"):
        run = simulate(
            small_scenario(duration="30 s", replicas=4, router=policy, arrivals=arrivals)
        )
        hits[policy] = run.summary["prefix_cache"]["hit_rate"]
        if policy == "sticky":
            homes = run.requests.groupby([row["who"] for row in rows])["replica"]
            assert set(homes.nunique()) == {1}
    assert hits["round-robin"] < 0.4 < hits["sticky"]
    assert hits["round-robin"] < 0.4 < hits["cache-aware"]


# Failures: caches are lost, requests are not.


@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.floats(0.0, 12.0), st.sampled_from(["gpu-0", "gpu-1"]), st.floats(0.1, 3.0)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["round-robin", "cache-aware", "sticky"]),
    st.sampled_from(["chunked", "continuous", "static"]),
)
def test_failures_lose_caches_and_no_requests(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[float, str, float]],
    router: str,
    batching: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "conversations.jsonl"
    path.write_text("\n".join(map(json.dumps, conversations(8, 5))))
    schedule = [
        {"at": f"{at!r} s", "what": f"rack-0/server-0/{gpu}", "lasts": f"{lasts!r} s"}
        for at, gpu, lasts in events
    ]

    def run() -> Run:
        return simulate(
            site_of(
                duration="15 s",
                failures={"schedule": schedule},
                deployments={
                    "d": {
                        "model": "llama-3.1-8b",
                        "replicas": 2,
                        "router": router,
                        "engine": {
                            "batching": batching,
                            "max_num_seqs": 4,
                            "gpu_memory_utilization": 0.2225,
                        },
                    }
                },
                workload={
                    "w": {
                        "deployment": "d",
                        "arrivals": {"process": "trace", "path": str(path), "columns": COLUMNS},
                    }
                },
            ),
            debug=True,
        )

    one = run()
    assert one.requests["outcome"].value_counts()["completed"] == 40
    assert (one.requests["cached_tokens"] < one.requests["prompt_tokens"]).all()
    assert pickle.dumps((one.requests, one.summary)) == pickle.dumps((run().requests, one.summary))


# What is refused.


def test_a_cache_that_could_find_nothing_is_refused() -> None:
    assert problems(small_scenario(engine={"prefix_caching": True})) == [
        "deployments.d.engine.prefix_caching: no workload of d says which prompts begin alike, so "
        "that nothing could be found; give a workload sessions, take a trace with hashes (such as "
        "Mooncake's hash_ids), or leave it out and say how many tokens are found with a workload's "
        "'cached'"
    ]


def test_given_hits_and_hashes_are_alternatives(trace: Any) -> None:
    arrivals = trace(conversations(1, 1))
    (problem,) = problems(small_scenario(arrivals=arrivals, cached=64))
    assert problem == (
        "workload.w.cached: the prompts carry hashes, and the run finds out what is cached; drop "
        "cached, or say deployments.d.engine.prefix_caching: false"
    )
    given = small_scenario(arrivals=arrivals, cached=64, engine={"prefix_caching": False})
    assert simulate(given).requests["cached_tokens"].tolist() == [64]


def test_hashes_cover_whole_kv_blocks(trace: Any) -> None:
    arrivals = trace([row(0.0, 24, 1, ["a"])], columns={"hash_tokens": 24})
    (problem,) = problems(small_scenario(arrivals=arrivals))
    assert problem == (
        "workload.w.arrivals: its hashes cover 24 tokens each, which are no whole KV blocks of 16; "
        "hash a multiple of 16 tokens, or say engine.prefix_caching: false"
    )


def test_routers_without_what_they_look_at_are_refused(trace: Any) -> None:
    assert problems(small_scenario(router="cache-aware")) == [
        "deployments.d.router.policy: cache-aware looks into prefix caches, and d has none; take "
        "least-outstanding, or a workload with sessions or whose prompts carry hashes"
    ]
    nobody = trace(conversations(2, 2), columns={"session": None})
    assert problems(small_scenario(router="sticky", arrivals=nobody)) == [
        "deployments.d.router.policy: sticky keeps a session's requests together, and no workload "
        "of d has sessions; take least-outstanding or cache-aware, give a workload 'sessions', or "
        "take a trace with a session column"
    ]


def test_few_replicas_stand_for_many_only_where_sessions_stay_whole(trace: Any) -> None:
    nobody = trace(conversations(2, 2), columns={"session": None})
    scenario = small_scenario(router="cache-aware", arrivals=nobody)
    racks = (scenario.racks[0].model_copy(update={"count": 2}),)
    few = {"simulate": 8, "represent": 16}
    deployment = scenario.deployments["d"]
    many = type(deployment).model_validate(
        {"model": "llama-3.1-8b", "router": "cache-aware", "replicas": few}
    )
    (problem,) = problems(scenario.model_copy(update={"racks": racks, "deployments": {"d": many}}))
    assert problem.startswith(
        "deployments.d.replicas.simulate: of a trace without sessions single requests are left out"
    )


def test_columns_of_hashes_are_refused_where_they_say_too_little_or_too_much(trace: Any) -> None:
    def refused(**columns: Any) -> str:
        with pytest.raises(InputError) as caught:
            small_scenario(arrivals=trace([], columns=columns))
        return str(caught.value)

    assert "hashes and hash_tokens belong together" in refused(hash_tokens=None)
    assert "name one of the two" in refused(cached="hit")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(0, 64, 1, [0]), row(1, 64, 1, 5)], "hashes is not a list of hashes (line 2)"),  # type: ignore[arg-type]
        ([row(0, 64, 1, [0]), row(1, 64, 1, [True])], "hashes is not a list of hashes (line 2)"),
        (
            [row(0, 65, 1, [0, 1]), row(1, 128, 1, [0])],
            "hashes is not one hash for every 64 tokens of the prompt (line 2)",
        ),
        (
            [row(0, 128, 1, [0, 1]), row(1, 128, 1, [2, 1])],
            "hashes has a hash that comes after another one elsewhere (line 2)",
        ),
        (
            [row(0, 128, 1, [0, 1]), row(1, 128, 1, [3, 3])],
            "hashes has a hash that comes after another one elsewhere (line 2)",
        ),
    ],
)
def test_hashes_that_cannot_be_are_malformed(
    trace: Any, rows: list[dict[str, Any]], reason: str
) -> None:
    (problem,) = problems(small_scenario(arrivals=trace(rows)))
    assert reason in problem


def test_check_says_that_prompts_are_cached(trace: Any) -> None:
    checked = fs.check(small_scenario(arrivals=trace(conversations(2, 2))))
    assert not checked.problems
    assert checked.sections["Deployment d"]["prefix cache"] == "on: prompts carry hashes"
    assert "prefix cache" not in fs.check(small_scenario()).sections["Deployment d"]
