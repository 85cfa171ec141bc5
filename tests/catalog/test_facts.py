"""The figures themselves: complete enough to simulate, consistent, and each with its source."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from factory_sim.catalog import Fact, Model, load_catalog

CATALOG = load_catalog()
FACTS = Path(__file__).parents[3] / "shared" / "facts"


def facts(entry: Any, path: str = "") -> Iterator[tuple[str, Fact[Any]]]:
    if isinstance(entry, Fact):
        yield path, entry
    elif isinstance(entry, BaseModel):
        for field in type(entry).model_fields:
            yield from facts(getattr(entry, field), f"{path}.{field}")
    elif isinstance(entry, dict):
        for key, value in entry.items():
            yield from facts(value, f"{path}.{key}")


ALL = [
    found
    for section in ("accelerators", "systems", "models", "engines", "families", "power", "cooling")
    for name, entry in getattr(CATALOG, section).items()
    for found in facts(entry, f"{section}.{name}")
]


def test_every_section_has_its_entries() -> None:
    assert len(CATALOG.accelerators) == 27
    assert len(CATALOG.systems) == 23
    assert len(CATALOG.models) == 76
    versions = {"vllm-0.2", "vllm-0.11", "vllm-0.15", "vllm-tuned"}
    assert set(CATALOG.engines) == {"vllm", "sglang", "trtllm", "ideal"} | versions


def test_a_datasheet_or_measured_figure_has_a_public_source() -> None:
    unsourced = [
        path
        for path, fact in ALL
        if fact.kind in ("datasheet", "measured")
        and "http" not in fact.source
        and "public" not in fact.source
    ]
    assert unsourced == []


def test_our_own_estimate_says_why() -> None:
    silent = [
        path
        for path, fact in ALL
        if fact.kind == "estimate" and fact.source.startswith("our ") and not fact.note
    ]
    assert silent == []


@pytest.mark.parametrize("name", sorted(CATALOG.accelerators))
def test_each_accelerator_has_efficiencies_and_a_power_curve(name: str) -> None:
    accelerator = CATALOG.accelerators[name]
    for precision in accelerator.flops:
        assert CATALOG.efficiency(accelerator.family, precision).precision == precision
    assert accelerator.family in CATALOG.power


@pytest.mark.parametrize("name", sorted(CATALOG.systems))
def test_a_system_fits_its_accelerator_and_its_nameplate(name: str) -> None:
    system = CATALOG.systems[name]
    accelerator = CATALOG.accelerator(system.accelerator)
    assert accelerator.scaleup_gpus is not None
    assert system.scaleup_gpus <= accelerator.scaleup_gpus.value
    assert system.scaleup_gpus <= system.gpus_per_server * system.servers_per_rack
    assert accelerator.need("idle") < accelerator.need("tdp")
    gpus = system.gpus_per_server * accelerator.need("tdp")
    full = (gpus + system.host_load.value) * (1 + system.fan_share.value)
    assert full / system.psu_efficiency.value <= system.nameplate.value
    assert system.host_idle.value < system.host_load.value


def test_eight_b200_at_full_power_draw_what_mlperf_measured_at_the_wall() -> None:
    # MLPerf Inference v5.1, ThinkSystem SR680a V3 with 8 x B200: 10,401 W offline.
    system = CATALOG.system("dgx-b200")
    dc = 8 * 1000.0 + system.host_load.value
    wall = dc * (1 + system.fan_share.value) / system.psu_efficiency.value
    assert wall == pytest.approx(10401, rel=0.02)


def test_a_dgx_h100_provisions_what_semianalysis_provisions() -> None:
    # All-in IT watts per H100, network included: 1370 (SemiAnalysis AI Cloud TCO model).
    system = CATALOG.system("dgx-h100")
    rack = system.servers_per_rack * system.nameplate.value + system.rack_overhead.value
    gpus = system.servers_per_rack * system.gpus_per_server
    assert rack / gpus == pytest.approx(1370, rel=0.03)


def weights(model: Model, experts: int) -> float:
    """h: hidden, i: intermediate, d: head_dim, m: matrices of an MLP, V: vocabulary, L: layers.

    V h (1 if tied else 2) + L (attention + MLP); attention 2 h H d + 2 h H_kv d, or latent,
    and h H d more where it is gated; MLP m h i, or (experts + shared) m h i_e + h E on the
    layers that are sparse. With linear attention of K key and W value columns: h (2 K + 3 W)
    and the convolution (2 K + W) c; the gates of the heads are left out here (below 0.1 %).
    """
    h, m = model.hidden, model.mlp_matrices
    if (a := model.mla) is not None:
        assert a.q_lora is not None
        attention = (
            h * a.q_lora
            + a.q_lora * model.heads * (a.nope + a.rope)
            + h * (a.kv_lora + a.rope)
            + a.kv_lora * model.heads * (a.nope + a.v)
            + model.heads * a.v * h
        )
    else:
        attention = 2 * h * model.head_dim * (model.heads + model.kv_heads)
        attention += h * model.heads * model.head_dim if model.attention_gate else 0
    mlps = model.mlp_layers or model.layers
    mlp = mlps * m * h * model.intermediate
    if (e := model.moe) is not None:
        shared = e.shared_experts * (e.shared_intermediate or e.intermediate)
        sparse = m * h * (experts * e.intermediate + shared) + h * e.experts
        mlp = (mlps - e.dense_layers) * sparse + e.dense_layers * m * h * model.intermediate
    mixers = model.layers * attention
    if (n := model.linear) is not None:
        keys, values = n.key_heads * n.key_dim, n.value_heads * n.value_dim
        linear = h * (2 * keys + 3 * values) + n.conv * (2 * keys + values)
        mixers = (model.layers - n.layers) * attention + n.layers * linear
    embeddings = model.vocab * h * (1 if model.tied_embeddings else 2)
    return embeddings + mixers + mlp


@pytest.mark.parametrize("name", sorted(CATALOG.models))
def test_the_shape_has_as_many_weights_as_published(name: str) -> None:
    model = CATALOG.models[name]
    # The leaked figures of the one estimate are round numbers that do not quite add up.
    tolerance = 0.02 if model.kind == "estimate" else 0.01
    total = weights(model, model.moe.experts if model.moe else 0)
    assert total == pytest.approx(model.parameters.value, rel=tolerance)


# What the makers say on the models' cards, in their own rounding: total and active billions.
CARDS = [
    ("llama-3.3-70b", 70.6, 70.6),
    ("llama-4-maverick", 400, 17),
    ("gemma-2-9b", 9.24, 9.24),
    ("gemma-2-27b", 27.2, 27.2),
    ("gemma-3-12b", 11.77, 11.77),
    ("qwen2.5-7b", 7.61, 7.61),
    ("qwen2.5-32b", 32.5, 32.5),
    ("qwen2.5-72b", 72.7, 72.7),
    ("qwen3-4b", 4.0, 4.0),
    ("qwen3-30b-a3b-2507", 30.5, 3.3),
    ("qwen3-235b-a22b-2507", 235, 22),
    ("qwen3-coder-480b-a35b", 480, 35),
    ("mistral-7b", 7.25, 7.25),
    ("mistral-large-123b", 123, 123),
    ("starcoder2-15b", 16, 16),
    ("phi-4", 14.7, 14.7),
    ("glm-4.5", 355, 32),
    ("glm-4.5-air", 106, 12),
    ("glm-5", 744, 40),
    ("deepseek-v3.1", 671, 37),
    ("kimi-k2.5", 1030, 32),
    ("qwen3-next-80b-a3b", 80, 3.3),
    ("qwen3.5-27b", 27, 27),
    ("qwen3.5-122b-a10b", 122, 10),
    ("qwen3.5-397b-a17b", 397, 17),
    ("nemotron-nano-9b-v2", 8.9, 8.9),
    ("nemotron-nano-12b-v2", 12.3, 12.3),
    ("nemotron-3-nano-30b-a3b", 31.6, 3.6),
]


@pytest.mark.parametrize(("name", "total", "active"), CARDS)
def test_the_card_of_the_model_says_as_many(name: str, total: float, active: float) -> None:
    model = CATALOG.models[name]
    passed = model.active_parameters or model.parameters
    assert model.parameters.value == pytest.approx(total * 1e9, rel=0.02)
    # Cards round, and some leave both tables out: 1.2 B of GLM-4.5-Air's 13.4.
    tables = model.vocab * model.hidden * (1 if model.tied_embeddings else 2)
    rounded = pytest.approx(active * 1e9, rel=0.03)
    assert passed.value == rounded or passed.value - tables == rounded


@pytest.mark.parametrize(
    ("name", "active"),
    [("mixtral-8x7b", 12.88e9), ("deepseek-v3", 37.55e9), ("gpt-oss-120b", 5.71e9)],
)
def test_a_token_passes_through_as_many_weights_as_published(name: str, active: float) -> None:
    model = CATALOG.models[name]
    assert model.moe is not None
    assert weights(model, model.moe.active) == pytest.approx(active, rel=0.01)


@pytest.mark.skipif(not FACTS.is_dir(), reason="the folder of shared facts is not here")
def test_the_models_agree_with_the_shared_table() -> None:
    with (FACTS / "models.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if not row["estimated"].startswith("YES")]
    for row in rows:
        name = row["model"]
        model = CATALOG.model(name)
        read = (model.layers, model.hidden, model.heads, model.kv_heads, model.vocab)
        told = tuple(int(row[k]) for k in ("layers", "hidden", "heads", "kv_heads", "vocab"))
        assert read == told, name
        assert (model.moe.experts if model.moe else 0) == int(row["experts"] or 0), name
        per_token = (
            model.layers * (model.mla.kv_lora + model.mla.rope) * 2
            if model.mla
            else 2 * model.layers * model.kv_heads * model.head_dim * 2
        )
        assert per_token == int(row["kv_bytes_per_token_bf16"]), name
