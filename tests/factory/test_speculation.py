"""Speculative decoding of whole scenarios: closed forms, conservation, and what is refused."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from factory_sim.errors import InputError
from factory_sim.factory.build import roofline
from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.physics import arithmetic as work
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario


def drafted(draft: Any = "ngram", tokens: int = 3, acceptance: Any = 0.7, **engine: Any) -> Any:
    speculation = {"num_speculative_tokens": tokens, "acceptance": acceptance}
    speculation |= draft if isinstance(draft, dict) else {"draft": draft}
    return engine | {"speculation": speculation}


def users(count: int, engine: dict[str, Any], duration: str = "30 s", output: int = 400) -> Run:
    return simulate(
        small_scenario(
            engine=engine | {"async_scheduling": False},
            duration=duration,
            arrivals={"process": "closed", "concurrency": count},
            lengths={"prompt": 200, "output": output},
        )
    )


def rate(run: Run) -> float:
    found: float = run.summary["output_tokens_per_s"]
    return found


def leviathan(acceptance: float, tokens: int) -> float:
    return (1 - acceptance ** (tokens + 1)) / (1 - acceptance)


def step_s(engine: dict[str, Any], n: int, context: float) -> float:
    (fleet,) = lay_out(small_scenario(engine=engine)).fleets
    step_time = roofline(fleet, 1.0)
    return step_time.decode(n).duration_s + context * step_time.per_context.duration_s


@pytest.mark.parametrize(("acceptance", "tokens"), [(0.3, 2), (0.7, 3), (0.9, 7)])
def test_tokens_per_step_follow_leviathan(acceptance: float, tokens: int) -> None:
    drafts = Drafts(tokens, acceptance, 0.0, 5)
    left = 2_000
    per_step = np.array([left / drafts.steps(number, 1, left) for number in range(400)])
    half_width = 2.6 * per_step.std() / math.sqrt(len(per_step))
    expected = leviathan(acceptance, tokens)
    # The last step's surplus is dropped: at most k of 2,000 tokens.
    assert abs(per_step.mean() - expected) < half_width + expected * tokens / left
    assert half_width < 0.01 * expected


def test_the_ends_of_the_scale() -> None:
    assert Drafts(3, 0.0, 0.0, 1).steps(0, 1, 99) == 99
    assert Drafts(3, 1.0, 0.0, 1).steps(0, 1, 99) == 25
    assert Drafts(3, 0.5, 0.0, 1).steps(0, 1, 1) == 1


@pytest.mark.slow
def test_acceptance_may_spread_over_requests() -> None:
    drafts = Drafts(3, 0.7, 0.15, 5)
    drawn = np.array([drafts.acceptance(number) for number in range(2_000)])
    assert drawn.mean() == pytest.approx(0.7, abs=0.01)
    assert drawn.std() == pytest.approx(0.15, abs=0.01)
    even, spread = (
        users(8, drafted()),
        users(8, drafted(acceptance={"mean": 0.7, "deviation": 0.15})),
    )
    tpot = [run.requests["tpot_ms"].std() for run in (even, spread)]
    assert tpot[1] > 2 * tpot[0]


def test_with_nothing_accepted_only_verifying_costs() -> None:
    """Each step's k drafts are all wrong: as many steps as without, each of the verifying cost."""
    run = users(1, drafted(acceptance=0.0))
    (fleet,) = lay_out(run.scenario).fleets
    step_time = roofline(fleet, 1.0)
    steps = 399
    # Of the four tokens of a step the mean one sees 2.5 more than the context before it.
    context = sum(200 + step + 2.5 for step in range(steps))
    decode_s = steps * step_time.decode(1).duration_s + context * step_time.per_context.duration_s
    row = run.requests.iloc[0]
    assert row["e2e_ms"] - row["ttft_ms"] == pytest.approx(1e3 * decode_s, rel=1e-9)
    plain = users(1, {}).requests.iloc[0]
    assert plain["ttft_ms"] == pytest.approx(row["ttft_ms"], rel=1e-9)
    assert plain["tpot_ms"] == pytest.approx(row["tpot_ms"], rel=0.01)
    assert run.summary["speculation"]["mean_acceptance_length"] == pytest.approx(1.0)


@pytest.mark.parametrize("draft", ["ngram", "eagle", "eagle3", {"step_time_share": 0.05}])
def test_speedup_of_one_user_is_leviathans(draft: Any) -> None:
    """Theorem 3.8: (1 - a^(k+1)) / (1 - a) / (1 + k c), if verifying costs as much as a step."""
    engine, context = drafted(draft), 400.0
    plain_s, verifying_s = step_s({}, 1, context), step_s(drafted("ngram"), 1, context)
    cost = (step_s(engine, 1, context) - verifying_s) / 3 / plain_s
    assert verifying_s == pytest.approx(plain_s, rel=0.02)
    before, after = users(1, {}, "100 s"), users(1, engine, "100 s")
    speedup = before.summary["tpot_ms"]["mean"] / after.summary["tpot_ms"]["mean"]
    length = after.summary["speculation"]["mean_acceptance_length"]
    assert length == pytest.approx(leviathan(0.7, 3), rel=0.02)
    assert speedup == pytest.approx(length / (1 + 3 * cost), rel=0.02)


@pytest.mark.slow
def test_speedup_falls_with_the_batch_and_a_poor_draft_loses() -> None:
    batches = (1, 16, 64, 256)
    before = [rate(users(count, {})) for count in batches]
    good = [rate(users(n, drafted("eagle"))) / b for n, b in zip(batches, before, strict=True)]
    poor = [
        rate(users(n, drafted("eagle", acceptance=0.2))) / b
        for n, b in zip(batches, before, strict=True)
    ]
    assert good == sorted(good, reverse=True)
    assert good[0] > 1.9 and good[-1] < 0.7 * good[0]
    assert poor == sorted(poor, reverse=True)
    assert poor[0] > 0.9 and poor[-1] < 0.7


def test_a_run_with_drafts_conserves() -> None:
    for policy in ("chunked", "continuous", "static"):
        scenario = small_scenario(
            engine=drafted(
                "eagle",
                acceptance={"mean": 0.6, "deviation": 0.2},
                batching=policy,
                max_num_seqs=6,
                gpu_memory_utilization=0.228,
            ),
            replicas=2,
            rate="60 /s",
            lengths={
                "prompt": {"uniform": {"low": 1, "high": 300}},
                "output": {"uniform": {"low": 1, "high": 60}},
            },
            timeout="3 s",
        )
        runs = [simulate(scenario, debug=True) for _ in range(2)]
        assert pickle.dumps(runs[0].requests) == pickle.dumps(runs[1].requests)
        assert runs[0].summary == runs[1].summary
        summary = runs[0].summary
        assert sum(summary["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)
        assert summary["time_lost"]["drafting"] > 0.0
        drafts = summary["speculation"]
        right = drafts["draft_tokens"] - drafts["rejected_draft_tokens"]
        assert drafts["draft_acceptance_rate"] == pytest.approx(
            right / drafts["draft_tokens"], 1e-3
        )
        assert drafts["mean_acceptance_length"] == pytest.approx(
            1 + 3 * drafts["draft_acceptance_rate"]
        )
        done = runs[0].requests[runs[0].requests["outcome"] == "completed"]
        assert len(done) > 50
        if policy == "chunked":
            assert runs[0].requests["preemptions"].sum() > 0


def test_steps_of_a_request_do_not_depend_on_what_happens() -> None:
    """Alone or among others, on either policy: the same steps, so the same pace per step."""
    tokens = []
    for policy in ("chunked", "static"):
        engine = drafted(batching=policy, acceptance={"mean": 0.6, "deviation": 0.2})
        scenario = small_scenario(engine=engine, rate="0.2 /s", duration="60 s")
        summary = simulate(scenario).summary
        tokens.append(summary["speculation"]["rejected_draft_tokens"])
    assert tokens[0] == tokens[1]


def test_gaps_are_between_emissions() -> None:
    run = users(1, drafted(acceptance=1.0))
    itl, tpot = run.summary["itl_ms"], run.summary["tpot_ms"]
    assert itl["mean"] / tpot["mean"] == pytest.approx(4.0, rel=0.01)


def test_layers_for_multi_token_prediction_are_the_models_own() -> None:
    deployment = {
        "model": "deepseek-v3",
        "precision": "fp8",
        "parallelism": {"tp": 8, "ep": 8},
        "engine": drafted("mtp", tokens=1, acceptance=0.85),
    }
    base = small_scenario()
    given = base.model_copy(
        update={
            "racks": tuple(rack.model_copy(update={"system": "dgx-h200"}) for rack in base.racks),
            "deployments": {"d": validate(Deployment, deployment)},
        }
    )
    (fleet,) = lay_out(given).fleets
    assert fleet.drafting is not None and fleet.drafting.shard is not None
    draft = fleet.drafting.shard.model
    assert (draft.layers, draft.moe is not None and draft.moe.dense_layers) == (1, 0)
    # The card of DeepSeek-V3 gives 11.5 B weights of the module beside the tables that it shares.
    weights = work.layer_weights(draft) + 2 * draft.hidden**2
    assert weights == pytest.approx(11.5e9, rel=0.02)
    step_time = roofline(fleet, 1.0)
    cost = step_time.decode(1)
    assert 0.01 < cost.drafting_s / sum(cost[1:5]) < 0.05


def of_model(
    model: str, engine: dict[str, Any], prompt: int = 200, output: int = 400, tp: int = 8
) -> Scenario:
    """Return one user of a model on an H200 server."""
    base = small_scenario(
        arrivals={"process": "closed", "concurrency": 1},
        lengths={"prompt": prompt, "output": output},
    )
    deployment = {
        "model": model,
        "precision": "fp8" if model.startswith(("deepseek", "glm")) else "bf16",
        "parallelism": {"tp": tp},
        "replicas": 1,
        "engine": engine | {"async_scheduling": False},
    }
    racks = tuple(rack.model_copy(update={"system": "dgx-h200"}) for rack in base.racks)
    given = {"racks": racks, "deployments": {"d": validate(Deployment, deployment)}}
    return base.model_copy(update=given)


@pytest.mark.parametrize(
    ("model", "draft", "prompt", "window"),
    [
        ("deepseek-v3.2", "mtp", 1900, 2048),  # of what its indexer has scored
        ("gemma-3-12b", "eagle", 900, 1024),
        ("gpt-oss-20b", "ngram", 60, 128),
    ],
)
def test_what_a_step_sees_of_a_window_is_bounded_by_it(
    model: str, draft: str, prompt: int, window: int
) -> None:
    """With nothing accepted the place of every step is known, and the time is a plain sum."""
    run = simulate(of_model(model, drafted(draft, acceptance=0.0), prompt, 300), debug=True)
    (fleet,) = lay_out(run.scenario).fleets
    step_time = roofline(fleet, 1.0)
    assert step_time.window == window
    decode_s = 0.0
    for step in range(299):
        sees = prompt + step + 2.5  # the mean of the four tokens verified
        decode_s += step_time.decode(1).duration_s + sees * step_time.per_context.duration_s
        decode_s += min(sees, window) * step_time.per_windowed.duration_s
    row = run.requests.iloc[0]
    assert row["e2e_ms"] - row["ttft_ms"] == pytest.approx(1e3 * decode_s, rel=1e-9)
    # Each token verified is multiplied with what it sees, which is read once for all.
    before = roofline(lay_out(of_model(model, {})).fleets[0], 1.0).per_windowed
    verifying = roofline(lay_out(of_model(model, drafted("ngram"))).fleets[0], 1.0).per_windowed
    assert verifying.busy_compute_s == pytest.approx(4 * before.busy_compute_s)
    assert verifying.busy_memory_s == pytest.approx(before.busy_memory_s)


@pytest.mark.parametrize("model", ["deepseek-v3.2", "glm-5"])
def test_sparse_attention_and_its_own_layer_gain_what_leviathan_says(model: str) -> None:
    """One user, where a step is a reading of weights: experts that more tokens reach apart."""
    engine = drafted("mtp", tokens=1, acceptance=0.85)
    before, after = (simulate(of_model(model, made, 8000)) for made in ({}, engine))
    length = after.summary["speculation"]["mean_acceptance_length"]
    assert length == pytest.approx(1.85, rel=0.03)
    speedup = before.summary["tpot_ms"]["p50"] / after.summary["tpot_ms"]["p50"]
    plain, both = (roofline(lay_out(run.scenario).fleets[0], 1.0) for run in (before, after))
    cost = step_at(both, 8200.0) / step_at(plain, 8200.0)
    assert 1.0 < cost < 1.2
    assert speedup == pytest.approx(length / cost, rel=0.02)


def step_at(step_time: Any, context: float) -> float:
    """Return the seconds of a step of one user with so much context, beyond the window."""
    step_s: float = step_time.decode(1).duration_s + context * step_time.per_context.duration_s
    return step_s + step_time.window * step_time.per_windowed.duration_s


def test_a_layer_that_drafts_for_sparse_attention_keeps_its_indexers_keys() -> None:
    """61 layers and one: each token keeps 576 numbers and 132 bytes of an indexer's key in each."""
    (plain,), (both,) = (
        lay_out(of_model("deepseek-v3.2", engine)).fleets for engine in ({}, drafted("mtp"))
    )
    assert plain.memory.bytes_per_token == pytest.approx(61 * (576 * 2 + 132))
    assert both.memory.bytes_per_token == pytest.approx(62 * (576 * 2 + 132))


def test_a_small_model_with_windows_of_the_same_length_may_draft() -> None:
    engine = drafted("gpt-oss-20b", max_num_seqs=64)
    (plain,), (both,) = (
        lay_out(of_model("gpt-oss-120b", made)).fleets for made in ({"max_num_seqs": 64}, engine)
    )
    (small,) = lay_out(of_model("gpt-oss-20b", {"max_num_seqs": 64})).fleets
    for name in ("window_bytes", "bytes_per_token", "weight_bytes"):
        parts = getattr(plain.memory, name), getattr(small.memory, name)
        assert getattr(both.memory, name) == pytest.approx(sum(parts))
    near, far = (roofline(fleet, 1.0).per_windowed for fleet in (both, plain))
    assert near.drafting_s == pytest.approx(
        3 * sum(roofline(small, 1.0).per_windowed[1:5]), rel=1e-9
    )
    assert near.drafting_s > 0.0 and far.drafting_s == 0.0


REFUSED = [
    (drafted("mtp"), "released without layers for multi-token prediction"),
    (drafted("ngram", tokens=16), "must be fewer than the 16 tokens of a KV block, not 16"),
    (drafted("llama-3.1-70b"), "is no smaller than llama-3.1-8b"),
    (drafted("qwen3-4b"), "a draft must share it"),
    (
        drafted("gemma-2-2b"),
        "gemma-2-2b attends to 4,096 tokens in some of its layers, and llama-3.1",
    ),
    (drafted("nonsense"), "unknown model 'nonsense'"),
    (drafted(acceptance=1.5), "acceptance"),
    (drafted(acceptance={"mean": 0.9, "deviation": 0.4}), "deviation must be below 0.3"),
    (drafted({}), "give either 'draft' (a smaller model, mtp, eagle, eagle3 or ngram) or"),
    (drafted({"draft": "ngram", "step_time_share": 0.1}), "give either 'draft'"),
    (drafted(tokens=0), "num_speculative_tokens"),
    (
        drafted(max_num_batched_tokens=300, max_num_seqs=100),
        "must be at least max_num_seqs (100) times 4, a token and its drafts, not 300",
    ),
]


@pytest.mark.parametrize(("engine", "message"), REFUSED)
def test_what_cannot_be_is_refused(engine: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        simulate(small_scenario(engine=engine))
    assert message in str(raised.value)


def test_what_is_not_modelled_with_drafts_is_refused() -> None:
    base: Scenario = small_scenario(engine=drafted())
    (spec,) = base.deployments.values()
    for update, message in (
        ({"step_time": "aiconfigurator"}, "has no steps that verify drafts"),
        ({"parallelism": {"pp": 2}}, "with parallelism.pp do not draft yet"),
        ({"prefill": {"replicas": 1, "parallelism": {"pp": 2}}}, r"with prefill\.parallelism\.pp"),
        ({"prefill": {"replicas": 1, "parallelism": {"cp": 2}}}, r"with prefill\.parallelism\.cp"),
    ):
        with pytest.raises(InputError, match=message):
            validate(Deployment, spec.model_dump(exclude_none=True) | update)
    linear = spec.model_copy(update={"model": "qwen3-next-80b-a3b", "precision": "fp8"})
    with pytest.raises(InputError, match="linear attention, whose states would have to be kept"):
        lay_out(base.model_copy(update={"deployments": {"d": linear}}))


def test_a_failed_replica_forgets_its_drafts() -> None:
    scenario = small_scenario(
        engine=drafted("eagle", max_num_seqs=6), replicas=2, rate="40 /s", duration="20 s"
    )
    given = validate(
        Scenario,
        scenario.model_dump(exclude_none=True, by_alias=True, exclude={"catalog"})
        | {
            "failures": {
                "schedule": [{"at": "5 s", "what": "rack-0/server-0/gpu-0", "lasts": "1 s"}]
            }
        },
    )
    run = simulate(given, debug=True)
    assert run.requests["retries"].sum() > 0
    assert run.summary["requests_completed"] == len(run.requests)
