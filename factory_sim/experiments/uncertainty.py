"""How sure a run's headline figures are, given how sure the parameters behind them are.

Like a weather forecast from a dozen slightly different starts: the same scenario and seed run
again with the parameters of its GPUs and engine drawn from what the calibration knows of
them, and the spread of the results is the band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import yaml

from factory_sim.catalog import Catalog, calibration
from factory_sim.catalog.parameters import fact_of, with_values
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.run import simulate
from factory_sim.scenario.load import scenario_from, to_yaml
from factory_sim.scenario.scenario import Scenario

DRAWS = 12
ESTIMATE_SPREAD = 0.25
"""Log spread given to a figure that nobody has fitted: as far as the fitted ones of different
families lie apart (our judgement)."""

WIDTH = 1.645
"""Standard deviations of the logarithm on either side: a band that holds 90 % of draws."""

HEADLINES = (
    "output_tokens_per_s",
    "goodput_output_tokens_per_s",
    "ttft_ms.p50",
    "ttft_ms.p99",
    "tpot_ms.p50",
    "tpot_ms.p99",
    "e2e_ms.p50",
    "e2e_ms.p99",
    "grid_power_mw.mean",
    "energy_per_output_token_j",
    "output_tokens_per_s_per_utility_mw",
)
"""Figures that get a band, by their path in `summary.json`."""

Values = dict[str, float]


def draw_parameters(scenario: Scenario, draws: int = DRAWS) -> list[Values]:
    """Return `draws` sets of values of the parameters behind a scenario, drawn from its seed.

    Fitted parameters are drawn together, from the covariance of the fit's logarithms; a figure
    with a standard error of its own is drawn by that, an estimate by ESTIMATE_SPREAD.
    """
    facts = scenario.facts
    fleets = fleets_of(lay_out_sites(scenario))
    names = sorted({n for fleet in fleets for n in parameters_of(fleet, facts)})
    fitted = calibration.shipped()
    place = {name: index for index, name in enumerate(fitted.names)}
    joint = [n for n in names if n in place and fact_of(facts, n).kind == "calibrated"]
    alone = {n: _own_spread(facts, n) for n in names if n not in joint}
    # Its own stream: the workload of every draw is that of the run.
    random = np.random.default_rng(np.random.SeedSequence(scenario.seed, spawn_key=(90,)))
    rows = [place[name] for name in joint]
    covariance = fitted.covariance[np.ix_(rows, rows)]
    moved = random.multivariate_normal(np.zeros(len(rows)), covariance, draws, method="eigh")
    free = random.normal(size=(draws, len(alone))) * np.array(list(alone.values()))
    found = []
    for number in range(draws):
        logs = {**dict(zip(joint, moved[number], strict=True))}
        logs |= dict(zip(alone, free[number], strict=True))
        found.append({name: _moved(facts, name, log) for name, log in logs.items() if log})
    return found


def parameters_of(fleet: Fleet, facts: Catalog) -> Iterable[str]:
    """Yield the names of the parameters that a fleet's step times and watts rest on.

    A figure that was fitted for a whole section at once goes by that name.
    """
    fitted = calibration.shipped().values
    for section, key, field in _facts_behind(fleet, facts):
        shared = f"{section}.{calibration.EVERY}.{field}"
        yield shared if shared in fitted else f"{section}.{key}.{field}"


def _facts_behind(fleet: Fleet, facts: Catalog) -> Iterable[tuple[str, str, str]]:
    rows = (fleet.efficiency, facts.efficiency(fleet.accelerator.family, _cache(fleet)))
    for key, row in facts.families.items():
        if row in rows:
            yield from (("families", key, field) for field, _ in _figures(row))
    for key, engine in facts.engines.items():
        if engine == fleet.engine:
            idle = {"graph_and_runtime"}
            if not fleet.model.mamba_layers:
                idle.add("scan_per_mamba_layer")
            timed = (field for field, _ in _figures(engine) if field not in idle)
            yield from (("engines", key, field) for field in timed)
    for key, curve in facts.power.items():
        if curve == fleet.power_curve:
            yield from (("power", key, field) for field, _ in _figures(curve))


def bands(
    scenario: Scenario,
    summary: Mapping[str, Any],
    draws: int = DRAWS,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """Return [low, high] of each headline of `summary`: the value, and 90 % of draws about it.

    The band is value * exp(+-WIDTH s), s the standard deviation of the logarithm over the
    draws. progress: told how many of how many draws are done. The same bands on any number of
    workers. A headline that a draw does not reach (no request completes) has no band.
    """
    text = to_yaml(scenario)
    tasks = [(text, values) for values in draw_parameters(scenario, draws)]
    results: list[dict[str, float]] = []
    for result in _results(tasks, workers):
        results.append(result)
        if progress is not None:
            progress(len(results), draws)
    found = {}
    for path, value in headlines(summary).items():
        logs = [math.log(result[path]) for result in results if result.get(path, 0.0) > 0.0]
        if len(logs) == draws and value > 0.0:
            spread = math.exp(WIDTH * float(np.std(logs, ddof=1)))
            found[path] = [value / spread, value * spread]
    return found


def headlines(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the headline figures that a summary holds, by path."""
    found = {}
    for path in HEADLINES:
        key, _, part = path.partition(".")
        value = summary.get(key)
        if part and isinstance(value, Mapping):
            value = value.get(part)
        if isinstance(value, int | float):
            found[path] = float(value)
    return found


def _results(tasks: list[tuple[str, Values]], workers: int) -> Iterable[dict[str, float]]:
    if workers <= 1:
        yield from map(_run, tasks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_run, tasks)


def _run(task: tuple[str, Values]) -> dict[str, float]:
    text, values = task
    scenario = scenario_from(yaml.safe_load(text))
    return headlines(simulate(scenario.on(with_values(scenario.facts, values))).summary)


def _figures(entry: Any) -> Iterable[tuple[str, Any]]:
    """Yield the figures of an entry that carry a kind, by field."""
    for field, value in entry:
        if hasattr(value, "kind") and hasattr(value, "value"):
            yield field, value


def _cache(fleet: Fleet) -> Any:
    return fleet.accelerator.arithmetic(fleet.spec.kv_precision)


def _own_spread(facts: Catalog, name: str) -> float:
    fact = fact_of(facts, name)
    if fact.error is not None:
        return float(fact.error)
    return ESTIMATE_SPREAD if fact.kind == "estimate" else 0.0


def _moved(facts: Catalog, name: str, log: float) -> float:
    """Return a parameter's value moved by `log`; a share stays at most 1."""
    value = float(fact_of(facts, name).value) * math.exp(log)
    field = name.rpartition(".")[2]
    return min(value, 1.0) if field.endswith(SHARES) else value


SHARES = ("compute", "memory", "network", "floor", "spread")
"""Endings of fields that are shares."""
