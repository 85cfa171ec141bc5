"""Cache-aware: the replica that has most of the prompt already, unless it has too much to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from factory_sim.factory.engine.request import Request

WORTH_IT = 0.5
UNEVEN_BY = 32
UNEVEN_TIMES = 1.0001
"""The defaults of SGLang's router (https://docs.sglang.ai/advanced_features/router.html): its
cache_threshold, balance_abs_threshold and balance_rel_threshold."""


class _Caching(Protocol):
    def found(self, request: Request) -> int: ...


class CacheAware:
    """The rule of SGLang's router, with the caches themselves in place of its guess at them.

    While the fullest replica has over UNEVEN_BY requests more than the emptiest, and over
    UNEVEN_TIMES as many, the shortest queue counts. Else it is the longest cached beginning, if
    that is over WORTH_IT of the prompt; else again the shortest queue, where SGLang takes the
    replica that has seen the least text.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        pass

    def choose(self, outstanding: list[int], replicas: Sequence[_Caching], request: Request) -> int:
        """Return the replica with most of the prompt, among equals the one with fewer requests."""
        least, most = min(outstanding), max(outstanding)
        if most - least <= UNEVEN_BY or most <= UNEVEN_TIMES * least:
            found = [replica.found(request) for replica in replicas]
            longest = max(found)
            if longest > WORTH_IT * request.prompt:
                loads = [
                    load if tokens == longest else most + 1
                    for load, tokens in zip(outstanding, found, strict=True)
                ]
                return loads.index(min(loads))
        return outstanding.index(least)
