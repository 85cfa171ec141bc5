"""Means of a workload: tokens and images of a request, before any is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from factory_sim.catalog.catalog import Catalog
from factory_sim.scenario.arrivals import TraceArrivals
from factory_sim.scenario.images import Images
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.kinds import MIDPOINTS, kinds_of, mean_cached, shares_at
from factory_sim.workload.sessions import mean_prompt
from factory_sim.workload.sometimes import mean_image_tokens, mean_images, mean_reasoning
from factory_sim.workload.traces import read_trace


def mean_lengths(
    spec: WorkloadSpec,
    catalog: Catalog,
    base: Path,
    where: str = "workload",
    duration_s: float = 0.0,
    keeps: bool = True,
) -> tuple[float, float, float]:
    """Return the mean prompt, output (with its reasoning) and cached tokens of a request.

    Means before rounding to whole tokens; of a trace, over its rows. Drifting weights of a mix
    count by their averages over `duration_s` (their values at time 0 without). With sessions the
    prompts are those of all turns, none of them cut short, and all that was said before counts as
    cached if replicas keep it (`keeps`): the most that a cache can find.
    """
    if isinstance(spec.arrivals, TraceArrivals):
        trace, _ = read_trace(spec.arrivals, base, f"{where}.arrivals")
        if trace.cached is not None:
            hit = float(trace.cached.mean())
        else:
            hit = 0.0 if spec.cached is None else mean_cached(spec.cached, trace.prompt)
        output = float(trace.output.mean()) + mean_reasoning(spec.reasoning)
        return float(trace.prompt.mean()) + mean_image_tokens(spec.images), output, hit
    kinds = kinds_of(spec, catalog, base, where)
    instants = (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS * duration_s
    shares = shares_at(spec, instants, where).mean(axis=1) if spec.mix else np.ones(1)
    means = np.array([kind.means() for kind in kinds])
    prompt, answer, cached, reasoning = (shares @ means).tolist()
    if spec.sessions is not None:
        kept = spec.reasoning is not None and spec.reasoning.kept
        said = answer + reasoning if kept else answer
        asked, prompt = prompt, mean_prompt(spec.sessions, prompt, said)
        cached = prompt - asked if keeps else 0.0
    return prompt, answer + reasoning, cached


def images_per_request(
    spec: WorkloadSpec,
    where: str = "workload",
    duration_s: float = 0.0,
    count: Callable[[Images | None], float] = mean_images,
) -> float:
    """Return the images of a request in the mean; of a mix, weights count as in `mean_lengths`.

    count: what of them; how many, or their tokens or bytes.
    """
    if not spec.mix:
        return count(spec.images)
    instants = (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS * duration_s
    shares = shares_at(spec, instants, where).mean(axis=1)
    return float(shares @ np.array([count(kind.images) for kind in spec.mix.values()]))
