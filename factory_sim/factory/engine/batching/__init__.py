"""Batching policies: what the next engine step carries. One file each, one line here."""

from __future__ import annotations

from collections.abc import Callable

from factory_sim.factory.engine.batch import Batching
from factory_sim.factory.engine.batching.chunked import Chunked
from factory_sim.factory.engine.batching.continuous import Continuous
from factory_sim.factory.engine.batching.static import Static

BATCHING: dict[str, Callable[[int], Batching]] = {
    "static": lambda max_tokens: Static(),  # prefills the batch whole
    "continuous": Continuous,
    "chunked": Chunked,
}

__all__ = ["BATCHING", "Batching"]
