"""The ideal rate is above what a saturated run reaches, and not far above."""

from __future__ import annotations

import factory_sim as fs
from factory_sim.factory.build import roofline
from factory_sim.factory.check import check
from factory_sim.factory.layout import lay_out
from factory_sim.factory.review.deployment import best
from factory_sim.factory.review.workload import Asked
from factory_sim.frozen import validate
from factory_sim.physics.ideal import ideal, ideal_decoding, ideal_prompts
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario
from tests.factory.test_disaggregated_runs import disaggregated


def test_a_saturated_run_comes_near_the_ideal() -> None:
    arrivals = "workload.chat.arrivals={process: closed, concurrency: 256}"
    scenario = fs.load(
        None,
        [
            "duration=3 min",
            "racks.0.count=1",
            "racks.0.servers_per_rack=1",
            "site.grid_limit=20 kW",
            "provisioning.oversubscribe=1",
            "workload.chat.lengths={prompt: 1000, output: 200}",
            arrivals,
        ],
    )
    (fleet,) = lay_out(scenario).fleets
    best = ideal(roofline(fleet, 1.0), 1000, 200, 0, fleet.max_num_seqs, fleet.max_step_tokens)
    run = fs.simulate(scenario)
    reached = run.summary["output_tokens_per_s"] / (200 * best.requests_per_s * 2)
    assert 0.85 < reached < 1.01  # prompts come in whole numbers, not in the mean ones


def test_a_saturated_run_with_images_comes_near_the_ideal() -> None:
    """Two prompts of five have an image; encoding them is more than a tenth of the time."""
    given = small_scenario(
        duration="40 s",
        arrivals={"process": "closed", "concurrency": 64},
        lengths={"prompt": 200, "output": 100},
        engine={"max_num_seqs": 64, "max_num_batched_tokens": 4096},
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    given["deployments"]["d"]["model"] = "qwen3-vl-8b"
    given["workload"]["w"]["images"] = {"share": 0.4, "count": 1, "tokens": 1000}
    scenario = validate(Scenario, given)
    (fleet,) = lay_out(scenario).fleets
    blind, best = (
        ideal(roofline(fleet, 1.0), 600, 100, 0, 64, 4096, images=images).requests_per_s
        for images in (0.0, 0.4)
    )
    made = fs.simulate(scenario).summary["output_tokens_per_s"] / 100
    assert 0.85 < made / best < 1.01 < 0.9 * blind / best
    assert f"({best:,.1f} requests/s)" in str(check(scenario).sections)


def test_saturated_pools_come_near_their_ideals() -> None:
    small = {
        "duration": "60 s",
        "arrivals": {"process": "closed", "concurrency": 200},
        "engine": {"max_num_seqs": 64, "max_num_batched_tokens": 4096},
    }
    prompts = disaggregated(**small, lengths={"prompt": 1000, "output": 1})
    decode, prefill = lay_out(prompts).fleets
    best = ideal_prompts(roofline(prefill, 1.0), 1000, 0, 64, prefill.max_step_tokens)
    rate = fs.simulate(prompts).summary["output_tokens_per_s"]
    assert 0.95 < rate / best.requests_per_s < 1.01
    chat = disaggregated(**small, lengths={"prompt": 1000, "output": 400})
    best = ideal_decoding(roofline(decode, 1.0), 1000, 400, 64)
    run = fs.simulate(chat)
    made = run.summary["output_tokens_per_s"]
    assert run.summary["deployments"]["d"]["pools"]["decode"]["utilisation"]["mean_batch"] > 60
    assert 0.95 < made / (400 * best.requests_per_s) < 1.02


def test_long_prompts_come_in_chunks() -> None:
    (fleet,) = lay_out(small_scenario()).fleets
    step_time = roofline(fleet, 1.0)
    whole = ideal_prompts(step_time, 8000, 0, 64, 8000)
    halves = ideal_prompts(step_time, 8000, 0, 64, 4000)
    assert whole.batch == halves.batch == 1
    assert 0.9 < halves.requests_per_s / whole.requests_per_s < 1.0
    cached = ideal_prompts(step_time, 8000, 4000, 64, 4000)
    assert cached.requests_per_s > 1.7 * halves.requests_per_s


def test_many_short_prompts_are_no_more_than_a_step_has_sequences() -> None:
    small = {
        "duration": "30 s",
        "arrivals": {"process": "closed", "concurrency": 50},
        "engine": {"max_num_seqs": 4, "max_num_batched_tokens": 8192},
        "lengths": {"prompt": 100, "output": 1},
    }
    scenario = disaggregated(**small)
    _, prefill = lay_out(scenario).fleets
    asked = Asked(100.0, 1.0, 0.0, 0.0, None)
    state = best(prefill, asked)
    assert state.batch == 4
    rate = fs.simulate(scenario).summary["output_tokens_per_s"]
    assert 0.95 < rate / state.requests_per_s < 1.01
