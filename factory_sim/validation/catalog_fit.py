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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import block_diag

from factory_sim.catalog import Catalog, load_catalog
from factory_sim.catalog.calibration import EVERY, Calibration, parts, write
from factory_sim.catalog.catalog import uncalibrated
from factory_sim.catalog.parameters import fact_of
from factory_sim.validation.case import Case
from factory_sim.validation.fit import Fit, Knob, Target, fit, touches, without
from factory_sim.validation.runner import run_cases
from factory_sim.validation.sources import SOURCES, source_cases

SOURCE = (
    "fit of factory_sim to serving measurements: ML.ENERGY v3, InferenceX (through "
    "aiconfigurator), inference-sim/training, splitwise-sim, LLMServingSim; see docs/validation.md"
)

METRICS: dict[str, dict[str, float]] = {
    "openloop": {"e2e_mean_ms": 3.0, "ttft_p50_ms": 0.5, "output_tok_s": 1.0},
    "mlenergy": {"output_tok_s": 1.0, "itl_p50_ms": 1.0},
    "inferencex": {"tpot_mean_ms": 1.5, "ttft_mean_ms": 0.4},
    "splitwise": {"prefill_ms": 1.0, "tpot_mean_ms": 1.0},
    "llmservingsim": {"tpot_mean_ms": 1.0, "e2e_mean_ms": 1.0, "ttft_mean_ms": 0.5},
    "mlperf": {"output_tok_s": 1.0},
}
"""What is fitted to in each source, and how much a log error weighs. The open loop counts more:
its lengths are known and a row is the mean of thousands of requests. TTFT counts less: under a
closed loop the bursts of the clients have a part in it that no parameter has."""

LARGE = 200e9
LARGE_WEIGHT = 0.4
"""Rows of InferenceX of models with so many weights and more count less: which kernels and which
speculation they ran with is known least, and 15 % is asked of them where 6 % is of others."""

ROWS_OF_A_MODEL = 20
"""Rows of one model on one GPU in one source count as no more than this many."""

CASES_OF_A_MODEL = 12
"""Cases of one model, GPU, precision and engine that are run in the fit, evenly spread."""

UNSIMULATED = ("glm-5", "deepseek-v3.2", "nemotron")
"""Models, by the start of their names, with mechanisms that the physics lacks."""

ROWS: tuple[str, ...] = ("hopper-bf16", "hopper-fp8", "blackwell-bf16", "blackwell-fp8")
ROWS += ("blackwell-nvfp4", "blackwell-mxfp4", "ampere-bf16")
ROWS += ("hopper-mxfp4", "blackwell-int4", "blackwell-rtx-bf16")
SPREADS = {
    "per_layer": (0.5, 0.0, math.inf),
    "moe_per_layer": (0.8, 0.0, math.inf),
    "gemm_compute": (0.12, 0.0, 1.0),
    "expert_compute": (0.5, 0.0, 1.0),
    "gemm_memory": (0.08, 0.0, 1.0),
    "kv_memory": (0.12, 0.0, 1.0),
    "elementwise_memory": (0.4, 0.0, 1.0),
}
"""Fields of a family's row that are fitted: log spread of the prior, least and most."""

ENGINES = {
    "per_step": (0.7, 0.0, math.inf),
    "per_sequence": (0.8, 0.0, math.inf),
    "per_request": (1.0, 0.0, math.inf),
    "eager_per_layer": (0.8, 0.0, math.inf),
    "launch_per_layer": (0.7, 0.0, math.inf),
    "launch_per_moe_layer": (0.7, 0.0, math.inf),
    "quantise_per_layer": (0.7, 0.0, math.inf),
    "scan_per_mamba_layer": (0.7, 0.0, math.inf),
}
"""Fields of an engine that are fitted. One that is zero is so by definition: TensorRT-LLM is
taken to be the leanest, and only the sum of its launches and the family's shows in data."""

KINDRED = ("families", "engines")
"""Of what parameters are misjudged together by as much as each is by itself: precisions of a GPU
family share most of their kernels, engines the work of a host. Of one that few rows speak of, its
kin says more than what was guessed before any fit."""

POWERED = ("hopper", "blackwell")
POWER = {
    "active_weight": (0.7, 0.0, math.inf),
    "compute_weight": (0.3, 0.0, math.inf),
    "memory_weight": (0.7, 0.0, math.inf),
    "narrow_factor": (0.5, 0.5, math.inf),
}
"""Fields of a family's power curve, fitted to board watts once the step times are: they do not
change when a step ends."""

POWER_OF_BYTES = {
    "expert_factor": (0.7, 0.5, math.inf),
    "cache_factor": (0.7, 0.5, math.inf),
}
"""Fields that all families share: each alone has too few models with experts, or long contexts."""

ALONE = "vllm-0.2"
"""The engine whose own parameters, and those of what only it ran on, are fitted once more with all
others held: its rows are few and precise, and in the joint fit, where they weigh little, the search
ends before they have come to rest."""

SCAN = "engines.vllm-0.11.scan_per_mamba_layer"
"""What layers of Mamba-2 add to a step with prompts: of models that are otherwise left out, fitted
to their rows with all others held."""

POOLED = "vllm"
"""The profile for who does not know the version: fitted to all versions of vLLM V1 at once, each
source counting the same whatever its rows, by no more than MOST_OF_A_ROW for one."""
POOLED_FROM = ("vllm-0.11", "vllm-0.15", "vllm-tuned")
MOST_OF_A_ROW = 3.0


FITS = ("step-times", ALONE, "mamba-2", POOLED, "power")
"""The fits that follow one another: of families and engine versions; of one of these alone; of
layers of Mamba-2; of the pooled engine; of power."""


class Stage(NamedTuple):
    """One of the fits that follow one another, and the cases it was fitted to."""

    fit: Fit
    targets: list[Target]


def fit_all(
    data: Path,
    workers: int,
    progress: Callable[[str], None] = lambda text: None,
    only: str | None = None,
) -> list[Stage]:
    """Return the fits of FITS in turn, or that one of them which is called `only`.

    Later ones hold what those before found, and where one fits a parameter again, the last counts;
    all else is as it ships. progress: told what is done.
    """
    facts = load_catalog()
    stages: list[Stage] = []
    found: dict[str, float] = {}
    with ProcessPoolExecutor(workers) as pool:
        for name, (targets, knobs) in zip(FITS, _plans(data, facts), strict=True):
            if not knobs or only not in (None, name):
                continue
            progress(f"{name}: {len(targets)} cases")
            start = {k.name: float(fact_of(facts, k.name).value) for k in knobs} | found
            stages.append(Stage(fit(targets, knobs, pool, start=start, held=found), targets))
            found = found | stages[-1].fit.values
    return stages


def _plans(data: Path, facts: Catalog) -> Iterator[tuple[list[Target], list[Knob]]]:
    """Yield what each of FITS is fitted to, and its parameters."""
    targets = targets_of(data, facts)
    engines = sorted({target.case.engine.profile for target in targets})
    knobs = knobs_of(targets, facts, engines)
    yield targets, knobs
    yield alone(targets, knobs, facts)
    yield scanned(data, facts)
    pooled = pooled_targets(targets)
    yield pooled, _touching(_knobs(f"engines.{POOLED}", ENGINES), pooled, facts)
    power = _knobs("power.*", POWER_OF_BYTES)
    power += [knob for curve in POWERED for knob in _knobs(f"power.{curve}", POWER)]
    yield power_targets(targets), power


def text_of(stages: list[Stage], before: Calibration | None = None) -> str:
    """Return the text of `calibration.yaml`, each parameter as the last stage found it.

    before: a calibration of which those that no stage has fitted stay.
    """
    last = {name: stage for stage in stages for name in stage.fit.values}
    values: dict[str, Any] = {}
    errors: dict[str, float] = {}
    blocks = []
    if before is not None:
        kept = [n for n, name in enumerate(before.names) if name not in last]
        values = {before.names[n]: before.values[before.names[n]] for n in kept}
        errors = {name: before.errors[name] for name in values}
        blocks.append(before.covariance[np.ix_(kept, kept)])
    for stage in stages:
        fit = stage.fit
        own = [number for number, knob in enumerate(fit.knobs) if last[knob.name] is stage]
        names = [fit.knobs[number].name for number in own]
        values |= {name: _written(name, fit.values[name]) for name in names}
        errors |= {name: fit.errors[name] for name in names}
        blocks.append(fit.covariance[np.ix_(own, own)])
    return write(SOURCE, values, errors, block_diag(*blocks))


def left_out(
    stages: list[Stage],
    data: Path,
    workers: int,
    progress: Callable[[str], None] = lambda text: None,
    only: str | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return, by model and case, the errors of every row under the fit without that model.

    only: as of `fit_all`; then of those models that no other fit has seen, so that without this one
    nothing that ships has.
    """
    cases: defaultdict[str, list[Case]] = defaultdict(list)
    for source in SOURCES:
        for case in source_cases(source, data):
            cases[case.model].append(case)
    models = set(cases)
    if only is not None:
        facts = load_catalog()
        others = [p for name, p in zip(FITS, _plans(data, facts), strict=True) if name != only]
        models = {t.group for stage in stages for t in stage.targets}
        models -= {target.group for targets, _ in others for target in targets}
    errors: dict[str, dict[str, dict[str, float]]] = {}
    for model in sorted(models):
        progress(f"without {model}")
        values: dict[str, float] = {}
        for stage in stages:
            values |= without(stage.fit, stage.targets, model)
        outcomes = run_cases(cases[model], values, workers=workers)
        errors[model] = {
            o.case.id: {name: round(error, 4) for name, error in o.errors.items()}
            for o in outcomes
            if not o.reason
        }
    return errors


def targets_of(
    data: Path, facts: Catalog, usable: Callable[[Case, Catalog], bool] | None = None
) -> list[Target]:
    """Return the cases to fit to, each with the weights of its metrics.

    usable: which cases; by default those that the physics has all mechanisms of.
    """
    cases: list[tuple[str, Case]] = []
    for source in METRICS:
        own = [c for c in source_cases(source, data) if (usable or _usable)(c, facts)]
        cases += [(source, case) for case in _thinned(_merged(own))]
    counts = Counter((source, c.gpu, c.model) for source, c in cases)
    targets = []
    for source, case in cases:
        share = min(1.0, math.sqrt(ROWS_OF_A_MODEL / counts[source, case.gpu, case.model]))
        if source == "inferencex" and facts.model(case.model).parameters.value > LARGE:
            share *= LARGE_WEIGHT
        wanted = METRICS[source]
        weights = {str(m): wanted[m] * share for m in case.measured if m in wanted}
        if weights:
            targets.append(Target(case, weights, case.model))
    return targets


def _usable(case: Case, facts: Catalog) -> bool:
    model = facts.model(case.model)
    beyond = case.parallelism.pp > 1 or (case.parallelism.dp > 1 and model.moe is not None)
    beyond = beyond or case.gpu_power_limit is not None  # its clock is not the reference
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
    knobs = _knobs("families.*", {"expert_spread": (0.3, 0.0, 1.0)})
    knobs += [knob for row in ROWS for knob in _knobs(f"families.{row}", SPREADS)]
    for engine in engines:
        knobs += _knobs(f"engines.{engine}", ENGINES)
    return _touching(knobs, targets, facts)


def _touching(knobs: list[Knob], targets: list[Target], facts: Catalog) -> list[Knob]:
    """Return those parameters that have a part in some target."""
    return [k for k in knobs if any(touches(t.case, k.name, facts) for t in targets)]


def scanned(data: Path, facts: Catalog) -> tuple[list[Target], list[Knob]]:
    """Return what speaks about the parameter SCAN, and it."""

    def usable(case: Case, facts: Catalog) -> bool:
        return touches(case, SCAN, facts)

    entry, _, field = SCAN.rpartition(".")
    targets = targets_of(data, facts, usable)
    return targets, _touching(_knobs(entry, {field: ENGINES[field]}), targets, facts)


def alone(
    targets: list[Target], knobs: Iterable[Knob], facts: Catalog
) -> tuple[list[Target], list[Knob]]:
    """Return the targets that ran on the engine ALONE, and the parameters that no other touches."""
    own = [t for t in targets if facts.engine(t.case.engine.profile).name == ALONE]
    others = [t for t in targets if facts.engine(t.case.engine.profile).name != ALONE]
    return own, [k for k in knobs if not any(touches(t.case, k.name, facts) for t in others)]


def power_targets(targets: list[Target]) -> list[Target]:
    """Return those targets that measured board watts, with watts to fit to."""
    return [
        Target(t.case, {"gpu_power_w": 1.0}, t.group)
        for t in targets
        if "gpu_power_w" in t.case.measured
    ]


def pooled_targets(targets: list[Target]) -> list[Target]:
    """Return those targets that ran some version of the pooled engine, under its profile."""
    chosen = [t for t in targets if t.case.engine.profile in POOLED_FROM]
    counts = Counter(t.case.source for t in chosen)
    usual = len(chosen) / max(1, len(counts))
    pooled = []
    for target in chosen:
        share = min(MOST_OF_A_ROW, math.sqrt(usual / counts[target.case.source]))
        weights = {metric: weight * share for metric, weight in target.weights.items()}
        pooled.append(replace(_with_profile(target, POOLED), weights=weights))
    return pooled


def _knobs(entry: str, fields: dict[str, tuple[float, float, float]]) -> list[Knob]:
    before = uncalibrated()
    knobs = []
    for field, (spread, low, high) in fields.items():
        name = f"{entry}.{field}"
        together = spread if name.startswith(KINDRED) else 0.0
        value = float(fact_of(before, name).value)
        if value > 0.0:
            knobs.append(Knob(name, value, spread, low, high, _kin(name, before), together))
    return knobs


def _kin(name: str, facts: Catalog) -> str:
    """Return what a parameter is one of: of all precisions of a GPU family, or of all engines.

    An engine that launches kernels one by one is no kin of those that replay graphs.
    """
    section, entry, field = parts(name)
    if section == "engines" and not facts.engine(entry).launches_ahead:
        return f"engines.{field}"
    if section == "families" and entry != EVERY:
        return f"families.{entry.rpartition('-')[0]}.{field}"
    return ""


def _with_profile(target: Target, profile: str) -> Target:
    engine = target.case.engine.model_copy(update={"profile": profile})
    return replace(target, case=target.case.model_copy(update={"engine": engine}))


def _written(name: str, value: float) -> str:
    """Return a value as YAML has it: seconds with their unit, shares and factors bare."""
    field = name.rpartition(".")[2]
    seconds = "per_" in field  # a step, a layer, a sequence
    return f"{value * 1e6:.5g} us" if seconds else f"{value:.5g}"
