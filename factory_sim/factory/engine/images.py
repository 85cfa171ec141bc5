"""Images of prompts: the vision encoder runs in the step that computes the first of a prompt.

As in vLLM, on the same GPUs and before the model: everybody in that step waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from factory_sim.factory.engine.request import Request
from factory_sim.physics.step_time import Cost


class Encodes(Protocol):
    """A step time that knows what a vision encoder takes."""

    def encode(self, images: int) -> Cost:
        """Return the cost of encoding so many images together."""


def with_images(cost: Cost, encoder: Encodes, requests: Sequence[Request]) -> Cost:
    """Return the cost of a step with that of the images which its requests bring.

    An image is encoded once: what it became is kept for who is preempted.
    """
    images = sum(request.unseen for request in requests)
    if not images:
        return cost
    for request in requests:
        request.unseen = 0
    pairs = zip(cost, encoder.encode(images), strict=True)
    return Cost._make(a + b for a, b in pairs)
