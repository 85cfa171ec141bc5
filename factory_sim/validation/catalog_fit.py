"""The fit behind the calibration that ships: which measurements, which parameters, what was known.

Parameters belong to a GPU family and precision or to an engine version, never to a model or a
case. The prior of a family's parameter is the fit to a kernel database that the hand-written
catalogue holds, and its spread says how far serving kernels may lie from it; measured rows
then decide. Large MoE models with mechanisms that the physics lacks (sparse attention,
speculative decoding that the table cannot tell) are left out of the fit, not of the validation.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from factory_sim.catalog import Catalog, load_catalog
from factory_sim.catalog.calibration import write
from factory_sim.catalog.catalog import uncalibrated
from factory_sim.catalog.parameters import fact_of
from factory_sim.validation.case import Case
from factory_sim.validation.fit import Fit, Knob, Target, fit, touches, without
from factory_sim.validation.runner import run_cases
from factory_sim.validation.sources import source_cases

SOURCE = (
    "fit of factory_sim to serving measurements: ML.ENERGY v3, InferenceX (through "
    "aiconfigurator), inference-sim/training, splitwise-sim, LLMServingSim; see docs/validation.md"
)

METRICS: dict[str, dict[str, float]] = {
    "openloop": {"e2e_mean_ms": 2.0},
    "mlenergy": {"output_tok_s": 1.0, "itl_p50_ms": 1.0},
    "inferencex": {"tpot_mean_ms": 1.0},
    "splitwise": {"prefill_ms": 1.0, "tpot_mean_ms": 1.0},
    "llmservingsim": {"tpot_mean_ms": 1.0, "e2e_mean_ms": 0.5},
}
"""What is fitted to in each source, and how much a log error weighs. The open loop counts more:
its lengths are known and a row is the mean of thousands of requests. TTFT is left to validation:
under a closed loop the bursts of the clients decide it more than any parameter does."""

ROWS_OF_A_MODEL = 20
"""Rows of one model on one GPU in one source count as no more than this many."""

CASES_OF_A_MODEL = 12
"""Cases of one model, GPU, precision and engine that are run in the fit, evenly spread."""

UNSIMULATED = ("glm-5", "deepseek-v3.2", "nemotron")
"""Models, by the start of their names, with mechanisms that the physics lacks."""

ROWS = ("hopper-bf16", "hopper-fp8", "blackwell-bf16", "blackwell-fp8")
ROWS += ("blackwell-nvfp4", "blackwell-mxfp4", "ampere-bf16")
SPREADS = {
    "per_layer": (0.5, 0.0, math.inf),
    "moe_per_layer": (0.8, 0.0, math.inf),
    "gemm_compute": (0.12, 0.0, 1.0),
    "gemm_memory": (0.08, 0.0, 1.0),
    "kv_memory": (0.12, 0.0, 1.0),
}
"""Fields of a family's row that are fitted: log spread of the prior, least and most."""

ENGINES = {
    "per_step": (0.7, 0.0, math.inf),
    "per_sequence": (0.8, 0.0, math.inf),
    "eager_per_layer": (0.8, 0.0, math.inf),
    "launch_per_layer": (0.7, 0.0, math.inf),
}
REFERENCE_ENGINE = "vllm-tuned"
"""The engine that adds no launch overhead: only the sum with the family's shows in data."""

POOLED = "vllm"
"""The profile for who does not know the version: fitted to all versions of vLLM V1 at once."""
POOLED_FROM = ("vllm-0.11", "vllm-0.15", "vllm-tuned")


def refit(data: Path, workers: int, progress: Callable[[str], None] = print) -> str:
    """Return the text of `calibration.yaml`, fitted to the tables in `data`."""
    found, pooled, _ = fit_all(data, workers, progress)
    names = [*found.values, *pooled.values]
    values = {name: _written(name, {**found.values, **pooled.values}[name]) for name in names}
    errors = {**found.errors, **pooled.errors}
    size, own = len(names), len(found.values)
    import numpy as np

    covariance = np.zeros((size, size))
    covariance[:own, :own] = found.covariance
    covariance[own:, own:] = pooled.covariance
    return write(SOURCE, values, errors, covariance)


def fit_all(
    data: Path, workers: int, progress: Callable[[str], None] = print
) -> tuple[Fit, Fit, list[Target]]:
    """Return the fit of families and engine versions, that of the pooled engine, the targets."""
    facts = load_catalog()
    targets = targets_of(data, facts)
    used = {(t.case.engine.profile) for t in targets}
    knobs = knobs_of(targets, facts, sorted(used))
    start = {knob.name: float(fact_of(facts, knob.name).value) for knob in knobs}
    progress(f"{len(targets)} cases, {len(knobs)} parameters")
    with ProcessPoolExecutor(workers) as pool:
        found = fit(targets, knobs, pool, start=start)
        progress(f"families and engine versions: cost {found.cost:.3f}")
        pooled = _pooled(targets, found, facts, pool)
    return found, pooled, targets


def targets_of(data: Path, facts: Catalog, sources: Iterable[str] = METRICS) -> list[Target]:
    """Return the cases to fit to, each with the weights of its metrics."""
    cases: list[tuple[str, Case]] = []
    for source in sources:
        usable = [c for c in source_cases(source, data) if _usable(c, facts)]
        cases += [(source, case) for case in _thinned(_merged(usable))]
    counts = Counter((source, c.gpu, c.model) for source, c in cases)
    targets = []
    for source, case in cases:
        share = min(1.0, math.sqrt(ROWS_OF_A_MODEL / counts[source, case.gpu, case.model]))
        weights = {m: w * share for m, w in METRICS[source].items() if m in case.measured}
        if weights:
            targets.append(Target(case, weights, case.model))
    return targets


def _usable(case: Case, facts: Catalog) -> bool:
    model = facts.model(case.model)
    beyond = case.parallelism.pp > 1 or (case.parallelism.dp > 1 and model.moe is not None)
    return not (beyond or case.model.startswith(UNSIMULATED))


def _merged(cases: list[Case]) -> list[Case]:
    """Return the cases with repeats of one configuration made one, at the median measured."""
    groups: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.model_dump_json(exclude={"id", "measured", "note"})].append(case)
    merged = []
    for same in groups.values():
        names = set.intersection(*(set(case.measured) for case in same))
        measured = {name: median(case.measured[name] for case in same) for name in sorted(names)}
        merged.append(same[0].model_copy(update={"measured": measured}))
    return merged


def _thinned(cases: list[Case]) -> list[Case]:
    """Return at most CASES_OF_A_MODEL cases of each kind, evenly spread over its order."""
    kinds: defaultdict[tuple[str, ...], list[Case]] = defaultdict(list)
    for case in cases:
        kinds[case.model, case.gpu, case.precision, case.engine.profile].append(case)
    chosen = []
    for same in kinds.values():
        step = max(1.0, len(same) / CASES_OF_A_MODEL)
        chosen += [same[int(index * step)] for index in range(min(len(same), CASES_OF_A_MODEL))]
    return chosen


def knobs_of(targets: list[Target], facts: Catalog, engines: list[str]) -> list[Knob]:
    """Return the parameters that the targets can speak about, with their priors."""
    before = uncalibrated()
    knobs = []
    for row in ROWS:
        for field, bounds in SPREADS.items():
            knobs.append(_knob(before, f"families.{row}.{field}", *bounds))
    for engine in engines:
        for field, bounds in ENGINES.items():
            if not (field == "launch_per_layer" and engine == REFERENCE_ENGINE):
                knobs.append(_knob(before, f"engines.{engine}.{field}", *bounds))
    return [k for k in knobs if any(touches(t.case, k.name, facts) for t in targets)]


def _knob(before: Catalog, name: str, spread: float, low: float, high: float) -> Knob:
    return Knob(name, float(fact_of(before, name).value), spread, low, high)


def _pooled(targets: list[Target], found: Fit, facts: Catalog, pool: Any) -> Fit:
    """Return the fit of the pooled engine, the families held where the first fit put them."""
    before = uncalibrated()
    mine = [
        Target(
            t.case.model_copy(
                update={"engine": t.case.engine.model_copy(update={"profile": POOLED})}
            ),
            t.weights,
            t.group,
        )
        for t in targets
        if t.case.engine.profile in POOLED_FROM
    ]
    knobs = [
        _knob(before, f"engines.{POOLED}.{field}", *bounds) for field, bounds in ENGINES.items()
    ]
    held = {name: value for name, value in found.values.items() if name.startswith("families.")}
    start = {k.name: float(fact_of(facts, k.name).value) for k in knobs}
    return fit(mine, knobs, pool, start=start, held=held)


def left_out(
    found: Fit, targets: list[Target], workers: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return, by model and case, the errors of metrics under the fit without that model."""
    errors: dict[str, dict[str, dict[str, float]]] = {}
    for model in sorted({target.group for target in targets}):
        cases = [target.case for target in targets if target.group == model]
        outcomes = run_cases(cases, without(found, targets, model), workers=workers)
        errors[model] = {outcome.case.id: outcome.errors for outcome in outcomes}
    return errors


def _written(name: str, value: float) -> str:
    """Return a value as YAML has it: seconds with their unit, shares and factors bare."""
    field = name.rpartition(".")[2]
    seconds = field.startswith(("per_", "moe_per_", "eager_per_", "launch_per_"))
    return f"{value * 1e6:.5g} us" if seconds else f"{value:.5g}"
