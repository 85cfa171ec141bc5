"""Data-parallel attention: what a rank pays alone, and what all pay together."""

from __future__ import annotations

import pytest

from factory_sim.factory.build import even_step_time
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out
from factory_sim.frozen import validate
from factory_sim.physics import arithmetic as work
from factory_sim.physics.ideal import ideal_decoding
from factory_sim.physics.rank_time import Lockstep, RankRoofline
from factory_sim.physics.step_time import Roofline
from factory_sim.scenario.scenario import Scenario


def fleet_of(
    parallelism: dict[str, object],
    model: str = "deepseek-v3",
    system: str = "dgx-h200",
    precision: str = "fp8",
    **more: object,
) -> Fleet:
    scenario = validate(
        Scenario,
        {
            "name": "ranks",
            "duration": "10 s",
            "site": {"grid_limit": "10 MW", "pue": 1.2},
            "racks": [{"system": system, "count": 1}],
            "deployments": {
                "d": {
                    "model": model,
                    "precision": precision,
                    **more,
                    "parallelism": parallelism,
                    "replicas": 1,
                    "engine": {"profile": "sglang", "max_num_seqs": 256},
                }
            },
            "workload": {
                "w": {
                    "deployment": "d",
                    "arrivals": {"process": "poisson", "rate": "1 /s"},
                    "lengths": {"prompt": 100, "output": 100},
                }
            },
        },
    )
    (fleet,) = lay_out(scenario).fleets
    return fleet


def rank_of(fleet: Fleet) -> RankRoofline:
    return RankRoofline(fleet.chip, fleet.shard, fleet.host, 1.0, 256, 4096)


def test_latent_caches_hold_more_where_every_rank_has_its_own() -> None:
    """Every GPU of tensor parallelism keeps the same vectors; ranks keep those of their own."""
    tensor, ranks = fleet_of({"tp": 8}), fleet_of({"tp": 1, "dp": 8, "ep": 8})
    assert tensor.memory.bytes_per_token == ranks.memory.bytes_per_token
    whole = ranks.ranks * ranks.memory.tokens
    # Eight times, less what attention's weights take that each rank holds in full.
    assert 5.0 < whole / tensor.memory.tokens < 8.0
    assert ranks.shard.weight_bytes > tensor.shard.weight_bytes


def test_experts_read_their_weights_once_for_all_ranks() -> None:
    fleet = fleet_of({"tp": 1, "dp": 8, "ep": 8})
    rank, model, chip = rank_of(fleet), fleet.model, fleet.chip
    assert model.moe is not None
    experts = fleet.shard.experts
    assert experts is not None and experts.resident == model.moe.experts / 8
    touched = experts.touched(64.0, chip.expert_spread)
    read_s = touched * experts.weights_each * 1.0 / (chip.bandwidth * chip.gemm_memory)
    together = rank.together(64, 0, 64)
    assert together.memory_s == pytest.approx(work.moe_layers(model) * read_s, rel=0.1)
    # Two collectives a layer, each with its latency, and few bytes.
    least_s = 2 * work.moe_layers(model) * chip.allreduce_latency_s
    assert least_s < rank.together(1, 0, 1).network_s < 1.1 * least_s
    assert rank.together(0, 0, 0).duration_s == 0.0


def test_a_token_travels_to_as_many_gpus_as_hold_its_experts() -> None:
    fleet = fleet_of({"tp": 1, "dp": 8, "ep": 8})
    rank, model, chip = rank_of(fleet), fleet.model, fleet.chip
    assert model.moe is not None
    more_s = rank.together(0, 1_008_000, 0).network_s - rank.together(0, 8_000, 0).network_s
    reached = 1.0 - (1.0 - 1.0 / 8) ** model.moe.active  # of the other seven GPUs, each
    taken_in = 1_000_000 * reached * 7 / 8 * model.hidden * (1 + 2)  # there in fp8, back in bf16
    expected = work.moe_layers(model) * taken_in / (chip.link * chip.network)
    assert more_s == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("precision", "system", "bytes_out"),
    [
        ("fp8", "dgx-h200", 1),
        ("nvfp4", "dgx-b200", 1),
        ("bf16", "dgx-b300", 2),
        ("int4", "dgx-h200", 2),
        ("int4", "dgx-b200", 2),
        ("nvfp4", "dgx-h200", 2),
    ],
)
def test_tokens_travel_as_experts_multiply_them(
    precision: str, system: str, bytes_out: int
) -> None:
    """Weights that are unpacked to bf16 ask for tokens in 16 bits, however narrow they are."""
    fallback = bytes_out == 2 and precision != "bf16"
    more: dict[str, object] = {"precision_fallback": True} if fallback else {}
    fleet = fleet_of({"tp": 1, "dp": 8, "ep": 8}, "qwen3-235b-a22b", system, precision, **more)
    rank, model, chip = rank_of(fleet), fleet.model, fleet.chip
    assert model.moe is not None
    more_s = rank.together(0, 1_008_000, 0).network_s - rank.together(0, 8_000, 0).network_s
    reached = 1.0 - (1.0 - 1.0 / 8) ** model.moe.active
    taken_in = 1_000_000 * reached * 7 / 8 * model.hidden * (bytes_out + 2)
    expected = work.moe_layers(model) * taken_in / (chip.link * chip.network)
    assert more_s == pytest.approx(expected, rel=1e-9)


def test_ranks_win_at_large_batches_and_lose_alone() -> None:
    """SGLang reports up to 1.9 times the decoding throughput of DeepSeek models
    (https://lmsys.org/blog/2024-12-04-sglang-v0-4); alone, a GPU reads all of attention itself."""
    tensor, ranks = fleet_of({"tp": 8}), fleet_of({"tp": 1, "dp": 8, "ep": 8})
    gains = []
    for clients in (8, 512, 1024):
        whole = Roofline(tensor.chip, tensor.shard, tensor.host, 1.0, clients, 4096)
        slow = ideal_decoding(whole, 512, 512, clients)
        fast = ideal_decoding(even_step_time(ranks, 1.0), 512, 512, clients // 8)
        gains.append(8 * fast.requests_per_s / slow.requests_per_s)
    assert gains[0] < 1.0
    assert gains[0] < gains[1] < gains[2]
    assert 1.4 < gains[2] < 2.5


def test_a_step_of_even_ranks_is_one_rank_and_what_all_do() -> None:
    fleet = fleet_of({"tp": 2, "dp": 4, "ep": 8})
    rank = rank_of(fleet)
    even = Lockstep(rank, 4)
    expected = rank.decode(10).duration_s + rank.together(40, 0, 40).duration_s
    assert even.decode(10).duration_s == pytest.approx(expected)
    assert even.decode(10).compute_s + even.decode(10).memory_s > 0.0


def test_uneven_experts_slow_a_step_and_copies_mend_it() -> None:
    steps = []
    for more in ({}, {"expert_skew": 1.0}, {"expert_skew": 1.0, "redundant_experts": 32}):
        fleet = fleet_of({"tp": 1, "dp": 32, "ep": 32, **more}, system="gb200-nvl72")
        steps.append(even_step_time(fleet, 1.0).decode(64).duration_s)
    even_s, uneven_s, copied_s = steps
    assert even_s < copied_s < uneven_s


def test_copies_of_experts_take_memory() -> None:
    skewed = {"tp": 1, "dp": 8, "ep": 8, "expert_skew": 1.0}
    alone, copied = (fleet_of({**skewed, "redundant_experts": n}) for n in (0, 8))
    assert alone.model.moe is not None
    # A GPU holds one copy more in each layer: three matrices of hidden * intermediate, in 8 bits.
    weights = 3 * alone.model.hidden * alone.model.moe.intermediate
    more_bytes = weights * work.moe_layers(alone.model)
    grown = copied.memory.weight_bytes - alone.memory.weight_bytes
    assert grown == pytest.approx(more_bytes, rel=1e-9)
    assert copied.memory.tokens < alone.memory.tokens
