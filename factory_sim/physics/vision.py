"""What a vision encoder takes: a transformer over the patches of each image, all at once.

Like the model's own prompt, by the same roofline, but that every patch sees all of its image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from factory_sim.physics.hardware import Chip, Host, Shard
from factory_sim.physics.step_time import Chunk, Cost, Roofline


@dataclass(frozen=True)
class Vision:
    """A vision encoder on the GPUs of a replica. patches: of one image; chip, shard: in bf16."""

    chip: Chip
    shard: Shard
    patches: int


class Encoding(Roofline):
    """The step time of a vision encoder. host: what a step costs there."""

    def __init__(self, vision: Vision, host: Host, clock: float) -> None:
        super().__init__(vision.chip, vision.shard, host, clock, 1, 1)
        self._patches = vision.patches

    def encode(self, images: int) -> Cost:
        """Return the cost of encoding so many images together.

        Products are over all patches of all; attention has s^2 pairs an image of s patches, as many
        as a causal chunk of s tokens has after (s - 1) / 2.
        """
        patches = self._patches
        image = Chunk((patches - 1) / 2, patches)  # type: ignore[arg-type]
        return self.mixed(0, 0, 0, [image] * images, 0)


class Seeing(Roofline):
    """The step time of a model with a vision encoder before it, which shares its host's work."""

    def __init__(self, *roofline: Any, vision: Vision) -> None:
        super().__init__(*roofline)
        clock = roofline[3]
        self.encode = Encoding(vision, Host(0.0, 0.0, 0.0), clock).encode
