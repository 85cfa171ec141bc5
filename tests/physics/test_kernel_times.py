"""Step times from single kernels: exact where kernels are simple, and honest where they bend."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from factory_sim.physics.hardware import Host
from factory_sim.physics.kernel_times import KernelTimes, Operator
from factory_sim.physics.step_time import Chunk, Cost

HOST = Host(1e-3, 7e-5, 2e-3, eager_per_layer_s=5e-5)
LAYERS = 10


@dataclass
class Table:
    """Kernels in milliseconds that anybody can add up; attention waits `launch_s` at least."""

    window: int = 0
    launch_s: float = 0.0

    def generation(self, sequences: int) -> list[Operator]:
        return [Operator(1e-4 * sequences, 5e-3, 0.0), Operator(0.0, 0.0, 1e-3)]

    def generation_attention(self, sequences: int, context: int, windowed: bool) -> list[Operator]:
        per_token_s = 2e-8 if windowed else 5e-8
        attended = sequences * (min(context, self.window) if windowed else context)
        whole_s = max(self.launch_s, 4e-4 + 1e-6 * sequences + per_token_s * attended)
        return [Operator(0.25 * whole_s, whole_s, 0.0)]

    def context(self, tokens: int) -> list[Operator]:
        return [Operator(1e-5 * tokens, 5e-3, 0.0), Operator(0.0, 0.0, 1e-6 * tokens)]

    def head(self, sampled: int) -> list[Operator]:
        return [Operator(1e-6 * sampled, 2e-4, 0.0)]

    def chunk(self, start: int, length: int) -> list[Operator]:
        return [Operator(1e-9 * length * (start + length), 1e-3, 0.0)]


def times(table: Table, clock: float = 1.0, host: Host = HOST) -> KernelTimes:
    return KernelTimes(table, host, LAYERS, clock, 96, 400_000, 32_768)


def causes(cost: Cost) -> float:
    return cost.compute_s + cost.memory_s + cost.network_s + cost.host_s


@pytest.mark.parametrize("n", [1, 3, 64, 96, 200])
def test_attention_that_is_affine_is_found_exactly(n: int) -> None:
    step = times(Table(window=512))
    assert step.error == pytest.approx((0.0, 0.0), abs=1e-9)
    assert step.per_context.duration_s == pytest.approx(5e-8, rel=1e-9)
    assert step.per_windowed.duration_s == pytest.approx(2e-8, rel=1e-9)
    attention_s = 2 * (4e-4 + 1e-6 * n)
    fixed_s = HOST.per_step_s + n * HOST.per_sequence_s + max(1e-4 * n, 5e-3) + 1e-3
    assert step.decode(n).duration_s == pytest.approx(fixed_s + attention_s, rel=1e-9)


def test_a_decode_step_says_where_its_time_goes() -> None:
    cost = times(Table()).decode(64)
    assert cost.host_s == pytest.approx(1e-3 + 64 * 7e-5)
    assert cost.network_s == pytest.approx(1e-3)
    assert cost.compute_s == pytest.approx(6.4e-3)  # products bound by compute
    assert cost.memory_s == pytest.approx(4.64e-4)  # attention, bound by memory
    assert cost.busy_compute_s == pytest.approx(6.4e-3 + 0.25 * 4.64e-4)
    assert cost.busy_memory_s == pytest.approx(5e-3 + 4.64e-4 + 1e-3)
    assert causes(cost) == pytest.approx(cost.duration_s)
    assert times(Table()).decode(0) == Cost(1e-3, host_s=1e-3)


def test_compute_slows_with_the_clock_and_nothing_else_does() -> None:
    full, half = times(Table()), times(Table(), clock=0.5)
    assert half.per_context == full.per_context
    assert half.decode(10) == full.decode(10)  # 1 ms of compute hides behind 5 ms of memory
    assert half.decode(96).duration_s - full.decode(96).duration_s == pytest.approx(96e-4)
    assert half.decode(96)[1:] == full.decode(96)[1:]  # the ledger is at full clock


def test_a_mixed_step_is_products_over_all_tokens_and_attention_of_each_kind() -> None:
    cost = times(Table(window=512)).mixed(8, 8000, 4096, [Chunk(1000, 2000)], 9)
    host_s = 1e-3 + 9 * 7e-5 + LAYERS * 5e-5
    products_s = 1e-5 * 2008 + 1e-6 * 2008 + 2e-4
    decodes_s = 2 * (4e-4 + 8e-6) + 5e-8 * 8000 + 2e-8 * 4096
    assert cost.host_s == pytest.approx(host_s)
    assert cost.duration_s == pytest.approx(host_s + products_s + decodes_s + 6e-3)
    assert causes(cost) == pytest.approx(cost.duration_s)


def test_chunks_share_one_launch() -> None:
    step = times(Table(), host=Host(0.0, 0.0, 0.0))
    body_s = 1e-5 * 3010 + 1e-6 * 3010
    # 1 ms is what a chunk of one token takes: the second pays what it needs beyond that, and
    # the third, which is as short, nothing.
    cost = step.mixed(0, 0, 0, [Chunk(0, 10), Chunk(0, 1000), Chunk(0, 2000)], 0)
    assert cost.duration_s == pytest.approx(body_s + 4e-3)
    cost = step.mixed(0, 0, 0, [Chunk(2000, 1000), Chunk(0, 10), Chunk(0, 2000)], 0)
    assert cost.duration_s == pytest.approx(body_s + 4e-3 + 2e-3)
    assert causes(cost) == pytest.approx(cost.duration_s)


def test_the_error_of_the_fit_is_that_of_the_steps() -> None:
    table = Table(launch_s=3e-3)
    step = times(table, host=Host(0.0, 0.0, 0.0))
    mean, worst = step.error
    found = []
    for n in (1, 2, 4, 8, 16, 32, 64, 96):
        rest_s = max(1e-4 * n, 5e-3) + 1e-3
        for context in (128, 500, 1000, 2000, 4000):
            exact_s = rest_s + table.generation_attention(n, context, False)[0].memory_s
            whole_s = step.decode(n).duration_s + step.per_context.duration_s * n * context
            found.append(abs(whole_s / exact_s - 1))
    assert 0.0 < mean < worst < 0.25
    assert max(found) < 1.05 * worst
    assert max(found) > 0.5 * worst
    # Kernels that wait for their launch are flat: one slope for all is less than the busy one's.
    assert 3.5e-8 < step.per_context.duration_s < 5e-8
