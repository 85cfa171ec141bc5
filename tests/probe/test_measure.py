"""The plan of a probe, how its time is divided, and what work is counted."""

from __future__ import annotations

import pytest

from factory_sim.errors import InputError
from factory_sim.physics.arithmetic import BYTES_PER_WEIGHT
from factory_sim.probe.measure import DUTIES, LONG, STEADY_S, Step, plan, sweep, work_of
from tests.probe.made_up import IDLE_W, MadeUp


def test_the_plan_covers_every_precision_shape_batch_and_context() -> None:
    device = MadeUp()
    steps = [step for step in plan(device) if step.duty == 1.0]
    assert len(set(steps)) == len(steps)
    gemms = {(s.precision, *s.shape) for s in steps if s.kind == "gemm"}
    assert len(gemms) == 2 * len(device.sizes.products) * len(device.sizes.rows)
    decodes = {s.shape for s in steps if s.kind == "decode"}
    assert (1, 32768) in decodes and (256, 2048) in decodes
    assert (256, 8192) not in decodes  # more keys and values than it takes to fill the device
    assert max(n * c for n, c in decodes) <= device.sizes.kv_tokens


def test_power_is_read_along_the_roofline_and_in_bursts() -> None:
    powered = [step for step in plan(MadeUp()) if step.powered]
    assert {step.kind for step in powered} == {"copy", "gemm", "decode", "prefill"}
    assert {step.duty for step in powered} == {1.0, *DUTIES}
    along = {s.shape[0] for s in powered if s.kind == "gemm" and s.precision == "bf16"}
    assert along == set(MadeUp.sizes.rows)


def test_without_gauges_nothing_is_run_for_its_power() -> None:
    steps = plan(MadeUp(powered=False))
    assert not any(step.powered for step in steps)
    assert {step.duty for step in steps} == {1.0}
    assert len(steps) == len([s for s in plan(MadeUp()) if s.duty == 1.0])


@pytest.mark.parametrize("count", [1, 8])
def test_a_sweep_takes_as_long_as_it_was_given(count: int) -> None:
    device, heard = MadeUp(count), []
    found = sweep(device, 180.0, lambda done, total: heard.append((done, total)))
    assert sum(device.asked) == pytest.approx(180.0)
    assert len(found.reductions) == (len(device.sizes.reduced) if count > 1 else 0)
    assert found.idle_w == IDLE_W
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert heard[0][0] == 0 and heard[-1][0] == heard[-1][1]
    assert len({total for _, total in heard}) == 1


def test_power_is_never_read_over_less_than_its_counter_needs() -> None:
    device = MadeUp()
    sweep(device, 10.0)
    longest = [seconds for seconds in device.asked if seconds >= STEADY_S]
    assert len(longest) == sum(step.powered for step in plan(device)) + 1  # and idle
    assert min(device.asked) < STEADY_S / LONG


def test_work_is_counted_by_hand() -> None:
    assert work_of(Step("copy", "bf16", (1000,))) == (0.0, 2000.0)
    assert work_of(Step("gemm", "fp8", (2, 10, 30))) == (1200.0, 300.0 + 2 * 2 * 40)
    nvfp4 = work_of(Step("gemm", "nvfp4", (2, 10, 30)))
    assert nvfp4 == (1200.0, 300.0 * BYTES_PER_WEIGHT["nvfp4"] + 160.0)
    # 3 sequences of 5 tokens, 8 heads of 128 of keys and of values, two bytes each.
    assert work_of(Step("decode", "bf16", (3, 5))) == (15 * 4 * 32 * 128, 15 * 4096.0)
    # 4 tokens see 1 + 2 + 3 + 4 of themselves and those before.
    assert work_of(Step("prefill", "bf16", (4,))) == (10 * 4 * 32 * 128, 4 * 4096.0)


def test_a_device_without_bf16_is_turned_away() -> None:
    device = MadeUp()
    device.precisions, device.left_out = ("fp8",), {"bf16": "no kernel image"}
    with pytest.raises(InputError, match="multiplies no bf16 matrices: no kernel image"):
        sweep(device, 1.0)
