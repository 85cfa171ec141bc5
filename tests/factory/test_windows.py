"""Windows that fill, advanced by strides, equal windows counted one token at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.windows import Windows

TOKENS = 8


def decoding(number: int) -> Request:
    request = Request(number, 0.0, 1, 100)
    request.finish_step = 99
    return request


@given(
    stored=st.lists(st.integers(1, 2 * TOKENS), min_size=1, max_size=6),
    strides=st.lists(st.integers(1, 5), max_size=6),
)
def test_windows_equal_a_count_of_tokens(stored: list[int], strides: list[int]) -> None:
    windows = Windows(TOKENS)
    for number, tokens in enumerate(stored):
        windows.join(decoding(number), tokens, 0)
    step = 0
    for stride in strides:
        stride = int(min(stride, windows.next_fill() - step))
        step += stride
        windows.advance(stride, step)
        assert windows.context == sum(min(tokens + step, TOKENS) for tokens in stored)
        assert windows.filling == sum(tokens + step < TOKENS for tokens in stored)
    for tokens in stored:
        windows.leave(tokens + step)
    assert (windows.context, windows.filling) == (0, 0)


def test_a_window_left_early_does_not_fill() -> None:
    windows = Windows(TOKENS)
    request = decoding(0)
    windows.join(request, 3, 10)
    assert windows.next_fill() == 15
    windows.advance(2, 12)
    windows.leave(5)
    request.finish_step = -1
    assert windows.next_fill() == float("inf")
    request.preemptions, request.finish_step = 1, 50  # back, with a longer prompt
    windows.join(request, 6, 13)
    assert windows.next_fill() == 15
    windows.advance(2, 15)
    assert (windows.context, windows.filling) == (TOKENS, 0)
