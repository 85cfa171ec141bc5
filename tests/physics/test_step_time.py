"""Step times: what must hold by construction, and the shape of a kernel database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_sim.catalog import load_catalog
from factory_sim.physics.arithmetic import Experts
from factory_sim.physics.hardware import Host, Shard
from factory_sim.physics.pipeline import stages_of
from factory_sim.physics.step_time import Chunk, Cost, Roofline
from tests.physics.machines import NO_HOST, roofline, shard

SEVENTY = load_catalog().model("llama-3.1-70b")

TABLE = Path(__file__).parents[3] / "shared/data/step_times_aiconfigurator.csv.gz"
ALIKE = tuple((f"{bytes_of}_factor", 1.0) for bytes_of in ("narrow", "expert", "cache"))
"""Every byte draws as much as any other: busy times are shares of the step."""

MODELS = (
    *("llama-3.1-8b", "llama-3.1-70b", "gpt-oss-20b", "deepseek-v3", "qwen3-30b-a3b"),
    *("qwen3.5-35b-a3b", "nemotron-nano-9b-v2"),
)


def causes(cost: Cost) -> float:
    return cost.compute_s + cost.memory_s + cost.network_s + cost.host_s


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tp", [1, 8])
def test_a_step_without_chunks_is_a_decode_step(model: str, tp: int) -> None:
    step = roofline(model, tp=tp, host=Host(1e-3, 7e-5, 0.0))
    n, context, windowed = 37, 37 * 900, 37 * 100 if step.window else 0
    decode = step.decode(n)
    for term, fixed in enumerate(decode):
        whole = fixed + context * step.per_context[term] + windowed * step.per_windowed[term]
        mixed = step.mixed(n, context, windowed, [], n)[term]
        assert mixed == pytest.approx(whole, rel=1e-12, abs=1e-18)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 256),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 700)), max_size=3),
)
def test_causes_add_up_to_the_step_at_the_reference_clock(
    model: str, n: int, chunks: list[tuple[int, int]]
) -> None:
    step = roofline(model, tp=8, host=Host(1e-3, 7e-5, 0.0), draw=ALIKE)
    pieces = [Chunk(*chunk) for chunk in chunks]
    cost = step.mixed(n, 800 * n, 128 * n if step.window else 0, pieces, n)
    assert causes(cost) == pytest.approx(cost.duration_s, rel=1e-12)
    assert 0.0 <= cost.busy_compute_s <= cost.duration_s
    assert 0.0 <= cost.busy_memory_s <= cost.duration_s


@pytest.mark.parametrize("model", MODELS)
def test_more_work_takes_longer_and_a_lower_clock_too(model: str) -> None:
    fast, slow = roofline(model), roofline(model, clock=0.6)
    durations = [fast.decode(n).duration_s for n in range(257)]
    assert np.all(np.diff(durations) >= 0.0)
    prompt = [fast.mixed(0, 0, 0, [Chunk(0, n)], 1).duration_s for n in range(1, 2000, 37)]
    assert np.all(np.diff(prompt) > 0.0)
    long = Chunk(0, 2000)
    ratio = slow.mixed(0, 0, 0, [long], 1).duration_s / fast.mixed(0, 0, 0, [long], 1).duration_s
    assert 1.05 < ratio < 1 / 0.6  # compute follows the clock, the rest does not
    decode = slow.decode(1).duration_s / fast.decode(1).duration_s
    assert 1.0 <= decode < 1.1  # memory-bound


def test_a_state_is_read_and_written_once_a_step_whatever_the_context() -> None:
    model = load_catalog().model("qwen3-next-80b-a3b")
    assert model.linear is not None
    chip = roofline(model.name, tp=4)._chip
    steps = []
    for state in ("bf16", "fp32"):
        linear = model.linear.model_copy(update={"state": state})
        part = Shard(model.model_copy(update={"linear": linear}), 4, 1, 2.0, 2.0)
        steps.append(Roofline(chip, part, NO_HOST, 1.0, 64, 512))
    # What two more bytes a number cost: 36 layers, 32 heads of 128 x 128 on four GPUs.
    more = 2 * 36 * 32 * 128 * 128 * 2 / 4 / (chip.bandwidth * chip.kv_memory)
    half, full = steps
    assert full.decode(50).memory_s - half.decode(50).memory_s == pytest.approx(50 * more)
    chunks = [Chunk(0, 100), Chunk(4000, 300)]
    found = [step.mixed(7, 7 * 5000, 0, chunks, 9) for step in steps]
    assert found[1].duration_s - found[0].duration_s == pytest.approx(9 * more)
    assert found[1].compute_s == found[0].compute_s


@pytest.mark.parametrize(
    ("model", "layers"), [("nemotron-nano-9b-v2", 27), ("qwen3.5-35b-a3b", 0), ("llama-3.1-8b", 0)]
)
def test_a_layer_of_mamba_adds_computing_to_a_step_with_prompts(model: str, layers: int) -> None:
    """Once a step, whatever its chunks; as slow as the clock; a decode step has none."""
    chip, part = roofline(model)._chip, shard(model)
    scanning = replace(chip, scan_per_layer_s=1e-3)
    for clock in (1.0, 0.5):
        without, given = (Roofline(c, part, NO_HOST, clock, 8, 512) for c in (chip, scanning))
        assert without.decode(5) == given.decode(5)
        for chunks in ([Chunk(0, 1)], [Chunk(0, 100), Chunk(400, 300)]):
            one, other = (step.mixed(3, 3000, 0, chunks, 4) for step in (without, given))
            more = [b - a for a, b in zip(one, other, strict=True)]
            scan_s = layers * 1e-3
            assert more == pytest.approx([scan_s / clock, scan_s, 0, 0, 0, scan_s, 0], abs=1e-12)


def test_stages_scan_what_the_whole_model_scans() -> None:
    model = load_catalog().model("nemotron-nano-12b-v2")
    dealt = [stage.model.mamba_layers for stage in stages_of(model, 3)]
    assert sum(dealt) == model.mamba_layers == 28 and min(dealt) > 0


def test_experts_touched_by_tokens_that_choose_alike() -> None:
    routed = Experts(128, 4, 32, 1.0, 0.25, 1, 1)
    assert routed.touched(1) == routed.touched(1, 0.5) == pytest.approx(32 * 4 / 128)
    assert routed.touched(65, 0.5) == routed.touched(33)
    assert routed.touched(0, 0.5) == 0.0
    assert routed.touched(1e6, 0.5) == pytest.approx(32)


def test_beyond_the_table_is_like_inside_it() -> None:
    small, large = roofline("llama-3.1-8b"), roofline("llama-3.1-8b", most=4096)
    for length in (513, 2000, 4000):  # past the small table of 512 tokens
        chunk = [Chunk(0, length)]
        assert small.mixed(0, 0, 0, chunk, 1) == large.mixed(0, 0, 0, chunk, 1)


def test_a_prompt_in_chunks_attends_to_what_it_would_whole() -> None:
    step = roofline("llama-3.1-70b", tp=8)
    whole = step.mixed(0, 0, 0, [Chunk(0, 4000)], 1)
    parts = step.mixed(0, 0, 0, [Chunk(0, 1500), Chunk(1500, 2500)], 1)
    assert parts.busy_compute_s == pytest.approx(whole.busy_compute_s, rel=1e-12)


@pytest.mark.skipif(
    not TABLE.exists(), reason="needs ../shared/data/step_times_aiconfigurator.csv.gz"
)
@pytest.mark.parametrize(("gpu", "system"), [("h100-sxm", "h100_sxm"), ("h200-sxm", "h200_sxm")])
def test_the_shape_of_a_kernel_database(gpu: str, system: str) -> None:
    """Dense models in bf16: decode within 5 %, prefill within 10 %, in the median.

    The table is a model on measured kernels, so this is no validation: it says that the
    equations are those that the starting values were fitted with.
    """
    names = {"Meta-Llama-3.1-8B": "llama-3.1-8b", "Meta-Llama-3.1-70B": "llama-3.1-70b"}
    table = pd.read_csv(TABLE)
    table = table[(table.system == system) & table.model.isin(names) & (table.quant == "bf16")]
    errors: dict[str, list[float]] = {"decode": [], "prefill": []}
    for row in table.itertuples():
        step = roofline(names[row.model], gpu, tp=row.tp, most=2048)
        if row.phase == "decode":
            tokens = row.batch * row.context
            found = step.decode(row.batch).duration_s + tokens * step.per_context.duration_s
        else:
            chunks = [Chunk(0, row.context)] * row.batch
            found = step.mixed(0, 0, 0, chunks, row.batch).duration_s
        errors[row.phase].append(abs(1e3 * found / row.latency_ms - 1))
    medians = {phase: float(np.median(found)) for phase, found in errors.items()}
    print(f"\n{gpu}: median error of {len(table)} step times {medians}")
    assert medians["decode"] < 0.05
    assert medians["prefill"] < 0.10


def test_without_graphs_a_step_takes_as_long_as_its_launches_or_its_kernels() -> None:
    """Launched one by one, small steps wait for the host whatever the degree, large ones do not."""
    launched = Host(0.0, 0.0, 0.0, launches_ahead=True)

    def step(tp: int, host: Host, per_layer_s: float) -> Roofline:
        chip = replace(roofline("llama-3.1-70b", tp=tp)._chip, per_layer_s=per_layer_s)
        return Roofline(chip, Shard(SEVENTY, tp, 1, 2.0, 2.0), host, 1.0, 8, 512)

    for tp in (4, 8):
        slow = step(tp, launched, 500e-6)
        for cost in (slow.decode(1), slow.mixed(0, 0, 0, [Chunk(0, 20)], 1)):
            assert cost.duration_s == pytest.approx(80 * 500e-6, rel=1e-9)
            assert causes(cost) == pytest.approx(cost.duration_s, rel=1e-9)
    hidden, none = (
        step(4, host, seconds).mixed(0, 0, 0, [Chunk(0, 8192)], 1)
        for host, seconds in ((launched, 500e-6), (NO_HOST, 0.0))
    )
    assert hidden.duration_s == pytest.approx(none.duration_s, rel=1e-9)
    assert hidden.host_s == 0.0
