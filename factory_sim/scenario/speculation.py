"""Speculative decoding as a scenario describes it: who drafts, how much, and how well."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.names import known_model
from factory_sim.units import Share


class Acceptance(Frozen):
    """How likely a draft token is right, given that those before it were.

    mean: over requests. deviation: between requests, whose acceptance follows a beta distribution
    of these two (0: all are alike).
    """

    mean: Annotated[Share, Field(ge=0, le=1)]
    deviation: Annotated[Share, Field(ge=0, lt=0.5)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return given if isinstance(given, dict | cls) else {"mean": given}

    @model_validator(mode="after")
    def _is_a_beta_distribution(self) -> Acceptance:
        most = (self.mean * (1.0 - self.mean)) ** 0.5
        if self.deviation and self.deviation >= most:
            raise ValueError(
                f"deviation must be below {most:.3g}, the most that shares with a mean of "
                f"{self.mean:g} can have, not {self.deviation:g}"
            )
        return self


def _known_draft(name: str, info: ValidationInfo) -> str:
    if name in OWN_DRAFTS:
        return name
    try:
        return known_model(name, info)
    except ValueError as error:
        close = difflib.get_close_matches(name.lower(), OWN_DRAFTS, n=1)
        if not close:
            raise
        raise ValueError(f"unknown draft '{name}'; did you mean '{close[0]}'?") from error


OWN_DRAFTS = ("mtp", "eagle", "eagle3", "ngram")
"""Drafts that are no model of the catalogue."""


class Speculation(Frozen):
    """Speculative decoding. Names are those of vLLM's speculative_config where it has one.

    num_speculative_tokens: tokens drafted in a step. acceptance: probability that a draft token is
    accepted, given that those before it were. draft: a smaller model of the catalogue on the same
    GPUs; `mtp`, the model's own layer for multi-token prediction; `eagle`, one layer like the
    model's on its hidden state; `eagle3`, the same with an output head for common tokens; `ngram`,
    a look into the prompt, which costs no GPU time.
    step_time_share: in place of draft, of one of which only this is known: a pass of it takes so
    much of a step of the model. Its weights and KV cache are taken to be the same share.
    """

    num_speculative_tokens: Annotated[int, Field(gt=0, strict=True)]
    acceptance: Acceptance
    draft: Annotated[str, AfterValidator(_known_draft)] | None = None
    step_time_share: Annotated[Share, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_draft(self) -> Speculation:
        if (self.draft is None) == (self.step_time_share is None):
            raise ValueError(
                "give either 'draft' (a smaller model, mtp, eagle, eagle3 or ngram) or "
                "'step_time_share'"
            )
        return self

    @property
    def tokens_per_step(self) -> float:
        """Return the expected tokens of a step, with the acceptance of a mean request.

        (1 - a^(k+1)) / (1 - a) (Leviathan, Kalman and Matias, 2023, equation 1).
        """
        a = self.acceptance.mean
        return sum(a**place for place in range(self.num_speculative_tokens + 1))
