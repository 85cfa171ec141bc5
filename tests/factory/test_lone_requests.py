"""A request alone: whatever holds the model, it takes its chunks and its steps, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.factory.build import roofline
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import simulate
from factory_sim.frozen import validate
from factory_sim.physics.step_time import Chunk
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario

ONE: dict[str, Any] = {"process": "closed", "concurrency": 1, "requests": 1}
LINK = {"links": {"kv": {"bandwidth": "100 Gbit/s", "latency": "1 ms"}}}


def alone(
    deployment: dict[str, Any], prompt: int, output: int, servers: int = 1, **workload: Any
) -> Scenario:
    """Return a scenario of one request, or of one session, on H200."""
    given = small_scenario(
        arrivals=ONE, lengths={"prompt": prompt, "output": output}, **workload
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    given["deployments"]["d"] |= deployment
    given["site"]["grid_limit"] = "1 MW"
    given["racks"] = [{"system": "dgx-h200", "count": 1, "servers_per_rack": servers}]
    if "prefill" in deployment:
        given["network"] = LINK
    return validate(Scenario, given)


@pytest.mark.parametrize(
    ("deployment", "prompt", "output", "servers"),
    [
        ({}, 20_000, 50, 1),
        ({"parallelism": {"tp": 2, "pp": 4}}, 20_000, 50, 1),
        ({"parallelism": {"tp": 1, "cp": 4}}, 20_000, 50, 1),
        ({"parallelism": {"tp": 1, "cp": 4}, "kv_precision": "fp8"}, 20_000, 50, 1),
        ({"parallelism": {"tp": 8, "cp": 4}, "model": "llama-3.1-70b"}, 100_000, 20, 4),
        ({"parallelism": {"tp": 8, "pp": 2}, "model": "llama-3.1-70b"}, 10_000, 20, 2),
        ({"parallelism": {"tp": 2, "pp": 4}, "model": "gemma-3-12b"}, 900, 300, 1),
        ({"parallelism": {"tp": 2, "cp": 4}, "model": "gemma-3-12b"}, 900, 300, 1),
        (
            {"parallelism": {"tp": 8, "pp": 2}, "model": "deepseek-v3.2", "precision": "fp8"},
            1_500,
            900,
            2,
        ),
        ({"precision": "int4", "precision_fallback": True}, 3_000, 50, 1),
    ],
)
def test_a_request_takes_its_chunks_and_its_steps(
    deployment: dict[str, Any], prompt: int, output: int, servers: int
) -> None:
    """Windows, and what sparse attention chooses, fill on the way; sums of single steps."""
    scenario = alone(deployment, prompt, output, servers)
    (fleet,) = lay_out(scenario).fleets
    step_time = roofline(fleet, 1.0)
    now_s, start = fleet.host.per_request_s, 0
    while start < prompt:
        length = min(fleet.max_step_tokens, prompt - start)
        last = start + length == prompt
        now_s += step_time.mixed(0, 0, 0, [Chunk(start, length)], int(last)).duration_s
        start += length
    first_s = now_s
    fixed, far, near = (
        cost.duration_s
        for cost in (step_time.decode(1), step_time.per_context, step_time.per_windowed)
    )
    for context in range(prompt + 1, prompt + output):
        now_s += fixed + far * context + near * min(context, step_time.window)
    (row,) = simulate(scenario, debug=True).requests.itertuples()
    assert row.ttft_ms == pytest.approx(1e3 * first_s, rel=1e-9)
    assert row.e2e_ms == pytest.approx(1e3 * now_s, rel=1e-9)


@pytest.mark.parametrize(
    ("deployment", "found"),
    [
        # 119 of what was said are in the cache, in blocks of 16; then 239.
        ({}, [0, 112, 224]),
        ({"parallelism": {"tp": 1, "pp": 2}}, [0, 112, 224]),
        ({"parallelism": {"tp": 1, "cp": 2}}, [0, 112, 224]),
        # Pools that compute prompts have those alone: 100 and 220 tokens.
        ({"prefill": {"replicas": 1, "kv_link": "kv"}}, [0, 96, 208]),
        (
            {"prefill": {"replicas": 1, "kv_link": "kv", "parallelism": {"tp": 1, "pp": 2}}},
            [0, 96, 208],
        ),
        # Its ranks take turns: the third is at the first's.
        (
            {
                "model": "qwen3-30b-a3b",
                "prefill": {
                    "replicas": 1,
                    "kv_link": "kv",
                    "parallelism": {"tp": 1, "dp": 2, "ep": 2},
                },
            },
            [0, 0, 96],
        ),
    ],
)
def test_a_session_finds_what_was_said_where_it_is(
    deployment: dict[str, Any], found: list[int]
) -> None:
    scenario = alone(deployment, 100, 20, sessions={"turns": 3, "think_time": "1 s"})
    table = simulate(scenario, debug=True).requests
    assert table["prompt_tokens"].tolist() == [100, 220, 340]
    assert table["cached_tokens"].tolist() == found


def test_images_cross_with_the_text_of_their_prompt() -> None:
    """2,148 tokens over 12.5 GB/s and a millisecond; the encoder stands before the first token."""
    pools = {"model": "qwen3-vl-8b", "prefill": {"replicas": 1, "kv_link": "kv"}}
    seen = alone(pools, 100, 20, images={"count": 2, "tokens": 1024})
    read = alone(pools, 2148, 20)
    (shown,), (text,) = (simulate(each, debug=True).requests.itertuples() for each in (seen, read))
    decodes, prompts = lay_out(seen).fleets
    encoding_ms = 1e3 * roofline(prompts, 1.0).encode(2).duration_s  # type: ignore[attr-defined]
    assert shown.ttft_ms - text.ttft_ms == pytest.approx(encoding_ms)
    assert shown.transfer_ms == pytest.approx(1.0 + 1e3 * decodes.prompt_bytes(2148) / 12.5e9)
    assert shown.tpot_ms == pytest.approx(text.tpot_ms)
