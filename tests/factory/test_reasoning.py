"""Reasoning in a deployment: when the answer begins, what it takes, what sessions keep of it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from factory_sim.errors import InputError
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import simulate
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import WorkloadSpec
from tests.factory.side_by_side import Case, engine, reference
from tests.factory.small import small_scenario
from tests.factory.test_exactness import assert_same, speed_of
from tests.factory.test_sessions import even
from tests.reference import ReferenceRequest
from tests.workload.making import requests, workload

ONE: dict[str, Any] = {"process": "closed", "concurrency": 1, "requests": 1}
LONG: dict[str, Any] = {"share": 0.6, "tokens": {"lognormal": {"median": 90, "sigma": 0.7}}}


def test_an_answer_begins_after_its_reasoning() -> None:
    """A prompt of 100 tokens takes 110 ms; thirty tokens of reasoning and twenty of the answer,
    the first of them with the prompt, take 11 ms each."""
    scenario = small_scenario(arrivals=ONE, reasoning={"tokens": 30})
    run = simulate(scenario, step_time=even, debug=True)
    (fleet,) = lay_out(scenario).fleets
    first_ms = 1e3 * fleet.host.per_request_s + 110.0
    columns = ["ttft_ms", "ttfo_ms", "e2e_ms", "output_tokens", "reasoning_tokens"]
    expected = (first_ms, first_ms + 30 * 11.0, first_ms + 49 * 11.0, 50, 30)
    (row,) = run.requests[columns].itertuples(index=False)
    assert tuple(row) == pytest.approx(expected, rel=1e-12)
    assert run.summary["reasoning"] == {"share_of_requests": 1.0, "share_of_output_tokens": 0.6}
    answer = run.summary["per_answer"]
    assert (answer["output_tokens"], answer["reasoning_tokens"]) == (50.0, 30.0)
    assert answer["energy_j"] == pytest.approx(50 * run.summary["energy_per_output_token_j"])


def test_who_answers_at_once_begins_with_the_first_token() -> None:
    run = simulate(small_scenario(reasoning=LONG))
    table = run.requests
    at_once = table[table["reasoning_tokens"] == 0]
    assert 0.2 < len(at_once) / len(table) < 0.6
    assert (at_once["ttfo_ms"] == at_once["ttft_ms"]).all()
    assert (table["output_tokens"] == 20 + table["reasoning_tokens"]).all()
    told = run.summary["reasoning"]["share_of_output_tokens"]
    assert told == table["reasoning_tokens"].sum() / table["output_tokens"].sum()


def test_without_reasoning_nothing_is_said_of_it() -> None:
    run = simulate(small_scenario())
    assert not {"reasoning", "per_answer", "ttfo_ms"} & set(run.summary)
    assert not {"reasoning_tokens", "ttfo_ms"} & set(run.requests)


def test_an_answer_costs_what_its_tokens_cost() -> None:
    """One client after another's answer, decoding all the time: four times the tokens, about four
    times the joules and the dollars of energy."""
    found = []
    for reasoning in ({}, {"reasoning": {"tokens": 600}}):
        given = small_scenario(
            arrivals={"process": "closed", "concurrency": 1},
            lengths={"prompt": 20, "output": 200},
            duration="60 s",
            **reasoning,
        ).model_dump(mode="json", by_alias=True, exclude_none=True)
        given["site"]["price"] = "0.1 USD/kWh"
        run = simulate(validate(Scenario, given)).summary
        energy_j = 1e6 * run["grid_power_mw"]["mean"] * 60.0
        found.append(energy_j / (run["output_tokens_per_s"] * 60.0 / (800 if reasoning else 200)))
    answer = run["per_answer"]
    assert answer["energy_j"] == pytest.approx(found[1], rel=1e-6)
    assert found[1] == pytest.approx(4.0 * found[0], rel=0.05)
    assert answer["energy_usd"] == pytest.approx(answer["energy_j"] / 3.6e6 * 0.1)


def test_reasoning_leaves_all_other_draws_as_they_are() -> None:
    fields: dict[str, Any] = {
        "arrivals": {"process": "poisson", "rate": "50 /s"},
        "lengths": "azure-conv-2023",
        "cached": {"uniform": {"low": 0, "high": 90}},
    }
    plain, thinks = (requests(workload(**fields, **more)) for more in ({}, {"reasoning": LONG}))
    for name in ("arrival_s", "prompt", "cached"):
        assert np.array_equal(getattr(plain, name), getattr(thinks, name)), name
    assert np.array_equal(plain.output, thinks.output - thinks.reasoning)
    more = requests(workload(**fields, reasoning=LONG | {"share": 0.8}))
    who = thinks.reasoning > 0
    assert np.array_equal(more.reasoning[who], thinks.reasoning[who])
    small = requests(workload(**fields, reasoning=LONG), block=7)
    assert np.array_equal(small.reasoning, thinks.reasoning)
    assert who.mean() == pytest.approx(0.6, abs=0.02)


def test_archetypes_reason_apart_and_traces_may(tmp_path: Any) -> None:
    mix = {"chat": {"weight": 1}, "code": {"weight": 1, "reasoning": {"tokens": 70}}}
    arrivals = {"process": "offline", "requests": 1000}
    drawn = requests(workload(arrivals=arrivals, mix=mix))
    assert set(drawn.reasoning[drawn.archetype == 1]) == {70}
    assert set(drawn.reasoning[drawn.archetype == 0]) == {0}
    (tmp_path / "t.csv").write_text("arrival_s,prompt,output\n0,10,5\n1,20,6\n")
    columns = {"arrival": "arrival_s", "prompt": "prompt", "output": "output"}
    trace = {"process": "trace", "path": str(tmp_path / "t.csv"), "columns": columns}
    read = requests(workload(arrivals=trace | {"format": "csv"}, reasoning={"tokens": 70}))
    assert read.output.tolist() == [75, 76]


@pytest.mark.parametrize(("kept", "second", "third"), [(False, 96, 208), (True, 144, 288)])
def test_sessions_go_on_with_reasoning_or_without(kept: bool, second: int, third: int) -> None:
    """Of 100 tokens asked, 30 of reasoning and 20 answered a turn, the next prompt has 50 or 20.

    Without reasoning nothing that came after the last prompt is of use; with it all but the last
    token is.
    """
    scenario = small_scenario(
        duration="8 s",
        arrivals=ONE,
        sessions={"turns": 3, "think_time": "1 s"},
        reasoning={"tokens": 30, "kept": kept},
    )
    table = simulate(scenario, step_time=even, debug=True).requests
    said = 150 if kept else 120
    assert table["prompt_tokens"].tolist() == [100, 100 + said, 100 + 2 * said]
    assert table["cached_tokens"].tolist() == [0, second, third]


def test_who_is_preempted_finds_its_own_reasoning() -> None:
    """What a session will not say again is of use to the very request that made it."""
    asked = ReferenceRequest(0.0, 20, 40, session=0, reasoning=10, forgets=True)
    other = replace(asked, session=1, arrival_s=1e-3)
    case = Case((asked, other), partial(speed_of, "linear"), blocks=6, policy="continuous")
    (_, victim), batch = reference(case), engine(case).batch
    assert victim.preemptions == 1
    assert batch.recomputed_tokens == victim.recomputed < 32
    assert_same(case)


@pytest.mark.parametrize(("others", "reasoning"), [(30, 20), (20, 25)])
def test_who_is_preempted_and_gives_up_has_begun_no_answer(others: int, reasoning: int) -> None:
    """When it would have answered, had it not lost its blocks before, it waits or decodes again."""
    asked = ReferenceRequest(1e-3, 16, 30, reasoning=reasoning)

    def begun_s(victim: ReferenceRequest) -> float:
        first = ReferenceRequest(0.0, 16, others, reasoning=9)
        case = Case((first, victim), partial(speed_of, "constant"), blocks=4, policy="continuous")
        assert_same(case)
        requests = engine(case).requests
        assert [request.preemptions for request in requests] == [0, 1]
        return requests[1].answer_s

    answers_s = begun_s(asked)
    assert math.isnan(begun_s(replace(asked, deadline_s=answers_s - 0.015)))


# Promises.


def promised(reasoning: dict[str, Any] | None, **slo: Any) -> Scenario:
    more = {"reasoning": reasoning} if reasoning else {}
    given = small_scenario(arrivals=ONE, **more).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    given["deployments"]["d"]["slo"] = slo
    return validate(Scenario, given)


@pytest.mark.parametrize(("limit", "met"), [("430 ms", False), ("450 ms", True)])
def test_a_first_token_of_the_answer_may_be_promised(limit: str, met: bool) -> None:
    """It comes 440 ms after the prompt has arrived; see the first test."""
    run = simulate(promised({"tokens": 30}, ttfo=limit), step_time=even)
    assert run.summary["slo"]["ttfo"]["met"] is run.summary["slo"]["met"] is met
    assert run.requests["slo_met"].tolist() == [met]


def test_a_promise_without_use_is_refused() -> None:
    told = r"^deployments\.d\.slo\.ttfo: none of the requests that are promised it reason"
    with pytest.raises(InputError, match=told):
        promised(None, ttfo="1 s")
    with pytest.raises(InputError, match=r"slo: ttfo \(1 s\) is never before ttft \(2 s\)"):
        promised({"tokens": 30}, ttfo="1 s", ttft="2 s")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"reasoning": {"tokens": {"uniform": {"low": 0, "high": 9}}}}, "tokens can be 0; who"),
        ({"reasoning": {"tokens": 9, "share": 0}}, r"reasoning\.share"),
        ({"reasoning": {"tokens": 9, "kept": True}}, "there are no sessions; leave kept out"),
        ({"mix": {"chat": {"weight": 1}}, "reasoning": {"tokens": 9}}, r"write mix\.NAME\.reason"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], told: str) -> None:
    given = {"deployment": "d", "arrivals": {"process": "poisson", "rate": "1 /s"}, **fields}
    if "mix" not in fields:
        given["lengths"] = {"prompt": 10, "output": 5}
    with pytest.raises(InputError, match=told):
        validate(WorkloadSpec, given)
