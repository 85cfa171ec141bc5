"""What the cores of this machine give, here and now: others take their share of them too."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor


def bare_seconds(workers: int) -> float:
    """Return the seconds that so many processes take for some counting, each begun before."""
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(count, [1] * workers))
        started = time.perf_counter()
        list(pool.map(count, [400_000] * 40))
        return time.perf_counter() - started


def count(many: int) -> int:
    return sum(number * number for number in range(many))
