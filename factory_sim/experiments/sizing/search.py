"""The search for a threshold: where a question that is first answered no is answered yes."""

from __future__ import annotations

from collections.abc import Callable, Generator

Search = Generator[int, bool, int | None]
"""Asks of one number after another whether something holds; returns the threshold."""


def search(start: int, lowest: int, highest: int, stride: int = 1) -> Search:
    """Ask for the least number from `lowest` to `highest` for which something holds, or None.

    It gallops from `start`, by strides that double from `stride`, until it has seen it hold and not
    hold, and halves what lies between. Of the number found and of the one before it has been asked,
    unless that is below `lowest`. If it does not hold for all greater ones too, the number found is
    a threshold, but may not be the only one.
    """
    place = min(max(start, lowest), highest)
    low, high = lowest - 1, highest + 1  # outside: does not hold, holds
    if (yield place):
        high = place
        while high > lowest:
            place = max(lowest, high - stride)
            stride *= 2
            if not (yield place):
                low = place
                break
            high = place
    else:
        low = place
        while low < highest:
            place = min(highest, low + stride)
            stride *= 2
            if (yield place):
                high = place
                break
            low = place
    while high - low > 1:
        middle = (low + high) // 2
        if (yield middle):
            high = middle
        else:
            low = middle
    return high if high <= highest else None


def threshold(
    holds: Callable[[int], bool], start: int, lowest: int, highest: int, stride: int = 1
) -> int | None:
    """Return the least number for which something holds, or None: see `search`."""
    asking = search(start, lowest, highest, stride)
    try:
        place = next(asking)
        while True:
            place = asking.send(holds(place))
    except StopIteration as end:
        found: int | None = end.value
        return found
