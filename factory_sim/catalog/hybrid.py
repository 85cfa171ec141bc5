"""Decoders that mix attention with linear attention, from the keys of their `config.json`.

Two families: Qwen3-Next and Qwen3.5 put a gated delta net in three layers of four;
Nemotron-H spells its layers out, one letter each: M for Mamba-2, * for attention, - for a
dense MLP, E for experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from factory_sim.catalog.config_keys import Config, maybe, whole
from factory_sim.errors import InputError, Problem

DELTA_NETS = ("qwen3_next", "qwen3_5")
"""Model types, and beginnings of them, of decoders with gated delta nets."""

STATES = {"float32": "fp32", "bfloat16": "bf16", "float16": "bf16"}


@dataclass(frozen=True)
class Hybrid:
    """What is particular to a hybrid: `layers` that mix tokens, the dense MLPs that its pattern
    puts among sparse ones, and the fields of its `Shape` that say the rest."""

    layers: int
    dense_layers: int
    shape: dict[str, Any]


def is_hybrid(config: Config) -> bool:
    """Tell whether the configuration is of a family that `read_hybrid` reads."""
    kind = str(config.get("model_type", ""))
    return kind == "nemotron_h" or kind.startswith(DELTA_NETS)


def read_hybrid(config: Config) -> Hybrid | None:
    """Return the linear layers of a hybrid, None for a decoder that is none.

    Raises InputError naming the key that is missing or not understood.
    """
    if not is_hybrid(config):
        return None
    return _nemotron(config) if config.get("model_type") == "nemotron_h" else _delta_net(config)


def _delta_net(config: Config) -> Hybrid:
    layers = whole(config, "num_hidden_layers")
    types = config.get("layer_types")
    if isinstance(types, list):
        linear = types.count("linear_attention")
    else:  # every n-th layer has attention
        linear = layers - layers // (maybe(config, "full_attention_interval") or 4)
    return Hybrid(
        layers,
        0,
        {
            # Qwen3-Next always gates the output of attention; its successors say so.
            "attention_gate": bool(config.get("attn_output_gate", True)),
            "linear": {
                "kind": "gated-delta-net",
                "layers": linear,
                "key_heads": whole(config, "linear_num_key_heads"),
                "value_heads": whole(config, "linear_num_value_heads"),
                "key_dim": whole(config, "linear_key_head_dim"),
                "value_dim": whole(config, "linear_value_head_dim"),
                "conv": whole(config, "linear_conv_kernel_dim"),
                # Without a word on it the states have the precision of the activations.
                "state": _state(config, "mamba_ssm_dtype", "bfloat16"),
            },
        },
    )


def _nemotron(config: Config) -> Hybrid:
    pattern = config.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not pattern or set(pattern) - set("M*-E"):
        raise InputError(
            Problem(
                "hybrid_override_pattern",
                f"must have one letter a layer (M, *, - or E), not {pattern!r}",
            )
        )
    if maybe(config, "moe_latent_size"):
        raise InputError(
            Problem("moe_latent_size", "describes experts in a latent space: not modelled")
        )
    mamba, dense = pattern.count("M"), pattern.count("-")
    mlps = dense + pattern.count("E")
    layers = mamba + pattern.count("*")
    return Hybrid(
        layers,
        dense,
        {
            "mlp_layers": mlps if mlps != layers else None,
            "linear": {
                "kind": "mamba-2",
                "layers": mamba,
                "key_heads": whole(config, "n_groups"),
                "value_heads": whole(config, "mamba_num_heads"),
                "key_dim": whole(config, "ssm_state_size"),
                "value_dim": whole(config, "mamba_head_dim"),
                "conv": whole(config, "conv_kernel"),
                # vLLM's own default for this family (pull request 39032).
                "state": _state(config, "mamba_ssm_cache_dtype", "float32"),
            },
        },
    )


def _state(config: Config, key: str, default: str) -> str:
    name = str(config.get(key) or default)
    if name not in STATES:
        raise InputError(Problem(key, f"must be one of {', '.join(STATES)}, not '{name}'"))
    return STATES[name]
