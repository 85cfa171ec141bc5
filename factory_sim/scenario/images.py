"""Images in prompts: a vision encoder turns each into tokens that the prompt has beside its text.

images: {tokens: 1000}
images: {share: 30 %, count: {uniform: {low: 1, high: 8}}, tokens: 256}
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.lengths import MOST_TOKENS, Fixed, Length, shortest
from factory_sim.units import Bytes, Share


class Images(Frozen):
    """Which requests have images, how many, and what each is in tokens.

    share: of the requests, each drawn apart. count: images of one that has any; frames of a video
    count as images, in pairs where the model takes two at a time. tokens: of one image, in the
    prompt, beside what `lengths` or a trace say of its text. size: of one image's file, where its
    way to the deployment is timed (`uplink` of a region, `users_link` of a deployment).
    """

    share: Annotated[Share, Field(gt=0, le=1)] = 1.0
    count: Length = Fixed(fixed=1)
    tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS, strict=True)]
    size: Annotated[Bytes, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _shows_something(self) -> Images:
        if shortest(self.count) < 1:
            raise ValueError(
                f"count can be {shortest(self.count):g}; who has images has one at least, and "
                "'share' says who does"
            )
        return self
