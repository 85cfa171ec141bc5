"""A model from the `config.json` that Hugging Face keeps beside its weights.

Names differ between architectures (`num_hidden_layers`, `n_layer`, ...); the meaning does not.
An architecture not met before is read as a llama-like decoder when every needed key is there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from factory_sim.catalog.config_keys import Config, maybe, whole
from factory_sim.catalog.facts import Precision
from factory_sim.catalog.hybrid import Hybrid, is_hybrid, read_hybrid
from factory_sim.catalog.shapes import Model, Shape
from factory_sim.catalog.weights import active_weights, total_weights
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import validate

PLAIN_MLP = {
    *("bloom", "gpt2", "gpt_neox", "opt", "falcon", "starcoder2"),
    *("nemotron", "nemotron_h", "gpt_bigcode"),
}
TIED_BY_DEFAULT = {"bloom", "gpt2", "opt", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text"}
WINDOW_ON_EVERY_LAYER = {"mistral", "mixtral", "phi3", "starcoder2"}
NOT_ATTENTION = ("mamba", "ssm_", "linear_num_", "linear_attn", "attn_layer_period", "rwkv")


def read_config(path: Path) -> Model:
    """Return the model that the Hugging Face configuration at `path` describes.

    The number of weights is computed from the shape. Raises InputError naming the file and
    the key that is missing, malformed or not understood.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(Problem(str(path), "no such file")) from None
    except (OSError, ValueError) as error:
        raise InputError(Problem(str(path), f"is not readable JSON: {error}")) from None
    if not isinstance(given, dict):
        raise InputError(Problem(str(path), "must be a JSON object, as in a model's config.json"))
    try:
        return _model(given, path)
    except InputError as error:
        raise InputError(
            Problem(f"{path}: {problem.path}".rstrip(": "), problem.message)
            for problem in error.problems
        ) from None


def _model(given: Config, path: Path) -> Model:
    text = given.get("text_config", given)
    if not isinstance(text, dict):
        raise InputError(Problem("text_config", "must be a JSON object"))
    # A multimodal configuration may say these once, outside the decoder's part.
    outside = {key: given[key] for key in _SHARED_KEYS if key in given and key not in text}
    config = outside | text
    for key in config:
        if key.startswith(NOT_ATTENTION) and not is_hybrid(config):
            raise InputError(
                Problem(key, "describes layers that are not attention, which are not modelled")
            )
    shape = validate(Shape, _shape(config))
    counted = {
        "kind": "datasheet",
        "source": str(path),
        "note": "counted from the shape, without norms and biases",
    }
    return validate(
        Model,
        shape.model_dump()
        | {
            "name": path.parent.name if path.stem == "config" and path.parent.name else path.stem,
            "title": str(given.get("_name_or_path") or path),
            "released_precision": _precision(config),
            "parameters": counted | {"value": total_weights(shape)},
            "active_parameters": counted | {"value": active_weights(shape)} if shape.moe else None,
            "kind": "datasheet",
            "source": str(path),
        },
    )


_SHARED_KEYS = ("quantization_config", "tie_word_embeddings", "torch_dtype", "dtype")


def _shape(config: Config) -> dict[str, Any]:
    hidden = whole(config, "hidden_size", "n_embd", "n_embed")
    heads = whole(config, "num_attention_heads", "n_head")
    kind = config.get("model_type", "")
    hybrid = read_hybrid(config)
    layers = hybrid.layers if hybrid else whole(config, "num_hidden_layers", "n_layer")
    context = whole(config, "max_position_embeddings", "n_positions", "seq_length")
    mla = _mla(config)
    head_dim = maybe(config, "head_dim", "attention_head_dim") or (mla["v"] if mla else None)
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        # Latent attention keeps one compressed vector per token, whatever the heads.
        "kv_heads": 1 if mla else maybe(config, "num_key_value_heads") or heads,
        "head_dim": head_dim or hidden // heads,
        "intermediate": _intermediate(config, hidden),
        "mlp_matrices": 2 if kind in PLAIN_MLP else 3,
        "vocab": whole(config, "vocab_size"),
        "context_max": context,
        "tied_embeddings": bool(config.get("tie_word_embeddings", kind in TIED_BY_DEFAULT)),
        "moe": _moe(config, layers, hybrid),
        "mla": mla,
        "window": _window(config, layers, context),
        "sparse": _sparse(config),
        "mtp_layers": maybe(config, "num_nextn_predict_layers") or 0,
        **(hybrid.shape if hybrid else {}),
    }


def _intermediate(config: Config, hidden: int) -> int:
    if maybe(config, "moe_intermediate_size") and not maybe(config, "intermediate_size"):
        return whole(config, "moe_intermediate_size")  # no layer is dense
    if config.get("model_type") in PLAIN_MLP and not maybe(config, "intermediate_size", "n_inner"):
        return 4 * hidden  # the width these architectures have unless they say otherwise
    return whole(config, "intermediate_size_mlp", "intermediate_size", "n_inner")


def _moe(config: Config, layers: int, hybrid: Hybrid | None) -> dict[str, Any] | None:
    experts = maybe(config, "n_routed_experts", "num_local_experts", "num_experts")
    if not experts or experts == 1:
        return None
    dense = maybe(config, "first_k_dense_replace") or 0
    listed = config.get("mlp_only_layers") or []
    step = maybe(config, "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") or 1
    if step > 1:
        dense = layers - layers // step
    if hybrid is not None:
        dense = hybrid.dense_layers
    shared_width = maybe(
        config, "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"
    )
    shared = maybe(config, "n_shared_experts") or (1 if shared_width else 0)
    if config.get("model_type", "").startswith("llama4"):
        shared = 1  # every Llama 4 layer with experts has one shared expert beside them
    return {
        "experts": experts,
        "active": whole(config, "num_experts_per_tok"),
        "intermediate": whole(config, "moe_intermediate_size", "intermediate_size"),
        "shared_experts": shared,
        "shared_intermediate": shared_width,
        "dense_layers": dense + len(listed),
    }


def _mla(config: Config) -> dict[str, Any] | None:
    if not maybe(config, "kv_lora_rank"):
        return None
    return {
        "q_lora": maybe(config, "q_lora_rank"),
        "kv_lora": whole(config, "kv_lora_rank"),
        "nope": whole(config, "qk_nope_head_dim"),
        "rope": whole(config, "qk_rope_head_dim"),
        "v": whole(config, "v_head_dim"),
    }


def _window(config: Config, layers: int, context: int) -> dict[str, int] | None:
    tokens = maybe(config, "sliding_window", "attention_chunk_size")
    if not tokens or tokens >= context or config.get("use_sliding_window") is False:
        return None
    kind = config.get("model_type", "")
    types = config.get("layer_types")
    pattern = maybe(config, "sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(types, list):
        local = sum(name in ("sliding_attention", "chunked_attention") for name in types)
    elif pattern:
        local = layers - layers // pattern  # every pattern-th layer sees the whole context
    elif kind.startswith("gemma3"):
        local = layers - layers // 6
    elif kind.startswith("llama4"):
        local = layers - layers // 4
    elif kind in ("gemma2", "gpt_oss"):
        local = layers - layers // 2
    elif kind in WINDOW_ON_EVERY_LAYER:
        local = layers
    else:
        raise InputError(
            Problem(
                "sliding_window",
                f"which layers of a '{kind}' model have the window is not known; add "
                "'layer_types', a list of 'sliding_attention' and 'full_attention' per layer",
            )
        )
    return {"tokens": tokens, "layers": local} if local else None


def _sparse(config: Config) -> dict[str, int] | None:
    """Return the indexer of sparse attention (DeepSeek-V3.2, GLM-5), if there is one."""
    if not maybe(config, "index_topk"):
        return None
    return {
        "tokens": whole(config, "index_topk"),
        "heads": whole(config, "index_n_heads"),
        "dim": whole(config, "index_head_dim"),
    }


def _precision(config: Config) -> Precision:
    quantized = config.get("quantization_config")
    if isinstance(quantized, dict):
        method = str(quantized.get("quant_algo") or quantized.get("quant_method", "")).lower()
        named: dict[str, Precision] = {"fp8": "fp8", "mxfp4": "mxfp4", "nvfp4": "nvfp4"}
        if method in named:
            return named[method]
        raise InputError(
            Problem(
                "quantization_config",
                f"the method '{method}' is not modelled; known: {', '.join(named)}; use the "
                "configuration of the unquantised model and name a precision in the scenario",
            )
        )
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    return "fp32" if dtype == "float32" else "bf16"
