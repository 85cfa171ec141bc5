"""The ladder of clocks: who goes down first, who comes up first, and what others hold already."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from factory_sim.factory.meter import Reading
from factory_sim.factory.power.clock import Clock
from factory_sim.factory.power.decode_first import DecodeFirst
from factory_sim.scenario.site import Power

POWER = Power(margin=0.0, step=0.1)


def fleet(name: str, priority: int, floor: float = 0.5) -> Any:
    """Return a fleet of which watts above rest follow the square of the clock."""
    return SimpleNamespace(
        name=name,
        spec=SimpleNamespace(power_priority=priority),
        power_curve=SimpleNamespace(clock_floor=SimpleNamespace(value=floor)),
        power=SimpleNamespace(clock_factor=lambda clock: clock * clock),
    )


def reading(
    limit_w: float,
    boards_w: list[float],
    clocks: list[tuple[float, float]],
    prompts: float = 0.5,
) -> Reading:
    """Return a reading of a level that draws 100 W at rest."""
    return Reading(
        100.0 + sum(boards_w),
        100.0,
        limit_w,
        lambda: clocks,
        lambda: boards_w,
        lambda: [prompts] * len(boards_w),
        1.0,
    )


FULL = (1.0, 1.0)


def test_the_lowest_priority_goes_down_to_its_floor_before_the_next() -> None:
    policy = Clock(POWER, [fleet("chat", 1), fleet("batch", 0)])
    # 100 + 2 x 1000 W; batch at 0.5 saves 750 W.
    down = policy.decide((1.0, 1.0), reading(1500.0, [1000.0] * 2, [FULL] * 2))
    assert down == pytest.approx((1.0, 0.2))
    deeper = policy.decide((1.0, 1.0), reading(1200.0, [1000.0] * 2, [FULL] * 2))
    assert deeper == pytest.approx((0.8, 0.0))  # 0.9 of the clock: 810 W, beside 250 W


def test_the_highest_priority_comes_up_first_and_one_step_at_a_time() -> None:
    policy = Clock(POWER, [fleet("chat", 1), fleet("batch", 0)])
    slow = [(0.8, 0.8), (0.5, 0.5)]
    drawn = [640.0, 250.0]
    assert policy.decide((0.6, 0.0), reading(5000.0, drawn, slow)) == pytest.approx((0.8, 0.0))
    # No room for chat's next step (170 W more): batch does not take it either.
    assert policy.decide((0.6, 0.0), reading(1100.0, drawn, slow)) == pytest.approx((0.6, 0.0))
    up = policy.decide((1.0, 0.0), reading(5000.0, [1000.0, 250.0], [FULL, slow[1]]))
    assert up == pytest.approx((1.0, 0.2))


def test_decode_goes_down_before_prompts() -> None:
    policy = DecodeFirst(POWER, [fleet("chat", 0)])
    # Half of 1000 W is decode: at 0.5 it draws 125 W, and 625 W are left.
    share = policy.decide((1.0,), reading(730.0, [1000.0], [FULL]))
    assert share == pytest.approx((0.5,))
    assert policy.decide((1.0,), reading(640.0, [1000.0], [FULL])) == pytest.approx((0.4,))


@pytest.mark.parametrize(("now", "rung"), [((0.7, 0.7), 0.6), ((0.6, 0.7), 0.5)])
def test_what_others_hold_lower_already_is_no_gain(now: tuple[float, float], rung: float) -> None:
    """Boards at 70 % under their own limit draw less only below that."""
    policy = Clock(POWER, [fleet("chat", 0)])
    lowest = min(now)
    drawn = 1000.0 * lowest * lowest
    (share,) = policy.decide((1.0,), reading(99.0 + drawn, [drawn], [now]))
    assert 1.0 - 0.5 * (1.0 - share) == pytest.approx(rung)


def test_orders_set_both_clocks() -> None:
    held: list[tuple[Any, ...]] = []
    replica: Any = SimpleNamespace(hold_clock=lambda *given: held.append(given))
    one = fleet("chat", 0)
    DecodeFirst(POWER, [one]).order(replica, one, 0.4, False)
    Clock(POWER, [one]).order(replica, one, 0.4, False)
    assert held[0] == ("power", pytest.approx(0.5), pytest.approx(0.9))
    assert held[1] == ("power", pytest.approx(0.7), pytest.approx(0.7))
