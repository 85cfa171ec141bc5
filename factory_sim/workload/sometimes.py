"""What only some requests have: two draws of each, whether and how much."""

from __future__ import annotations

import numpy as np

from factory_sim.scenario.images import Images
from factory_sim.scenario.lengths import MOST_TOKENS, Length
from factory_sim.scenario.reasoning import Reasoning
from factory_sim.workload.lengths import Floats, Tokens, always, mean, quantile


def sometimes(share: float, length: Length, shares: Floats) -> Tokens:
    """Return draws of `length` for `share` of n requests, 0 for the others.

    shares: float64[n, 2] in [0, 1). The first of a row says whether, the second how much: a higher
    share leaves who had something as is.
    """
    whether, much = shares.T
    return np.where(whether < share, quantile(length, much), 0)


def with_extras(
    prompt: Tokens,
    output: Tokens,
    reasoning: Reasoning | None,
    images: Images | None,
    thoughts: Floats,
    pictures: Floats,
) -> tuple[Tokens, Tokens, Tokens, Tokens]:
    """Return prompts with the tokens of images, and outputs with those of reasoning; then the
    tokens of reasoning, and the images.

    thoughts, pictures: float64[n, 2] in [0, 1), draws of `sometimes`.
    """
    reasoned = seen = always(0, len(prompt))
    if reasoning is not None:
        reasoned = sometimes(reasoning.share, reasoning.tokens, thoughts)
        output = output + reasoned
    if images is not None:
        seen = sometimes(images.share, images.count, pictures)
        prompt = np.minimum(prompt + seen * images.tokens, MOST_TOKENS)
    return prompt, output, reasoned, seen


def mean_reasoning(spec: Reasoning | None) -> float:
    """Return the mean tokens of a request, of those that answer at once too."""
    return 0.0 if spec is None else spec.share * mean(spec.tokens)


def mean_images(spec: Images | None) -> float:
    """Return the mean images of a prompt, of prompts without any too."""
    return 0.0 if spec is None else spec.share * mean(spec.count)


def mean_image_bytes(spec: Images | None) -> float:
    """Return the mean bytes of the files of a prompt's images, of prompts without any too."""
    return 0.0 if spec is None else mean_images(spec) * (spec.size or 0.0)


def mean_image_tokens(spec: Images | None) -> float:
    """Return the mean tokens of a prompt's images, of prompts without any too."""
    return 0.0 if spec is None else mean_images(spec) * spec.tokens
