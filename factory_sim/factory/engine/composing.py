"""Batches that do several things at once, composed of those that do one.

Like clothes worn in layers: each keeps one thing off or in, and the order in which they go on is
always the same. Each behaviour is a subclass of `Batch` that changes one thing and leaves the rest
to whatever is below it (`super()`); put together they are a class of their own, so that a batch
without a behaviour does not so much as ask for it.
"""

from __future__ import annotations

from collections.abc import Callable

from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.joining_batch import JoiningBatch
from factory_sim.factory.engine.prefix_batch import PrefixBatch
from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.scheduled_batch import ScheduledBatch
from factory_sim.factory.engine.speculating_batch import SpeculatingBatch
from factory_sim.factory.engine.swapping_batch import SwappingBatch
from factory_sim.factory.engine.tiered_cache import TieredBatch

LAYERS: tuple[type[Batch], ...] = (
    SwappingBatch,  # who is next, and what victims keep
    ScheduledBatch,
    TieredBatch,  # what KV blocks are taken, and what is found in them
    PrefixBatch,
    PromptBatch,  # where a request goes with its first token, or comes from
    JoiningBatch,
    SpeculatingBatch,  # what a step makes
    AsyncBatch,  # when a step is planned; calls `Batch` by name, so it is the last
)
"""The behaviours, the outermost first."""


def composed(*behaviours: type[Batch]) -> Callable[..., Batch]:
    """Return the class of batches that have these behaviours, in whatever order they are named.

    Its constructor takes what `Batch` takes and the keywords of each behaviour.
    """
    layers = tuple(layer for layer in LAYERS if layer in behaviours)
    assert len(layers) == len(set(behaviours)), "a behaviour has no place among the layers"
    if not layers:
        return Batch
    return layers[0] if len(layers) == 1 else type("Composed", layers, {})
