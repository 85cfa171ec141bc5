"""GPU power: never below idle, never above its limit, more work never draws less."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.catalog import Precision, load_catalog
from factory_sim.factory.fleets.make import power_of
from factory_sim.physics.power import PowerModel
from factory_sim.physics.step_time import Chunk
from tests.physics.machines import roofline

shares = st.floats(0.0, 1.0)


def power(gpu: str = "h100-sxm") -> PowerModel:
    facts = load_catalog()
    accelerator = facts.accelerator(gpu)
    return power_of(accelerator, facts.power_curve(accelerator.family))


@given(st.sampled_from(["h100-sxm", "b200-sxm", "mi300x"]), shares, shares, st.floats(1e-4, 10.0))
def test_between_idle_and_the_limit(gpu: str, compute: float, memory: float, step_s: float) -> None:
    model = power(gpu)
    watts = model.at(1.0).energy_j(step_s, compute * step_s, memory * step_s) / step_s
    assert model.idle_w * (1 - 1e-12) <= watts <= model.tdp_w * (1 + 1e-12)


@given(shares, shares, shares, shares)
def test_busier_draws_no_less(compute: float, memory: float, more: float, also: float) -> None:
    step = power().at(1.0)
    busier = step.energy_j(1.0, max(compute, more), max(memory, also))
    assert busier >= step.energy_j(1.0, compute, memory) * (1 - 1e-12)


@pytest.mark.parametrize(
    ("factor", "model", "precision", "felt"),
    [
        ("narrow_factor", "llama-3.1-8b", "fp8", True),
        ("narrow_factor", "llama-3.1-8b", "bf16", False),
        ("narrow_factor", "qwen3-30b-a3b", "fp8", True),
        ("expert_factor", "qwen3-30b-a3b", "bf16", True),
        ("expert_factor", "llama-3.1-8b", "bf16", False),
    ],
)
def test_bytes_of_weights_draw_more_and_take_no_longer(
    factor: str, model: str, precision: Precision, felt: bool
) -> None:
    plain, dear = (
        roofline(model, precision=precision, draw=((factor, value),)).decode(8)
        for value in (1.0, 2.0)
    )
    assert dear.duration_s == plain.duration_s and dear.memory_s == plain.memory_s
    assert (dear.busy_memory_s > plain.busy_memory_s) == felt
    assert dear.busy_memory_s <= 2.0 * plain.busy_memory_s


def test_bytes_of_the_cache_draw_as_much_more_as_said() -> None:
    plain, dear = (
        roofline("llama-3.1-8b", draw=(("cache_factor", value),)).per_context
        for value in (1.0, 2.5)
    )
    assert dear.busy_memory_s == pytest.approx(2.5 * plain.busy_memory_s)
    assert dear[:6] == plain[:6]


def test_watts_by_hand() -> None:
    step = PowerModel(100.0, 700.0, 0.5, 4.0, 1.0, clock_exponent=2.0, voltage_floor=0.5)
    # exp(-(0.5 + 4 * 0.25 + 1 * 0.5)) = exp(-2); at 80 % of the clock compute counts 1.25 times.
    assert step.at(1.0).energy_j(2.0, 0.5, 1.0) == pytest.approx(2 * (100 + 600 * 0.8646647168))
    slow = 100 + 600 * 0.64 * (1 - 2.718281828459045**-2.25)
    assert step.at(0.8).energy_j(1.0, 0.25, 0.5) == pytest.approx(slow)


def test_dynamic_power_falls_with_the_clock_without_a_jump() -> None:
    model = power()
    factors = [model.clock_factor(clock / 1000) for clock in range(300, 1001)]
    steps = [new - old for old, new in pairwise(factors)]
    assert factors[-1] == 1.0
    assert 0.0 < min(steps) <= max(steps) < 0.003
    assert model.clock_factor(0.275) == pytest.approx(model.clock_factor(0.55) / 2)


def test_prefill_comes_near_the_limit_and_decode_stays_below() -> None:
    step, at = roofline("llama-3.1-70b", tp=4), power().at(1.0)
    prefill = at.power_w(step.mixed(0, 0, 0, [Chunk(0, 8000)], 1))
    decode = [at.power_w(step.mixed(n, 800 * n, 0, [], n)) for n in (8, 64, 256)]
    assert prefill > 0.9 * 700
    # Measured (ML.ENERGY v3): 441 to 459, 500 to 527 and 589 to 630 W.
    assert decode == sorted(decode)
    assert decode == pytest.approx([450, 514, 609], rel=0.15)
