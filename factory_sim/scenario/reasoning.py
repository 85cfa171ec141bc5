"""Reasoning: tokens that a model makes before the answer that its user sees.

reasoning: {tokens: {lognormal: {median: 900, sigma: 1}}}
reasoning: {share: 60 %, tokens: 2000, kept: true}
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.lengths import Length, shortest
from factory_sim.units import Share


class Reasoning(Frozen):
    """Which requests reason before they answer, and for how long.

    share: of the requests, each drawn apart; the others answer at once. tokens: of the reasoning,
    made before the answer, which is what `lengths` calls output. kept: whether a session's later
    prompts bring the reasoning of its earlier turns; chat templates leave it out (default).
    """

    share: Annotated[Share, Field(gt=0, le=1)] = 1.0
    tokens: Length
    kept: bool = False

    @model_validator(mode="after")
    def _reasons(self) -> Reasoning:
        if shortest(self.tokens) < 1:
            raise ValueError(
                f"tokens can be {shortest(self.tokens):g}; who reasons makes one token at least, "
                "and 'share' says who does"
            )
        return self
