"""The kinds of requests of a workload: what each draws from, and how the mix goes over time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from factory_sim.catalog.catalog import Catalog
from factory_sim.errors import InputError, Problem
from factory_sim.scenario.images import Images
from factory_sim.scenario.lengths import Fixed, Length
from factory_sim.scenario.reasoning import Reasoning
from factory_sim.scenario.workload import ARCHETYPES, Archetype, WorkloadSpec
from factory_sim.workload.lengths import Sampler, quantile, sampler
from factory_sim.workload.sometimes import mean_image_tokens, mean_reasoning, with_extras

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]

MIDPOINTS = 512
"""Of equal parts of a distribution, or of the time, that means are taken over."""


class Kind(NamedTuple):
    """What one archetype draws from."""

    lengths: Sampler
    cached: Length
    reasoning: Reasoning | None
    images: Images | None

    def draw(
        self, normals: Floats, shares: Floats, thoughts: Floats, pictures: Floats
    ) -> tuple[Tokens, Tokens, Tokens, Tokens, Tokens]:
        """Return prompt, output, cached and reasoning tokens, and images, of n requests.

        normals: float64[n, 2]. shares, in [0, 1): [n] for what is cached, [n, 2] for the others.
        """
        prompt, output = self.lengths.draw(normals)
        cached = np.minimum(quantile(self.cached, shares), prompt - 1)
        prompt, output, reasoning, images = with_extras(
            prompt, output, self.reasoning, self.images, thoughts, pictures
        )
        return prompt, output, cached, reasoning, images

    def means(self) -> tuple[float, float, float, float]:
        """Return the mean tokens of prompt, answer, what is cached, and reasoning."""
        prompt, answer = self.lengths.means()
        prompt += mean_image_tokens(self.images)
        return prompt, answer, self.mean_cached(), mean_reasoning(self.reasoning)

    def mean_cached(self) -> float:
        """Return the mean tokens of a prompt that are cached."""
        if isinstance(self.cached, Fixed) and self.cached.fixed == 0:
            return 0.0
        score = (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS
        normals = np.stack([ndtri(score), np.zeros(MIDPOINTS)], axis=1)
        return mean_cached(self.cached, self.lengths.draw(normals)[0])


def mean_cached(cached: Length, prompts: Tokens) -> float:
    """Return the mean of min(cached, prompt - 1), the two drawn apart."""
    hits = np.sort(quantile(cached, (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS))
    most = prompts - 1
    below = np.searchsorted(hits, most, side="right")
    sums = np.concatenate(([0], np.cumsum(hits)))
    return float(np.mean((sums[below] + (MIDPOINTS - below) * most) / MIDPOINTS))


def kinds_of(spec: WorkloadSpec, catalog: Catalog, base: Path, where: str) -> list[Kind]:
    """Return the kinds of a mix, in its order; the only one where there is none."""
    if spec.mix is not None:
        return [
            _archetype(name, kind, catalog, base, f"{where}.mix.{name}")
            for name, kind in spec.mix.items()
        ]
    assert spec.lengths is not None
    lengths = sampler(spec.lengths, catalog, base, f"{where}.lengths")
    return [Kind(lengths, spec.cached or Fixed(fixed=0), spec.reasoning, spec.images)]


def _archetype(name: str, kind: Archetype, catalog: Catalog, base: Path, where: str) -> Kind:
    lengths = kind.lengths if kind.lengths is not None else ARCHETYPES[name]
    drawn = sampler(lengths, catalog, base, f"{where}.lengths")
    return Kind(drawn, kind.cached, kind.reasoning, kind.images)


def shares_at(spec: WorkloadSpec, times: Floats, where: str) -> Floats:
    """Return each archetype's share of the requests at `times`: float64[archetypes, n]."""
    assert spec.mix is not None
    weights = np.stack([kind.weight.at(times) for kind in spec.mix.values()])
    total = weights.sum(axis=0)
    bad = (weights < 0.0).any(axis=0) | (total <= 0.0)
    if bad.any():
        raise InputError(
            Problem(
                f"{where}.mix",
                f"the weights at {times[bad][0]:g} s are {weights[:, bad][:, 0].tolist()}; none "
                "may be negative and one at least must be above 0",
            )
        )
    return np.asarray(weights / total)
