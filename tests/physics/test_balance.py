"""How evenly experts' work falls on GPUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.physics.balance import imbalance, popularity


def test_experts_that_are_liked_alike_are_even() -> None:
    assert imbalance(256, 32, 0.0) == pytest.approx(1.0)


def test_by_hand() -> None:
    shares = popularity(4, 1.0)
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    # Two GPUs, two experts each: the best-liked with the least-liked, at the best.
    assert imbalance(4, 2, 1.0) == pytest.approx(2 * (shares[0] + shares[3]))
    # One expert a GPU: the best-liked decides; copies of it halve its work.
    assert imbalance(4, 4, 1.0) == pytest.approx(4 * shares[0])
    assert imbalance(4, 8, 1.0, 4) < 8 * shares[0]


@given(
    st.sampled_from([8, 16, 64]),
    st.floats(0.0, 2.0),
    st.integers(0, 3),
)
def test_never_below_the_mean_nor_above_one_gpu_doing_all(
    gpus: int, skew: float, rounds: int
) -> None:
    found = imbalance(64, gpus, skew, rounds * gpus)
    assert 1.0 <= found <= gpus


@pytest.mark.parametrize("skew", [0.3, 0.7, 1.2])
def test_copies_even_out_what_is_liked_most(skew: float) -> None:
    alone, few, many = (imbalance(256, 64, skew, copies) for copies in (0, 64, 256))
    assert alone > few > 1.0
    assert many <= few


def test_slots_must_come_out_even() -> None:
    with pytest.raises(ValueError, match="do not divide by 7"):
        imbalance(256, 7, 0.5)
