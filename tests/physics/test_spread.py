"""Replicas over stages, over shared contexts and over scale-up domains: what a step then takes."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.errors import InputError
from factory_sim.factory.build import even_step_time, step_time_of
from factory_sim.factory.fleets.fleet import Fleet, stage_shard
from factory_sim.factory.fleets.make import HOP_S
from factory_sim.factory.layout import lay_out
from factory_sim.frozen import validate
from factory_sim.physics import arithmetic as work
from factory_sim.physics.pipeline import Stages, deal, stages_of
from factory_sim.physics.rank_time import RankRoofline
from factory_sim.physics.step_time import Chunk
from factory_sim.scenario.scenario import Scenario


def fleet_of(
    parallelism: dict[str, Any],
    model: str = "llama-3.1-405b",
    system: str = "dgx-h100",
    servers: int = 4,
    engine: dict[str, Any] | None = None,
    **deployment: Any,
) -> Fleet:
    """Return one replica on a rack of so many servers."""
    scenario = validate(
        Scenario,
        {
            "name": "spread",
            "duration": "10 s",
            "site": {"grid_limit": "10 MW", "pue": 1.2},
            "racks": [{"system": system, "count": 1, "servers_per_rack": servers}],
            "deployments": {
                "d": {
                    "model": model,
                    "precision": "fp8",
                    "parallelism": parallelism,
                    "replicas": 1,
                    "engine": {"max_num_seqs": 64} | (engine or {}),
                }
                | deployment
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


# -- several scale-up domains ----------------------------------------------------------


def test_an_all_reduce_over_two_servers_pays_for_nics() -> None:
    """A sixteenth way: inside 8, then 1/8 of the bytes between the two, in two hops."""
    near, far = fleet_of({"tp": 8}), fleet_of({"tp": 16})
    chip, model = far.chip, far.model
    assert (chip.domain, chip.scaleout) == (8, 50e9)
    tokens = 512
    times = [step_time_of(fleet, 1.0).decode(1).network_s for fleet in (near, far)]
    calls = 2 * model.layers
    small = model.hidden * 2.0  # bytes of one token
    assert times[1] - times[0] == pytest.approx(
        calls * (2 * HOP_S + small / 8 / (50e9 * chip.network)), rel=1e-9
    )
    chunk = [Chunk(0, tokens)]
    times = [step_time_of(f, 1.0).mixed(0, 0.0, 0, chunk, 1).network_s for f in (near, far)]
    across_s = 2 * HOP_S + tokens * small / 8 / (50e9 * chip.network)
    assert times[1] - times[0] == pytest.approx(calls * across_s, rel=1e-9)


def test_a_token_crosses_to_another_domain_once() -> None:
    """Sixteen ranks on two servers: the eight GPUs over there share out what comes over."""
    fleet = fleet_of({"dp": 16, "ep": 16}, "deepseek-v3")
    rank = step_time_of(fleet, 1.0)
    assert isinstance(rank, RankRoofline)
    chip, model = fleet.chip, fleet.model
    assert model.moe is not None
    more_s = rank.together(1_600_000, 0, 0).network_s - rank.together(800_000, 0, 0).network_s
    chosen = 1.0 - 0.5**model.moe.active  # the other server has one of the eight experts
    crossing = 800_000 * chosen / 2 / 8 * model.hidden * (1 + 2)  # there in fp8, back in bf16
    expected = work.moe_layers(model) * crossing / (chip.scaleout * chip.network)
    assert more_s == pytest.approx(expected, rel=1e-9)


def test_replicas_take_whole_neighbouring_domains() -> None:
    fleet = fleet_of({"tp": 8, "pp": 2}, replicas=2)
    held = [[gpu.name.split("/")[1] for gpu in gpus] for gpus in fleet.replicas]
    assert held == [
        ["server-0"] * 8 + ["server-1"] * 8,
        ["server-2"] * 8 + ["server-3"] * 8,
    ]


SPREADS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"tp": 4, "pp": 3}, {}, "parallelism.pp", "12 GPUs (tp * pp) are more than a scale-up domain"),
    ({"tp": 1, "pp": 64}, {}, "replicas", "(a replica stands in one rack)"),
    (
        {"tp": 4},
        {"system": "h100-nvl-8", "model": "llama-3.1-70b"},
        "parallelism.tp",
        "several domains in a server, between which no link is known",
    ),
    ({"tp": 6, "pp": 4}, {}, "parallelism.tp", "neither fill whole"),
    ({"tp": 8, "pp": 2, "cp": 2}, {}, "parallelism", "leave out cp, or dp and pp"),
    ({"pp": 2, "dp": 2}, {"model": "deepseek-v3"}, "parallelism", "leave out dp, or pp"),
    (
        {"pp": 16},
        {"model": "gpt-oss-20b"},
        "parallelism.pp",
        "12 layers with full attention, too few for 16 stages",
    ),
    (
        {"tp": 8, "pp": 2},
        {"engine": {"async_scheduling": True}},
        "engine.async_scheduling",
        "planned one while others run",
    ),
    (
        {"tp": 8, "pp": 2},
        {"engine": {"batching": "static"}},
        "engine.batching",
        "static batching over a pipeline is not modelled",
    ),
    (
        {"tp": 8, "pp": 2},
        {"step_time": "aiconfigurator"},
        "step_time",
        "several scale-up domains",
    ),
    (
        {"cp": 2},
        {"model": "qwen3-next-80b-a3b"},
        "parallelism.cp",
        "linear attention, whose states follow one another",
    ),
    (
        {"cp": 2},
        {"step_time": "aiconfigurator"},
        "step_time",
        "knows no context parallelism",
    ),
]


@pytest.mark.parametrize(("parallelism", "more", "path", "words"), SPREADS)
def test_what_cannot_be_spread_is_said(
    parallelism: dict[str, Any], more: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        fleet_of(parallelism, **more)
    problem = caught.value.problems[0]
    assert problem.path == f"deployments.d.{path}"
    assert words in problem.message


# -- stages ----------------------------------------------------------------------------


def test_layers_are_dealt_out_as_vllm_does() -> None:
    """What does not divide goes to the stages before the last."""
    assert deal(61, 4) == [15, 15, 16, 15]
    assert deal(20, 3) == [7, 7, 6]
    assert deal(126, 2) == [63, 63]
    assert deal(7, 4) == [2, 2, 2, 1]


def test_stages_hold_the_model_once() -> None:
    for name in ("llama-3.1-405b", "deepseek-v3", "gpt-oss-120b", "qwen3-next-80b-a3b"):
        fleet = fleet_of({"tp": 8}, name, "dgx-b300")
        for pp in (2, 3, 4):
            stages = stages_of(fleet.model, pp)
            parts = [stage_shard(fleet.shard, stage).weight_bytes for stage in stages]
            assert sum(parts) == pytest.approx(fleet.shard.weight_bytes, rel=1e-12)
            assert sum(stage.model.layers for stage in stages) == fleet.model.layers
            assert sum(work.moe_layers(stage.model) for stage in stages) == work.moe_layers(
                fleet.model
            )


def test_a_pipeline_halves_weights_and_doubles_the_cache() -> None:
    one, two = fleet_of({"tp": 8}), fleet_of({"tp": 8, "pp": 2})
    assert two.memory.weight_bytes == pytest.approx(one.memory.weight_bytes / 2, rel=0.02)
    assert two.weight_bytes == pytest.approx(one.weight_bytes, rel=1e-12)
    assert two.memory.bytes_per_token == one.memory.bytes_per_token / 2
    # One micro-batch's half of the blocks of a stage.
    each = two.memory.kv_bytes / two.memory.bytes_per_token / 2
    assert two.memory.tokens == pytest.approx(each, abs=32)


def test_stages_add_up_to_the_whole_and_what_is_sent_between_them() -> None:
    whole, fleet = fleet_of({"tp": 8}), fleet_of({"tp": 8, "pp": 2})
    one, stages = step_time_of(whole, 1.0), step_time_of(fleet, 1.0)
    assert isinstance(stages, Stages)
    chip, hidden = fleet.chip, fleet.model.hidden
    chunk = [Chunk(0, 4096)]
    alone, both = one.mixed(8, 9000.0, 0, chunk, 9), stages.mixed(8, 9000.0, 0, chunk, 9)
    vectors = 2 * 4104 * 2 * hidden
    sent_s = HOP_S + vectors / 8 / (chip.scaleout * chip.network)
    gathered_s = chip.allreduce_latency_s + vectors * 7 / 8 / (chip.link * chip.network)
    assert both.network_s - alone.network_s == pytest.approx(sent_s + gathered_s, rel=1e-9)
    assert both.compute_s == pytest.approx(alone.compute_s, rel=1e-9)
    assert both.memory_s == pytest.approx(alone.memory_s, rel=1e-9)
    assert sum(stages.per_context) == pytest.approx(sum(one.per_context), rel=1e-9)
    # Each stage's worker prepares its own step.
    extra_s = whole.host.per_step_s + whole.host.per_sequence_s * 9
    assert both.host_s - alone.host_s == pytest.approx(extra_s, rel=1e-9)


def test_pipelines_trade_latency_for_fewer_all_reduces() -> None:
    """Over two servers, a pipeline sends once a token what tensor parallelism reduces 252 times."""
    wide, deep = fleet_of({"tp": 16}), fleet_of({"tp": 8, "pp": 2})
    alone = [step_time_of(fleet, 1.0).decode(1).duration_s for fleet in (wide, deep)]
    assert alone[0] < alone[1]
    prompts = [
        even_step_time(fleet, 1.0).mixed(0, 0.0, 0, [Chunk(0, 8192)], 1).duration_s / fleet.batches
        for fleet in (wide, deep)
    ]
    assert prompts[1] < prompts[0]


# -- shared contexts -------------------------------------------------------------------


def test_shared_contexts_hold_more_of_them() -> None:
    """Four groups keep four times the tokens, of latent vectors too, which tp repeats."""
    for model in ("llama-3.1-405b", "deepseek-v3"):
        one = fleet_of({"tp": 8}, model, "dgx-b300")
        four = fleet_of({"tp": 8, "cp": 4}, model, "dgx-b300")
        assert four.memory.bytes_per_token == one.memory.bytes_per_token / 4
        assert four.memory.weight_bytes == one.memory.weight_bytes
        assert four.memory.tokens == pytest.approx(4 * one.memory.tokens, rel=0.02)


def test_a_decoded_token_reads_its_part_and_adds_the_parts_up() -> None:
    one, four = fleet_of({"tp": 8}), fleet_of({"tp": 8, "cp": 4})
    alone, shared = step_time_of(one, 1.0), step_time_of(four, 1.0)
    assert shared.per_context.duration_s == pytest.approx(alone.per_context.duration_s / 4)
    added_s = shared.decode(16).duration_s - alone.decode(16).duration_s
    model, chip = four.model, four.chip
    part = 16 * model.heads / 8 * model.head_dim * 2
    # Each group fills a server, so every part goes over NICs, in a ring of four: two rounds of it.
    each_s = 6 * HOP_S + 2 * 3 / 4 * part / (chip.scaleout * chip.network)
    each_s += chip.allreduce_latency_s
    assert added_s == pytest.approx(model.layers * each_s, rel=1e-9)


def test_a_million_tokens_on_128_gpus_take_what_was_measured() -> None:
    """Llama-3.1-405B on 16 servers of eight H100: a million tokens in 77 s, at 63 % of peak, and
    128 thousand in 3.8 s (Yang et al., 2024, arXiv:2411.01783, abstract). By that share peak was
    0.8 Pflop/s, so their boards ran below the clock of a datasheet. Memory of an H200 holds all
    weights in bf16."""
    engine = {"max_num_seqs": 1}
    spread, system = {"tp": 8, "cp": 16}, "dgx-h200"
    fleet = fleet_of(spread, system=system, servers=16, engine=engine, precision="bf16")
    model, long = fleet.model, 1_000_000
    flops = 2 * work.layer_weights(model) * long
    flops += 2 * long**2 * model.heads * model.head_dim * model.layers
    step_time = step_time_of(fleet, flops / 77 / 128 / 0.63 / fleet.chip.flops_bf16)
    taken_s = [
        step_time.mixed(0, 0.0, 0, [Chunk(0, tokens)], 1).duration_s for tokens in (131_072, long)
    ]
    assert taken_s == pytest.approx([3.8, 77.0], rel=0.25)


def test_attention_of_a_million_tokens_grows_with_their_square() -> None:
    fleet = fleet_of({"tp": 4, "cp": 4}, "llama-4-scout", "dgx-h200", 2)
    step_time, model, chip = step_time_of(fleet, 1.0), fleet.model, fleet.chip
    each = 8192
    seconds = [
        step_time.mixed(0, 0.0, 0, [Chunk(start, each)], 0).compute_s
        for start in range(0, 1_000_000, each)
    ]
    assert model.window is not None
    full = model.attention_layers - model.window.layers
    pairs = len(seconds) * each * (len(seconds) * each + 1) / 2
    flops = 4 * model.heads * model.head_dim * full * pairs / 16
    square_s = flops / (chip.flops_bf16 * chip.attention_compute)
    rest_s = sum(seconds) - square_s
    assert 0 < rest_s < square_s / 2


def test_keys_that_come_late_are_waited_for() -> None:
    """Short chunks on a long context pass its whole cache round and compute little meanwhile."""
    fleet = fleet_of({"tp": 8, "cp": 4})
    step_time, chip, model = step_time_of(fleet, 1.0), fleet.chip, fleet.model
    long, short = Chunk(0, 32_768), Chunk(100_000, 16)
    assert step_time.mixed(0, 0.0, 0, [long], 1).network_s < 1.0
    base = step_time.mixed(0, 0.0, 0, [Chunk(0, 16)], 1).network_s
    ring_s = step_time.mixed(0, 0.0, 0, [short], 1).duration_s
    passing = 100_016 * fleet.shard.kv_bytes_per_token_layer * 4 * 3 / 4 * model.layers
    passing_s = passing / (chip.scaleout * chip.network) + 3 * model.layers * HOP_S
    assert ring_s > passing_s
    waited_s = step_time.mixed(0, 0.0, 0, [short], 1).network_s - base
    assert 0.5 * passing_s < waited_s < passing_s


# -- attention that chooses its tokens -------------------------------------------------


def test_decoding_scores_all_tokens_and_attends_to_those_chosen() -> None:
    """DeepSeek-V3.2 beside V3.1, the same model with full attention, on eight H200."""
    full, sparse = (fleet_of({"tp": 8}, f"deepseek-v3.{n}", "dgx-h200") for n in (1, 2))
    old, new, chip = step_time_of(full, 1.0), step_time_of(sparse, 1.0), sparse.chip
    layers = sparse.model.layers
    assert new.window == 2048
    assert new.per_windowed == old.per_context
    # 132 bytes of an indexer's key against 1,152 of latent vector; 64 heads of 128 in 8 bits.
    scored_s = layers * max(
        132 / (chip.bandwidth * chip.kv_memory),
        2 * 64 * 128 / (chip.flops * chip.attention_compute),
    )
    assert new.per_context.duration_s == pytest.approx(scored_s, rel=1e-9)
    context = 128 * 1024
    attended_s = new.per_context.duration_s * context + new.per_windowed.duration_s * 2048
    assert attended_s < 0.2 * old.per_context.duration_s * context
    # The indexer's weights, on every GPU alike: what a short context pays.
    weights = layers * (1536 * 64 * 128 + 7168 * (128 + 64))
    read_s = new.decode(1).memory_s - old.decode(1).memory_s
    assert read_s == pytest.approx(weights / (chip.bandwidth * chip.gemm_memory), rel=0.01)


def test_long_prompts_attend_to_those_chosen_and_short_ones_to_all() -> None:
    full, sparse = (fleet_of({"tp": 8}, f"deepseek-v3.{n}", "dgx-h200") for n in (1, 2))
    old, new, chip = step_time_of(full, 1.0), step_time_of(sparse, 1.0), sparse.chip
    layers, rate = sparse.model.layers, chip.attention_compute

    def attention_s(model: Any, chunk: Chunk) -> float:
        alone: float = model.mixed(0, 0.0, 0, [Chunk(0, chunk.length)], 1).duration_s
        later: float = model.mixed(0, 0.0, 0, [chunk], 1).duration_s
        return later - alone

    long = Chunk(131_072, 4096)
    # A chunk at the end of a long prompt scores 131,072 tokens more than one at its beginning.
    scored_s = layers * 4096 * 131_072 * 2 * 64 * 128 / (chip.flops * rate)
    beginning = 4096 * 4097 / 2 * 2 * 16 * (128 + 64 + 128)  # masked: all of them
    chosen = 4096 * 2048 * 2 * 16 * (2 * 512 + 64)
    attended_s = layers * (chosen - min(beginning, chosen)) / (chip.flops_bf16 * rate)
    assert attention_s(new, long) == pytest.approx(scored_s + attended_s, rel=1e-3)
    assert attention_s(new, long) < 0.9 * attention_s(old, long)
    # Tensor parallelism slices heads, but every GPU scores alike; ranks gain more.
    spread = {"dp": 8, "ep": 8}
    wide = [fleet_of(spread, f"deepseek-v3.{n}", "dgx-h200") for n in (1, 2)]
    each = [attention_s(step_time_of(fleet, 1.0), long) for fleet in wide]
    assert each[1] < 0.25 * each[0]
    short = Chunk(0, 1024)
    more_s = new.mixed(0, 0.0, 0, [short], 1).compute_s - old.mixed(0, 0.0, 0, [short], 1).compute_s
    assert more_s > 0.0  # the indexer, for nothing


def test_an_indexer_keeps_keys_beside_the_cache() -> None:
    full, sparse = (fleet_of({"tp": 8}, f"deepseek-v3.{n}", "dgx-h200") for n in (1, 2))
    assert sparse.memory.bytes_per_token - full.memory.bytes_per_token == 61 * 132
    held = sparse.shard.weight_bytes - full.shard.weight_bytes
    assert held == pytest.approx(61 * (1536 * 64 * 128 + 7168 * (128 + 64)))


@pytest.mark.parametrize(
    ("more", "path", "words"),
    [
        ({"parallelism": {"tp": 8, "cp": 2}}, "parallelism.cp", "from the whole context"),
    ],
)
def test_what_sparse_attention_cannot_do_yet_is_said(
    more: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        fleet_of(model="deepseek-v3.2", system="dgx-h200", **more)
    assert caught.value.problems[0].path == f"deployments.d.{path}"
    assert words in caught.value.problems[0].message
