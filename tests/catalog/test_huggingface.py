"""Reading a model from a Hugging Face configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from factory_sim.catalog import Mla, Model, Moe, Sparse, Window, load_catalog
from factory_sim.errors import InputError

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(config: Any, name: str = "my-model") -> Model:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        return load_catalog().model(str(folder / "config.json"))

    return read


def same_shape(read: Model, known: str) -> bool:
    shape = [
        *("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "mlp_matrices"),
        *("vocab", "tied_embeddings", "moe", "mla", "window", "released_precision"),
        *("linear", "attention_gate", "mlp_layers", "context_max"),
    ]
    catalogued = load_catalog().model(known)
    return all(getattr(read, field) == getattr(catalogued, field) for field in shape)


def test_llama(read: Any) -> None:
    model = read(LLAMA)
    assert same_shape(model, "llama-3.1-8b")
    assert model.name == "my-model"
    assert model.parameters.value == pytest.approx(8.03e9, rel=0.001)
    assert model.active_parameters is None


def test_an_unknown_architecture_with_the_usual_keys_is_llama_like(read: Any) -> None:
    assert same_shape(read(LLAMA | {"model_type": "brand_new"}), "llama-3.1-8b")


def test_mixture_of_experts_with_a_window_switched_off(read: Any) -> None:
    config = {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 48,
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "sliding_window": 4096,
        "use_sliding_window": False,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    }
    model = read(config)
    assert same_shape(model, "qwen3-30b-a3b")
    assert model.active_parameters.value == pytest.approx(3.35e9, rel=0.01)


def test_latent_attention_and_fp8(read: Any) -> None:
    config = {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 61,
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "vocab_size": 129280,
        "max_position_embeddings": 163840,
        "quantization_config": {"quant_method": "fp8"},
    }
    model = read(config)
    assert same_shape(model, "deepseek-v3")
    assert model.mla == Mla(q_lora=1536, kv_lora=512, nope=128, rope=64, v=128)
    assert model.parameters.value == pytest.approx(671.03e9, rel=0.001)


def test_sparse_attention_with_an_indexer(read: Any) -> None:
    config = {
        "model_type": "glm_moe_dsa",
        "num_hidden_layers": 78,
        "hidden_size": 6144,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "head_dim": 64,
        "intermediate_size": 12288,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 2048,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64,
        "v_head_dim": 256,
        "index_topk": 2048,
        "index_n_heads": 32,
        "index_head_dim": 128,
        "vocab_size": 154880,
        "max_position_embeddings": 202752,
    }
    model = read(config)
    assert model.sparse == Sparse(tokens=2048, heads=32, dim=128)
    assert model.parameters.value == pytest.approx(743.91e9, rel=1e-4)
    del config["index_n_heads"]
    with pytest.raises(InputError, match="index_n_heads: is required but missing"):
        read(config)


def test_the_text_part_of_a_multimodal_model(read: Any) -> None:
    config = {
        "model_type": "gemma3",
        "tie_word_embeddings": True,
        "text_config": {
            "model_type": "gemma3_text",
            "num_hidden_layers": 62,
            "hidden_size": 5376,
            "num_attention_heads": 32,
            "num_key_value_heads": 16,
            "head_dim": 128,
            "intermediate_size": 21504,
            "sliding_window": 1024,
            "sliding_window_pattern": 6,
            "vocab_size": 262208,
            "max_position_embeddings": 131072,
        },
        "vision_config": {"hidden_size": 1152},
    }
    model = read(config)
    assert same_shape(model, "gemma-3-27b")
    assert model.window == Window(tokens=1024, layers=52)


def test_chunked_attention_and_the_shared_expert_of_llama_4(read: Any) -> None:
    text = {
        "model_type": "llama4_text",
        "num_hidden_layers": 48,
        "hidden_size": 5120,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "interleave_moe_layer_step": 1,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 8192,
        "vocab_size": 202048,
        "max_position_embeddings": 10485760,
    }
    model = read({"model_type": "llama4", "torch_dtype": "bfloat16", "text_config": text})
    assert same_shape(model, "llama-4-scout")
    every_second = read(
        {"model_type": "llama4", "text_config": text | {"interleave_moe_layer_step": 2}}
    )
    assert every_second.moe == Moe(
        experts=16, active=1, intermediate=8192, shared_experts=1, dense_layers=24
    )


def test_alternating_windows_and_mxfp4(read: Any) -> None:
    config = {
        "model_type": "gpt_oss",
        "num_hidden_layers": 36,
        "hidden_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 2880,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 18,
        "vocab_size": 201088,
        "max_position_embeddings": 131072,
        "quantization_config": {"quant_method": "mxfp4"},
    }
    assert same_shape(read(config), "gpt-oss-120b")


QWEN_NEXT = {
    "model_type": "qwen3_next",
    "num_hidden_layers": 48,
    "full_attention_interval": 4,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "intermediate_size": 5120,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "mlp_only_layers": [],
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
    "tie_word_embeddings": False,
}

NEMOTRON = {
    "model_type": "nemotron_h",
    "num_hidden_layers": 62,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-",
    "hidden_size": 5120,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "mamba_num_heads": 128,
    "mamba_head_dim": 80,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "intermediate_size": 20480,
    "vocab_size": 131072,
    "max_position_embeddings": 131072,
}


def test_three_layers_of_four_with_a_gated_delta_net(read: Any) -> None:
    model = read(QWEN_NEXT)
    assert model.parameters.value == pytest.approx(79.7e9, rel=0.001)
    assert model.linear == load_catalog().model("qwen3-next-80b-a3b").linear
    assert (model.linear_layers, model.attention_layers, model.attention_gate) == (36, 12, True)
    types = ["linear_attention"] * 3 + ["full_attention"]
    newer = QWEN_NEXT | {
        "model_type": "qwen3_5_moe_text",
        "num_hidden_layers": 60,
        "layer_types": types * 15,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "linear_num_value_heads": 64,
        "intermediate_size": None,
        "moe_intermediate_size": 1024,
        "shared_expert_intermediate_size": 1024,
        "vocab_size": 248320,
        "mamba_ssm_dtype": "float32",
    }
    text = {key: value for key, value in newer.items() if value is not None}
    found = read({"model_type": "qwen3_5_moe", "tie_word_embeddings": False, "text_config": text})
    known = load_catalog().model("qwen3.5-397b-a17b")
    assert found.parameters.value == pytest.approx(known.parameters.value, rel=0.001)
    assert same_shape(found, known.name) or found.moe != known.moe  # a shared width spelled out
    assert (found.linear, found.attention_gate) == (known.linear, True)


def test_a_nemotron_spells_its_layers_out(read: Any) -> None:
    assert same_shape(read(NEMOTRON), "nemotron-nano-12b-v2")
    with_experts = NEMOTRON | {
        "hybrid_override_pattern": "MEM*E-",
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 1024,
        "moe_shared_expert_intermediate_size": 2048,
    }
    model = read(with_experts)
    assert (model.layers, model.linear_layers, model.mlp_layers) == (3, 2, None)
    assert model.moe == Moe(
        experts=8,
        active=2,
        intermediate=1024,
        shared_experts=1,
        shared_intermediate=2048,
        dense_layers=1,
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hybrid_override_pattern": "MM-X"}, "must have one letter a layer (M, *, - or E), not"),
        ({"hybrid_override_pattern": "M-M-"}, "layers: are 2; 0 with a window and 2 with linear"),
        ({"mamba_ssm_cache_dtype": "int8"}, "must be one of float32, bfloat16, float16, not"),
        ({"moe_latent_size": 64}, "moe_latent_size: describes experts in a latent space"),
        ({"ssm_state_size": None}, "ssm_state_size: is required but missing"),
    ],
)
def test_a_hybrid_that_cannot_be_read(read: Any, change: dict[str, Any], told: str) -> None:
    config = {k: v for k, v in (NEMOTRON | change).items() if v is not None}
    with pytest.raises(InputError) as error:
        read(config)
    assert told in str(error.value)


def test_bloom_has_other_names_a_plain_mlp_and_tied_embeddings(read: Any) -> None:
    config = {
        "model_type": "bloom",
        "n_layer": 70,
        "hidden_size": 14336,
        "n_head": 112,
        "vocab_size": 250880,
        "seq_length": 2048,
    }
    assert same_shape(read(config), "bloom-176b")


def test_a_file_that_is_not_called_config_gives_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(LLAMA))
    assert load_catalog().model(str(tmp_path / "mine.json")).name == "mine"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"intermediate_size": None}, "intermediate_size_mlp: is required but missing"),
        ({"vocab_size": "many"}, "vocab_size: must be a whole number, not 'many'"),
        ({"num_hidden_layers": 0}, "layers: must be greater than 0, not 0"),
        ({"mamba_d_state": 128}, "mamba_d_state: describes layers that are not attention"),
        (
            {"sliding_window": 512},
            "sliding_window: which layers of a 'llama' model have",
        ),
        (
            {"quantization_config": {"quant_method": "awq"}},
            "quantization_config: the method 'awq' is not modelled; known: fp8, mxfp4, nvfp4",
        ),
        ({"text_config": 3}, "text_config: must be a JSON object"),
    ],
)
def test_what_cannot_be_read_is_named(read: Any, change: dict[str, Any], told: str) -> None:
    config = {k: v for k, v in (LLAMA | change).items() if v is not None}
    with pytest.raises(InputError) as error:
        read(config)
    assert told in str(error.value)
    assert "my-model/config.json" in str(error.value)


def test_files_that_are_not_configurations(tmp_path: Path) -> None:
    catalog = load_catalog()
    with pytest.raises(InputError, match="no such file"):
        catalog.model(str(tmp_path / "none.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="is not readable JSON"):
        catalog.model(str(tmp_path / "broken.json"))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="must be a JSON object"):
        catalog.model(str(tmp_path / "list.json"))
