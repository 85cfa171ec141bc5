"""Kernel times out of AIConfigurator's database, to compare the roofline with.

AIConfigurator (NVIDIA, Apache-2.0; the package `aiconfigurator-core`, extra `[silicon]`) holds
measured times of the kernels of vLLM, SGLang and TensorRT-LLM on NVIDIA GPUs and lists, for the
models it knows, which of them a step runs. Both are read through its Python API. It is a model
built on measurements of single kernels, not a measurement of a serving engine: host overhead
comes from the engine profile, which was fitted beside the roofline.

Taken as it comes: the version of an engine that the database calls current, whatever the
profile's; its own estimate of the imbalance of experts; times between measured shapes as it
interpolates them. What its operators take is exact here, prompts one at a time and decode steps
alike. The line through attention's contexts is off by about 1 % of a decode step in the mean:
at worst 1 to 8 % over 23 of the shards looked at, dense and sparse, 12 % for an
eight-billion model on an A100 and for Kimi K2.5 on a B200. Prompts in one step together come out
1 to 2 % slower than the database's own, which holds them for equally long prompts, and up to
12 % where they are of a hundred tokens.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

from factory_sim.catalog.entries import Engine
from factory_sim.catalog.facts import Precision
from factory_sim.catalog.shapes import Model
from factory_sim.errors import InputError, Problem
from factory_sim.physics.aiconfigurator_operators import Kernels, Unread
from factory_sim.physics.hardware import Shard

ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm", "tensorrt": "trtllm"}
"""What an engine profile's name holds -> the database's engine."""

SYSTEMS = {"rtx-pro-6000": "rtx_pro_6000_server"}
"""Accelerators whose name in the database is not ours with underscores."""

PUBLISHED: dict[str, set[str | None]] = {
    "bf16": {None},
    "fp8": {"fp8", "fp8_block"},
    "int4": {"compressed-tensors"},
    "nvfp4": {"nvfp4"},
    "mxfp4": {"mxfp4"},
}
"""Precision -> what the database calls the quantisation of checkpoints published in it."""

QUANTISED = {"bf16": "bfloat16", "fp8": "fp8", "int4": "int4_wo", "nvfp4": "nvfp4"}
"""Precision -> the database's mode for products in it, where no checkpoint sets the mode."""

EXPERTS_W4A8 = {"mxfp4": ("w4a8_mxfp4_mxfp8", "w4a8_mxfp4_mxfp8_trtllm")}
"""Precision -> modes of experts that also quantise activations, as Blackwell's kernels do."""

CACHES = {"bf16": "bfloat16", "fp8": "fp8", "int8": "int8"}
"""Precision of the KV cache -> the database's mode for it."""


class Way(NamedTuple):
    """One way to build a model: a checkpoint of its shape, and modes that override its own."""

    path: str
    gemm: str | None = None
    experts: str | None = None


@lru_cache(maxsize=32)  # asked for again at every clock
def kernels(
    where: str,
    accelerator: str,
    engine: Engine,
    shard: Shard,
    precision: Precision,
    kv_precision: str,
) -> Kernels:
    """Return the database's kernels of a model shard.

    where: the path of the deployment, for problems. Raises InputError where the package is
    absent, or where the database lacks the accelerator, the engine, the model or its precision.
    """
    field = f"{where}.step_time"
    package = _package(field)
    supported = package.perf_database.get_supported_databases()
    system, backend = _place(field, where, accelerator, engine, supported)
    moe = (1, shard.tp) if shard.ep > 1 else (shard.tp, 1)
    refusal = ""
    for way in _ways(field, package, shard.model, precision):
        try:
            found = _read(system, backend, way, CACHES[kv_precision], shard.tp, *moe)
            _match_windows(found, shard.model)
            return found
        except (Unread, ValueError, RuntimeError, AssertionError) as error:
            # ValueError and RuntimeError are what the package raises for data that it lacks,
            # AssertionError for a degree of parallelism; the paths in its messages are its own.
            reason = re.sub(r" at /\S+", "", str(error)).split("\n")[0].rstrip(". ")
            refusal = refusal or f"{way.path}: {reason}"
    modes = package.perf_database.get_database(system, backend, "current").supported_quant_mode
    raise InputError(
        Problem(
            field,
            f"AIConfigurator's database of {backend} on {system} has no kernels for "
            f"{shard.model.name} in {precision}, its KV cache in {kv_precision}, tp: {shard.tp}, "
            f"ep: {shard.ep} ({refusal}). It has products in {', '.join(modes['gemm'])}; experts "
            f"in {', '.join(modes['moe'])}; attention over a cache in "
            f"{', '.join(modes['generation_attention'])}. Use one of them, or step_time: roofline",
        )
    )


def _package(field: str) -> SimpleNamespace:
    # What it logs about tables of its own is not for the terminal of whoever uses it here.
    logging.getLogger("aiconfigurator_core").addHandler(logging.NullHandler())
    try:
        return SimpleNamespace(
            **{
                name: import_module(f"aiconfigurator_core.sdk.{name}")
                for name in ("perf_database", "config_builders", "models", "engine", "common")
            },
            config_of=import_module(
                "aiconfigurator_core.sdk.utils"
            ).get_model_config_from_model_path,
        )
    except ImportError as missing:
        raise InputError(
            Problem(
                field,
                "'aiconfigurator' needs the package aiconfigurator-core: "
                "pip install 'factory_sim[silicon]', or use step_time: roofline",
            )
        ) from missing


def _place(
    field: str,
    where: str,
    accelerator: str,
    engine: Engine,
    supported: dict[str, dict[str, list[str]]],
) -> tuple[str, str]:
    """Return the database's names of an accelerator and an engine."""
    backends = [known for part, known in ENGINES.items() if part in engine.name.lower()]
    if not backends:
        raise InputError(
            Problem(
                f"{where}.engine.profile",
                f"AIConfigurator's database holds kernels of vllm, sglang and trtllm, and the name "
                f"of '{engine.name}' has none of them; use one of theirs, or step_time: roofline",
            )
        )
    system = SYSTEMS.get(accelerator, accelerator.replace("-", "_"))
    if backends[0] not in supported.get(system, {}):
        held = sorted(name for name, engines in supported.items() if backends[0] in engines)
        raise InputError(
            Problem(
                field,
                f"AIConfigurator's database has no kernels of {backends[0]} on {accelerator}; it "
                f"has them on {', '.join(held)}. Use one of those, or step_time: roofline",
            )
        )
    return system, backends[0]


def _ways(field: str, package: SimpleNamespace, model: Model, precision: str) -> Iterator[Way]:
    """Yield the ways to build a model of this shape in this precision, the most faithful first.

    A checkpoint published in the precision knows which of its layers are quantised and how;
    failing that, any checkpoint of the shape with all its products in the precision.
    """
    shapes: dict[tuple[Any, ...], list[str]] = {}
    algorithms = {}
    for path in sorted(package.common.DefaultHFModels):
        config = package.config_of(path)
        shapes.setdefault(_their_shape(config, model.mla is not None), []).append(path)
        algorithms[path] = config["raw_config"].get("quant_algo")
    paths = shapes.get(_our_shape(model))
    if paths is None:
        names = sorted({paths[0].split("/")[1] for paths in shapes.values()})
        raise InputError(
            Problem(
                field,
                f"AIConfigurator's database knows no model of the shape of {model.name}; it knows "
                f"{', '.join(names)}. Use one of those, or step_time: roofline",
            )
        )
    for path in paths:
        if algorithms[path] in PUBLISHED.get(precision, set()):
            yield Way(path)
            for mode in EXPERTS_W4A8.get(precision, ()):
                yield Way(path, experts=mode)
    if precision in QUANTISED:
        yield Way(paths[0], QUANTISED[precision], QUANTISED[precision])
    elif precision not in PUBLISHED:
        raise InputError(
            Problem(
                field,
                f"AIConfigurator's database has no {precision} weights that this simulator reads; "
                f"use precision {', '.join(PUBLISHED)}, or step_time: roofline",
            )
        )


def _our_shape(model: Model) -> tuple[Any, ...]:
    heads = () if model.mla else (model.kv_heads, model.head_dim)
    experts = (model.moe.experts, model.moe.active) if model.moe else (0, 0)
    width = model.moe.intermediate if model.moe else model.intermediate
    return (model.layers, model.hidden, model.heads, model.vocab, *experts, width, *heads)


def _their_shape(config: dict[str, Any], mla: bool) -> tuple[Any, ...]:
    """Return what `_our_shape` gives, of the package's own description of a model."""
    keys = ["layers", "hidden_size", "n", "vocab", "num_experts", "topk", "moe_inter_size"]
    keys += [] if mla else ["n_kv", "d"]
    return tuple(config[key] or 0 for key in keys)


@lru_cache(maxsize=32)
def _read(
    system: str, backend: str, way: Way, cache: str, tp: int, moe_tp: int, moe_ep: int
) -> Kernels:
    """Read the kernels of one shard, and see that the database has every one of them."""
    package = _package("")
    database = package.perf_database.get_database(system, backend, "current")
    config = package.config_builders.build_model_config(
        tp_size=tp,
        pp_size=1,
        attention_dp_size=1,
        moe_tp_size=moe_tp,
        moe_ep_size=moe_ep,
        gemm_quant_mode=way.gemm,
        kvcache_quant_mode=cache,
        moe_quant_mode=way.experts,
    )
    package.models.resolve_context_fmha_by_data(
        config, way.path, database, backend, is_context_role=True
    )
    model = package.models.get_model(way.path, config, backend)
    listed = json.loads(
        package.engine.build_engine_spec_json(
            model,
            model_path=way.path,
            system=system,
            backend=backend,
            backend_version=database.version,
            kv_block_size=None,
            systems_path=None,
            nextn=0,
            database=database,
        )
    )
    handle = package.engine.EngineHandle.for_database(database)
    found = Kernels(handle, listed["context_ops"], listed["generation_ops"])
    found.generation(1)
    found.context(1)
    found.head(1)
    found.chunk(1, 1)
    found.generation_attention(1, 1, windowed=False)
    found.generation_attention(1, 1, windowed=True)
    return found


def _match_windows(found: Kernels, model: Model) -> None:
    ours = {model.window.tokens: model.window.layers} if model.window else {}
    if found.windows != ours:
        raise Unread(
            f"it has layers with windows {found.windows or 'none'} (tokens: layers), the "
            f"catalogue {ours or 'none'}"
        )
