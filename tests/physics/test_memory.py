"""KV memory: bytes per token as published, and the few per cent that decide everything."""

from __future__ import annotations

import pytest

from factory_sim.catalog import load_catalog
from factory_sim.catalog.weights import total_weights
from factory_sim.physics import arithmetic as work
from factory_sim.physics.memory import KvMemory, kv_memory
from tests.physics.machines import shard

H100_BYTES = load_catalog().accelerator("h100-sxm").need("hbm")


def memory(model: str, tp: int, utilization: float = 0.9, **more: int) -> KvMemory:
    options = {"max_num_seqs": 256, "max_step_tokens": 2048, "block_tokens": 16} | more
    return kv_memory(shard(model, tp=tp), H100_BYTES, utilization, 2 * 2**30, **options)


@pytest.mark.parametrize("model", load_catalog().models)
def test_shards_hold_the_whole_model(model: str) -> None:
    entry = load_catalog().model(model)
    whole = work.layer_weights(entry) + work.embedding_weights(entry)
    assert whole == pytest.approx(total_weights(entry), rel=1e-9)


@pytest.mark.parametrize(
    ("model", "tp", "each"),
    [
        ("llama-2-7b", 1, 524_288),
        ("llama-3.1-70b", 1, 327_680),
        ("llama-3.1-70b", 4, 81_920),
        ("llama-3.1-70b", 16, 40_960),  # 8 KV heads on 16 GPUs: every one held twice
        ("deepseek-v3", 8, 70_272),  # one latent vector a token, on every GPU
    ],
)
def test_bytes_per_token(model: str, tp: int, each: int) -> None:
    assert memory(model, tp).bytes_per_token == each


def test_two_gpus_for_70b_in_bf16_live_on_the_last_per_cent() -> None:
    tight, loose = memory("llama-3.1-70b", 2, 0.90), memory("llama-3.1-70b", 2, 0.95)
    assert 0 < tight.tokens < 30_000
    assert loose.tokens > 1.5 * tight.tokens


def test_a_model_that_does_not_fit_has_no_blocks() -> None:
    assert memory("llama-3.1-70b", 1).blocks == 0
    assert memory("llama-3.1-70b", 1).kv_bytes < 0


@pytest.mark.parametrize("tp", [1, 4])
def test_linear_attention_keeps_a_state_per_sequence_and_no_cache(tp: int) -> None:
    kept = memory("nemotron-nano-9b-v2", tp, max_num_seqs=100)
    # 27 Mamba-2 layers: 128 heads of 80 x 128 in fp32, and 3 inputs of the convolution.
    matrices, inputs = 128 * 80 * 128 * 4, 3 * (2 * 8 * 128 + 128 * 80) * 2
    assert kept.state_bytes == 100 * 27 * (matrices + inputs) / tp
    assert kept.bytes_per_token == 4 * 2 * 8 * 128 * 2 / tp  # of the four layers with attention
    assert memory("llama-3.1-8b", tp).state_bytes == 0


def test_a_model_whose_every_layer_slides_has_blocks_for_the_whole_context() -> None:
    kept = memory("starcoder2-7b", 1)
    assert kept.window_bytes == 0
    assert kept.bytes_per_token == 32 * 2 * 4 * 128 * 2
    assert kept.blocks > 0


def test_windows_are_set_aside_for_every_sequence() -> None:
    few, many = memory("gpt-oss-20b", 1, max_num_seqs=1), memory("gpt-oss-20b", 1, max_num_seqs=101)
    # 12 sliding layers keep 128 tokens of 8 KV heads of 64: keys and values of 2 bytes.
    assert many.window_bytes - few.window_bytes == 100 * 12 * 128 * 2 * 8 * 64 * 2
    assert few.bytes_per_token == 12 * 2 * 8 * 64 * 2
