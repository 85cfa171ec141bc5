"""From a sweep to figures: a device of known rates is described as it is."""

from __future__ import annotations

import pytest

from factory_sim.probe.figures import Figures, figures
from factory_sim.probe.measure import sweep
from tests.probe import made_up
from tests.probe.made_up import MadeUp


def probed(device: MadeUp) -> Figures:
    return figures(sweep(device, 60.0), device.count, device.power_limit_w)


def test_peaks_are_the_highest_rates_seen_and_shares_of_them_the_rates() -> None:
    found = probed(MadeUp())
    assert found.flops == pytest.approx(made_up.FLOPS, rel=1e-3)
    assert found.copy == found.bandwidth == pytest.approx(made_up.COPY)
    for precision, rate in made_up.FLOPS.items():
        roof = found.gemm[precision]
        assert roof.compute is not None and roof.memory is not None
        assert roof.compute.value == pytest.approx(rate, rel=1e-3)
        assert roof.memory.value == pytest.approx(made_up.WEIGHTS, rel=1e-3)
    assert found.attention.compute is not None
    assert found.attention.compute.value == pytest.approx(made_up.PROMPTS, rel=1e-6)


def test_decode_attention_is_freed_of_its_launch() -> None:
    cache = probed(MadeUp()).cache
    assert cache.rate.value == pytest.approx(made_up.CACHE, rel=1e-3)
    assert cache.latency_s.value == pytest.approx(made_up.CACHE_LATENCY_S, rel=1e-2)


def test_a_slower_device_has_lower_figures() -> None:
    fast, slow = probed(MadeUp()), probed(MadeUp(slow=2.0))
    assert slow.bandwidth == pytest.approx(fast.bandwidth / 2)
    assert slow.flops["bf16"] == pytest.approx(fast.flops["bf16"] / 2, rel=1e-3)


def test_collectives_are_of_several_devices_only() -> None:
    alone, eight = probed(MadeUp()), probed(MadeUp(count=8))
    assert alone.collective is alone.link is None
    assert eight.collective is not None and eight.link is not None
    assert eight.collective.latency_s.value == pytest.approx(made_up.REDUCE_LATENCY_S, rel=1e-3)
    assert eight.collective.rate.value == pytest.approx(made_up.LINK, rel=1e-3)
    assert eight.link == pytest.approx(made_up.LINK, rel=1e-3)


def test_the_power_curve_is_the_one_the_board_followed() -> None:
    found = probed(MadeUp()).power
    assert found is not None
    assert found.residual < 0.01
    board = made_up.POWER
    assert found.active_weight.value == pytest.approx(board.active_weight, rel=0.02)
    assert found.compute_weight.value == pytest.approx(board.compute_weight, rel=0.02)
    assert found.memory_weight.value == pytest.approx(board.memory_weight, rel=0.02)


def test_a_board_that_shows_nothing_has_no_power_figures() -> None:
    found = probed(MadeUp(powered=False))
    assert found.power is found.idle_w is found.limit_w is None
