"""Sessions in a deployment: exact logs, what is found of them, how they end, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.physics.step_time import StepTime
from factory_sim.scenario.failures import Failures
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import WorkloadSpec
from tests.factory.side_by_side import Toy
from tests.factory.small import small_scenario

AGENTS = Path(__file__).parents[2] / "configs/agents.yaml"
BLOCK = 16
ONE = {"process": "closed", "concurrency": 1, "think_time": "1 s"}


def even(fleet: Fleet, clock: float) -> StepTime:
    """Return a step time of 10 ms and a millisecond a token."""
    return Toy(base=0.01, per_token=0.001, clock=clock)


def sessions_of(turns: Any = 3, think_time: str = "2 s", **more: Any) -> dict[str, dict[str, Any]]:
    options = more.pop("options", {})
    return {"sessions": {"turns": turns, "think_time": think_time, **options}, **more}


def found_at_most(run: Run) -> int:
    """Return the whole blocks of what was said in each session before each turn, in tokens."""
    tokens = 0
    for _, turns in run.requests.groupby("session"):
        said = turns["prompt_tokens"] + turns["output_tokens"] - 1  # the last token is in no cache
        tokens += int((said[:-1] // BLOCK * BLOCK).sum())
    return tokens


# A session, step by step.


def test_three_turns_by_hand() -> None:
    """Each prompt holds all that was said, and finds the whole blocks of it.

    100 tokens asked and 20 answered: 119 tokens are in the cache after the first turn, seven
    blocks; 239 after the second, fourteen. A prompt of 100 + 120 k tokens is computed in one step,
    of 10 ms and 1 ms a token not found; 19 steps of 11 ms make the rest of the answer.
    """
    scenario = small_scenario(
        duration="8 s",
        arrivals=ONE | {"requests": 1},
        **sessions_of(3, round_trip="100 ms"),
    )
    run = simulate(scenario, step_time=even, debug=True)
    (fleet,) = lay_out(scenario).fleets
    lag_s = 0.05 + fleet.host.per_request_s
    log, sent_s = [], 0.0
    for turn, cached in enumerate((0, 112, 224)):
        prompt = 100 + 120 * turn
        first_s = lag_s + 0.01 + 0.001 * (prompt - cached) + 0.05
        answer_s = first_s + 19 * 0.011
        log.append((turn, sent_s, prompt, cached, 1e3 * first_s, 1e3 * answer_s))
        sent_s += answer_s + 2.0
    columns = ["turn", "arrival_s", "prompt_tokens", "cached_tokens", "ttft_ms", "e2e_ms"]
    for row, expected in zip(run.requests[columns].itertuples(index=False), log, strict=True):
        assert tuple(row) == pytest.approx(expected, rel=1e-12)
    told = run.summary["sessions"]
    ended_s = log[-1][1] + log[-1][5] / 1e3
    assert [told[key] for key in ("started", "completed")] == [1, 1]
    assert [told[key] for key in ("context_full", "failed", "unfinished")] == [0, 0, 0]
    assert told["turns"]["mean"] == 3.0
    assert told["duration_s"]["mean"] == pytest.approx(ended_s, rel=1e-12)


def test_a_tool_answers_sooner_than_a_person() -> None:
    tools = {"tools": {"share": "40 %", "delay": "500 ms"}}
    scenario = small_scenario(duration="400 s", rate="2 /s", **sessions_of(6, "5 s", options=tools))
    rows = simulate(scenario).requests
    pauses_s = []
    for _, turns in rows.groupby("session"):
        answered_s = turns["arrival_s"] + turns["e2e_ms"] / 1e3
        pauses_s += (turns["arrival_s"].to_numpy()[1:] - answered_s.to_numpy()[:-1]).tolist()
    assert {round(pause_s, 6) for pause_s in pauses_s} == {0.5, 5.0}
    share = np.mean(np.array(pauses_s) < 1.0)
    assert share == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / len(pauses_s)))


def test_thinking_is_exponential_where_it_says_so() -> None:
    options = {"thinking": "exponential"}
    scenario = small_scenario(
        duration="600 s", rate="3 /s", **sessions_of(5, "3 s", options=options)
    )
    rows = simulate(scenario).requests.sort_values(["session", "turn"])
    answered_s = rows["arrival_s"] + rows["e2e_ms"] / 1e3
    pauses_s = (rows["arrival_s"] - answered_s.shift())[rows["turn"] > 0]
    assert pauses_s.mean() == pytest.approx(3.0, rel=4 / np.sqrt(len(pauses_s)))
    assert pauses_s.std() == pytest.approx(3.0, rel=0.1)


# What is found.


def test_with_room_enough_each_turn_finds_all_whole_blocks_of_the_session() -> None:
    run = simulate(
        small_scenario(
            duration="100 s",
            rate="1 /s",
            lengths={
                "prompt": {"uniform": {"low": 1, "high": 400}},
                "output": {"uniform": {"low": 1, "high": 90}},
            },
            **sessions_of({"uniform": {"low": 1, "high": 9}}, "4 s"),
        )
    )
    assert set(run.requests["outcome"]) == {"completed"}
    cache = run.summary["prefix_cache"]
    assert cache["found_tokens"] == found_at_most(run)
    assert cache["hit_rate"] == found_at_most(run) / run.requests["prompt_tokens"].sum()


def test_without_a_cache_everything_is_computed_again() -> None:
    arrivals = ONE | {"requests": 4}
    given = {"duration": "120 s", "arrivals": arrivals, **sessions_of(6)}
    kept = simulate(small_scenario(**given), step_time=even)
    again = simulate(small_scenario(**given, engine={"prefix_caching": False}), step_time=even)
    assert "prefix_cache" not in again.summary
    assert again.requests["cached_tokens"].max() == 0
    columns = ["session", "turn", "prompt_tokens", "output_tokens"]
    assert again.requests[columns].equals(kept.requests[columns])
    slower_ms = again.requests["ttft_ms"] - kept.requests["ttft_ms"]
    # A millisecond a token, and no more: the budget of a step holds each of these prompts.
    assert slower_ms.to_numpy() == pytest.approx(
        kept.requests["cached_tokens"].to_numpy(), abs=1e-6
    )


def test_one_session_on_round_robin_replicas_finds_what_its_last_visit_left() -> None:
    """Of three replicas turn k comes to the one that served turn k - 3."""
    run = simulate(
        small_scenario(
            duration="100 s",
            replicas=3,
            arrivals=ONE | {"requests": 1},
            **sessions_of(12, "1 s"),
        ),
        debug=True,
    )
    left = [(100 + 120 * turn + 19) // BLOCK * BLOCK for turn in range(12)]
    assert run.requests["replica"].tolist() == [0, 1, 2] * 4
    assert run.requests["cached_tokens"].tolist() == [0, 0, 0, *left[:9]]


def test_sticky_sessions_find_more_than_scattered_ones_by_as_much_as_theory_says() -> None:
    """Sent anywhere at random, a turn's last visit was j turns ago with chance (1 - 1/R)^(j-1)/R.

    It finds what was said until then; sent home, all that was said.
    """
    replicas, turns = 4, 8
    given = {"duration": "400 s", "replicas": replicas, "rate": "1.5 /s", **sessions_of(turns)}
    runs = {
        router: simulate(small_scenario(router=router, **given))
        for router in ("sticky", "cache-aware", "random", "round-robin")
    }
    rates = {router: run.summary["prefix_cache"]["hit_rate"] for router, run in runs.items()}
    left = np.array([(100 + 120 * turn + 19) // BLOCK * BLOCK for turn in range(turns)])
    asked = sum(100 + 120 * turn for turn in range(turns))
    all_said = left[:-1].sum() / asked
    gone = 1 - 1 / replicas
    scattered = (
        sum(
            gone ** (ago - 1) / replicas * left[turn - ago]
            for turn in range(turns)
            for ago in range(1, turn + 1)
        )
        / asked
    )
    # Turns cut off at the end of the run shorten a hundredth of the sessions.
    assert rates["sticky"] == pytest.approx(all_said, rel=0.01)
    assert rates["cache-aware"] == pytest.approx(all_said, rel=0.01)
    assert rates["random"] == pytest.approx(scattered, rel=0.03)
    # With some hundred sessions at once, whose turn a replica gets in turn is as good as random.
    assert rates["round-robin"] == pytest.approx(scattered, rel=0.03)
    assert rates["sticky"] > 1.8 * rates["round-robin"]


def test_how_sessions_are_served_changes_nothing_of_what_they_ask() -> None:
    given = {
        "duration": "60 s",
        "rate": "2 /s",
        **sessions_of(
            {"lognormal": {"median": 3, "sigma": 0.5}}, options={"thinking": "exponential"}
        ),
    }
    lengths = {"prompt": {"uniform": {"low": 1, "high": 900}}, "output": 30}
    runs = [
        simulate(small_scenario(lengths=lengths, replicas=replicas, **given)).requests
        for replicas in (1, 3)
    ]
    asked = [run.set_index(["session", "turn"])["prompt_tokens"].sort_index() for run in runs]
    both = asked[0].index.intersection(asked[1].index)
    assert len(both) > 0.98 * len(asked[0])
    assert asked[0][both].equals(asked[1][both])


def test_a_session_goes_on_elsewhere_when_its_replica_fails() -> None:
    """Its turn is computed anew where nothing of it is known, and it stays there."""
    scenario = small_scenario(
        duration="60 s",
        replicas=2,
        router="sticky",
        arrivals=ONE | {"requests": 1},
        **sessions_of(4, "1 s"),
    )
    # The third turn is sent after two answers, of 20 tokens at 10 ms and a little, and two pauses.
    gone = Failures.model_validate({"schedule": [{"at": "2.7 s", "what": "rack-0/server-0/gpu-0"}]})
    run = simulate(scenario.model_copy(update={"failures": gone}), step_time=even, debug=True)
    columns = ["replica", "retries", "cached_tokens"]
    assert run.requests[columns].to_numpy().tolist() == [
        [0, 0, 0],
        [0, 0, 112],
        [1, 1, 0],
        [1, 0, 352],
    ]
    assert run.summary["sessions"]["completed"] == 1


# Host memory.


def test_what_gpu_memory_has_no_room_for_comes_back_from_host_memory() -> None:
    """Two sessions of which only one fits: each pushes the other out, and finds itself again.

    The turns of the second come half way between those of the first. A prompt of 100 + 120 k
    tokens brings what was said before back over the link before the step that computes the rest.
    """
    given = {
        "duration": "30 s",
        "arrivals": {"process": "constant", "rate": "0.5 /s", "requests": 2},
        **sessions_of(4, "4 s"),
    }
    few = {"gpu_memory_utilization": 0.2225}
    tier = {"host_cache": {"space": "1 GB", "bandwidth": "1 GB/s"}}
    (fleet,) = lay_out(small_scenario(engine=few, **given)).fleets
    memory = fleet.memory
    assert 480 < memory.tokens < 900
    plain = simulate(small_scenario(engine=few, **given), step_time=even, debug=True)
    tiered = simulate(small_scenario(engine=few | tier, **given), step_time=even, debug=True)
    speculation = {"num_speculative_tokens": 3, "acceptance": 0.7, "draft": "ngram"}
    few_drafted = {"gpu_memory_utilization": 0.2212, "max_num_seqs": 8, "speculation": speculation}
    drafted = few_drafted | tier
    assert 480 < lay_out(small_scenario(engine=drafted, **given)).fleets[0].memory.tokens < 900
    both = simulate(small_scenario(engine=drafted, **given), debug=True)
    assert both.requests["cached_tokens"].sum() == found_at_most(both)
    assert both.summary["host_cache"]["loaded_tokens"] > 0
    assert plain.requests["cached_tokens"].sum() < tiered.requests["cached_tokens"].sum()
    assert tiered.requests["cached_tokens"].sum() == found_at_most(tiered)
    rows = tiered.requests
    uncached = rows["prompt_tokens"] - rows["cached_tokens"]
    on_the_way_ms = rows["ttft_ms"] - 1e3 * fleet.host.per_request_s - 10.0 - uncached
    block_ms = 1e3 * memory.block_tokens * memory.bytes_per_token / 1e9
    moved = on_the_way_ms / block_ms
    assert moved.to_numpy() == pytest.approx(moved.round(), abs=1e-6)
    loaded = tiered.summary["host_cache"]
    assert loaded["loaded_tokens"] == BLOCK * moved.sum().round() > 0
    size_gb = loaded["loaded_tokens"] * memory.bytes_per_token / 1e9
    assert loaded["loaded_gb"] == pytest.approx(size_gb, rel=1e-12)
    assert "host_cache" not in plain.summary


def test_a_tier_of_host_memory_in_vain_is_refused() -> None:
    def problem_of(engine: dict[str, Any], **more: Any) -> str:
        with pytest.raises(InputError) as caught:
            simulate(small_scenario(engine=engine, **more))
        return str(caught.value.problems[0])

    tier = {"host_cache": "64 GB"}
    assert problem_of(tier).startswith(
        "deployments.d.engine.host_cache: takes what a prefix cache has no room for, and d has none"
    )
    assert "leave it out, or leave out 'prefix_caching: false'" in problem_of(
        tier | {"prefix_caching": False}, **sessions_of()
    )
    assert "leave out 'preemption: swap'" in problem_of(
        tier | {"preemption": "swap"}, **sessions_of()
    )
    assert problem_of({"host_cache": "1 kB"}, **sessions_of()).startswith(
        "deployments.d.engine.host_cache.space: must hold one KV block at least"
    )


def test_drives_in_vain_or_unknown_are_refused() -> None:
    def problem_of(nvme: Any, system: str = "dgx-h100") -> str:
        scenario = small_scenario(engine={"nvme_cache": nvme}, **sessions_of())
        rack = scenario.racks[0].model_copy(update={"system": system})
        with pytest.raises(InputError) as caught:
            simulate(scenario.model_copy(update={"racks": (rack,)}))
        return str(caught.value.problems[0])

    where = "deployments.d.engine.nvme_cache"
    assert problem_of("1 kB").startswith(f"{where}.space: must hold one KV block at least")
    assert problem_of({"bandwidth": "600 GB/s"}) == (
        f"{where}.bandwidth: 75 GB/s for each of 8 GPUs are more than its host link brings, "
        "64 GB/s; give at most 512 GB/s for the server"
    )
    unknown = problem_of({}, "dgx-a100")
    assert unknown.startswith(
        f"{where}.space: the catalogue does not know the local drives of dgx-a"
    )
    assert problem_of({"space": "1 TB"}, "dgx-a100").startswith(f"{where}.bandwidth: the catalogue")
    with pytest.raises(InputError, match="nvme_cache takes what a prefix cache has no room for"):
        small_scenario(engine={"nvme_cache": {}, "prefix_caching": False}, **sessions_of())


def test_drives_bring_back_what_host_memory_would_at_their_own_pace() -> None:
    """A GPU has an eighth of a server's drives: as host memory of an eighth of space and pace."""

    def served(**engine: Any) -> Run:
        given = {
            "duration": "30 s",
            "arrivals": {"process": "constant", "rate": "0.5 /s", "requests": 2},
            "engine": {"gpu_memory_utilization": 0.2225} | engine,
            **sessions_of(4, "4 s"),
        }
        return simulate(small_scenario(**given), step_time=even, debug=True)

    drives = served(nvme_cache={"space": "8 GB", "bandwidth": "8 GB/s"})
    memory = served(host_cache={"space": "1 GB", "bandwidth": "1 GB/s"})
    assert drives.requests.equals(memory.requests)
    assert drives.summary["nvme_cache"] == memory.summary["host_cache"]
    # Behind host memory of two blocks: all that comes back comes from one or the other.
    block = {"space": "5 MB", "bandwidth": "1 GB/s"}
    both = served(host_cache=block, nvme_cache={"space": "8 GB", "bandwidth": "8 GB/s"})
    assert both.requests.equals(memory.requests)
    parts = [both.summary[tier]["loaded_tokens"] for tier in ("host_cache", "nvme_cache")]
    assert min(parts) > 0
    assert sum(parts) == memory.summary["host_cache"]["loaded_tokens"]


MANY = ("workload.agents.arrivals.rate=1 /s",)
DRIVES = (
    "deployments.code.engine.host_cache=8 GB",
    "deployments.code.engine.nvme_cache={}",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "hit_rate"),
    [
        ((), 0.894),
        (("deployments.code.router=round-robin",), 0.62),
        (MANY, 0.619),
        ((*MANY, "deployments.code.engine.host_cache=64 GB"), 0.896),
        ((*MANY, "deployments.code.engine.host_cache=8 GB"), 0.681),
        ((*MANY, *DRIVES), 0.896),
    ],
)
def test_the_readme_tells_what_agents_find(changes: tuple[str, ...], hit_rate: float) -> None:
    run = simulate(fs.load(AGENTS, list(changes)))
    assert run.summary["prefix_cache"]["hit_rate"] == pytest.approx(hit_rate, abs=0.005)


# How sessions end.


def test_a_session_ends_where_the_next_turn_is_too_long_for_the_model() -> None:
    """Turn k is of 120 (k + 1) tokens: the fifth would be of 600."""
    run = simulate(
        small_scenario(
            duration="60 s",
            arrivals=ONE | {"requests": 3},
            engine={"max_model_len": 599},
            **sessions_of(9, "1 s"),
        )
    )
    told = run.summary["sessions"]
    assert (told["started"], told["completed"], told["context_full"]) == (3, 0, 3)
    assert told["turns"]["mean"] == 4.0
    assert set(run.requests["outcome"]) == {"completed"}


def test_a_session_ends_where_a_turn_fails() -> None:
    late = simulate(
        small_scenario(
            duration="60 s",
            arrivals=ONE | {"requests": 2},
            timeout="500 ms",
            engine={"prefix_caching": False},
            **sessions_of(9, "1 s"),
        ),
        step_time=even,
    )
    # Prompts of 100, 220 and 340 tokens at a millisecond each; answers take another 209 ms.
    assert late.requests["outcome"].tolist() == ["completed", "completed", "timed_out"] * 2
    assert late.summary["sessions"]["failed"] == 2
    assert "turns" not in late.summary["sessions"]
    full = simulate(
        small_scenario(
            duration="20 s",
            arrivals={"process": "offline", "requests": 3},
            engine={"max_queue": 1},
            **sessions_of(2, "1 s"),
        )
    )
    refused = full.requests["outcome"] == "rejected"
    assert full.summary["sessions"]["failed"] == refused.sum() > 0


def test_nobody_sends_after_the_end() -> None:
    run = simulate(
        small_scenario(duration="10 s", rate="1 /s", **sessions_of(50, "1 s")), debug=True
    )
    assert run.requests["arrival_s"].max() < 10.0
    told = run.summary["sessions"]
    assert told["unfinished"] == told["started"] > 0


def test_only_sessions_of_the_window_count() -> None:
    scenario = small_scenario(
        duration="30 s", arrivals={"process": "constant", "rate": "1 /s"}, **sessions_of(2)
    )
    late = scenario.model_copy(update={"warmup": 20.0})
    assert simulate(scenario).summary["sessions"]["started"] == 30
    assert simulate(late).summary["sessions"]["started"] == 10


def test_requests_of_other_workloads_are_of_no_session() -> None:
    scenario = small_scenario(duration="20 s", rate="1 /s", **sessions_of(3, "1 s"))
    talk = scenario.workload["w"]
    single = talk.model_copy(update={"sessions": None})
    run = simulate(scenario.model_copy(update={"workload": {"w": talk, "v": single}}))
    others = run.requests["workload"] == "v"
    assert run.requests.loc[others, "session"].isna().all()
    assert run.requests.loc[~others, ["session", "turn"]].notna().all(axis=None)
    assert run.requests.loc[others, "cached_tokens"].max() == 0
    plain = simulate(scenario.model_copy(update={"workload": {"v": single}}))
    assert "session" not in plain.requests
    assert "sessions" not in plain.summary


# Conservation.


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    arrivals: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"process": "poisson", "rate": "3 /s"},
                {"process": "closed", "concurrency": 12, "think_time": "200 ms"},
                {"process": "offline", "requests": 20},
            ]
        )
    )
    engine: dict[str, Any] = {
        "max_num_seqs": draw(st.integers(1, 12)),
        "batching": draw(st.sampled_from(["chunked", "continuous", "static"])),
        "gpu_memory_utilization": draw(st.sampled_from([0.2222, 0.2235, 0.23])),
        "prefix_caching": draw(st.sampled_from([True, True, False])),
    }
    if draw(st.booleans()):
        engine["scheduling"] = draw(st.sampled_from([{"policy": "fair"}, "fcfs"]))
    options: dict[str, Any] = {"thinking": draw(st.sampled_from(["fixed", "exponential"]))}
    if draw(st.booleans()):
        options["tools"] = {"share": "50 %", "delay": draw(st.sampled_from(["0 s", "100 ms"]))}
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        more["timeout"] = draw(st.sampled_from(["1 s", "4 s"]))
    if engine["prefix_caching"] and draw(st.booleans()):
        engine["host_cache"] = draw(st.sampled_from(["20 MB", "1 GB"]))
    if engine.get("scheduling") == {"policy": "fair"}:
        more["tenants"] = {"count": 3}
    return small_scenario(
        seed=draw(st.integers(0, 99)),
        duration="8 s",
        replicas=draw(st.integers(1, 3)),
        router=draw(st.sampled_from(["sticky", "round-robin", "least-outstanding"])),
        engine=engine,
        arrivals=arrivals,
        lengths={
            "prompt": {"uniform": {"low": 1, "high": 200}},
            "output": {"uniform": {"low": 1, "high": 60}},
        },
        **sessions_of({"uniform": {"low": 1, "high": 6}}, "300 ms", options=options, **more),
    )


@settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_every_run_with_sessions_conserves(scenario: Scenario) -> None:
    run = simulate(scenario, debug=True)
    told, rows = run.summary["sessions"], run.requests
    endings = [told[key] for key in ("completed", "context_full", "failed", "unfinished")]
    assert told["started"] == sum(endings) == rows["session"].nunique()
    for _, turns in rows.groupby("session"):
        assert turns["turn"].tolist() == list(range(len(turns)))
        assert (turns["outcome"][:-1] == "completed").all()
        prompts, outputs = turns["prompt_tokens"].to_numpy(), turns["output_tokens"].to_numpy()
        assert (prompts[1:] > prompts[:-1] + outputs[:-1]).all()
        answered_s = (turns["arrival_s"] + turns["e2e_ms"] / 1e3).to_numpy()
        assert (turns["arrival_s"].to_numpy()[1:] >= answered_s[:-1] - 1e-9).all()
    assert rows["cached_tokens"].sum() <= found_at_most(run)
    again = simulate(scenario)
    same = [pickle.dumps((r.requests, r.timeseries, r.summary)) for r in (run, again)]
    assert same[0] == same[1]  # and debug changes nothing


# What is refused.


@pytest.mark.parametrize(
    ("sessions", "more", "path", "message"),
    [
        ({"turns": 1}, {}, "sessions", "turns: 1 makes every session one request; leave out"),
        ({"turns": 0}, {}, "sessions", "turns can be 0; a session has one turn at the least"),
        (
            {"turns": 3, "thinking": "exponential"},
            {},
            "sessions",
            "thinking: exponential needs the mean of the pauses, for example 'think_time: 20 s'",
        ),
        (
            {"turns": 3, "think_time": "1 s", "tools": {"share": "100 %", "delay": "1 s"}},
            {},
            "sessions",
            "with tools.share: 100 % nobody ever thinks; leave out think_time and thinking",
        ),
        ({"turns": 3, "tools": {"share": "0 %", "delay": "1 s"}}, {}, "sessions.tools.share", ""),
        ({"turns": 3}, {"cached": 10}, "", "with sessions the run finds out what is cached"),
        (
            {"turns": 3},
            {"arrivals": {"process": "trace", "path": "x.csv"}},
            "",
            "a trace has sessions of its own (columns.session)",
        ),
    ],
)
def test_options_without_a_use_are_refused(
    sessions: dict[str, Any], more: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        small_scenario(sessions=sessions, **more)
    (problem,) = caught.value.problems
    assert problem.path == f"workload.w.{path}".rstrip(".")
    assert message in problem.message


def test_a_mix_has_no_sessions() -> None:
    spec = {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "1 /s"},
        "mix": {"chat": {"weight": 1}},
        "sessions": {"turns": 3},
    }
    with pytest.raises(InputError, match="the turns of sessions are drawn from lengths, not"):
        validate(WorkloadSpec, spec)


def test_check_tells_of_sessions() -> None:
    found = fs.check(small_scenario(rate="2 /s", **sessions_of({"uniform": {"low": 2, "high": 4}})))
    workload = found.sections["Workload w"]
    assert workload["sessions"].startswith("3.0 turns in the mean")
    assert "sessions in the first 10 s" in workload["load"]
    # N = 2, 3, 4: of 9 prompts, 1 + 2 + 1 + 2 + 3 + 1 + 2 + 3 + 4 questions, 10 answers before.
    assert workload["mean lengths"].startswith(f"{(19 * 100 + 10 * 20) / 9:,.0f} prompt tokens")
    assert f"(at most {10 * 120 / 9:,.0f} of them cached)" in workload["mean lengths"]
    assert found.sections["Deployment d"]["prefix cache"] == "on: sessions go on from what was said"
    assert not found.problems
