"""Promises: the usual ones by name, and whether runs kept theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.task import Figures
from factory_sim.metrics.statistics import interval
from factory_sim.scenario.scenario import Scenario

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "chat": {"ttft": "200 ms", "tpot": "50 ms", "percentile": 99},
    "rag": {"ttft": "300 ms", "tpot": "100 ms", "percentile": 99},
    "code": {"ttft": "500 ms", "tpot": "150 ms", "percentile": 99},
    "batch": {"e2e": "24 h", "percentile": 99},
    "summarise": {"ttft": "600 ms", "tpot": "30 ms", "e2e": "20 s", "percentile": 95},
    "research": {"ttft": "2 s", "tpot": "45 ms", "e2e": "90 s", "percentile": 95},
}
"""Service levels that others plan with. chat, rag, code: GuideLLM's examples
(service_level_objectives.md). batch: what public batch interfaces promise (OpenAI, Batch API FAQ);
in a run of less than a day it is kept if all is answered by the end of `drain`. summarise,
research: the llm-d planner's (traffic_and_slos.md)."""


class Kept(NamedTuple):
    """A promise over several runs. who: whose, such as `deployments.chat`; what: of which latency.

    value_ms: the largest of the runs, infinite where too many requests were never answered.
    met: in every run. mean_ms: of the runs. half_width_ms: of its 95 % interval, NaN of one run.
    """

    who: str
    what: str
    limit_ms: float
    value_ms: float
    met: bool
    mean_ms: float
    half_width_ms: float


def kept(runs: Sequence[Figures]) -> list[Kept]:
    """Return every promise of some runs of one scenario; empty where nothing was promised."""
    found = []
    for key in runs[0]:
        head, _, last = key.rpartition(".")
        who, dot, what = head.rpartition(".slo.")
        if not dot or last != "limit_ms" or not who:
            continue
        values = [run.get(f"{head}.value_ms") for run in runs]
        known = [float(value) for value in values if value is not None]
        met = all(run[f"{head}.met"] == 1.0 for run in runs)
        # Without a value: too many were never answered; or, where it is kept, nobody asked.
        never = len(known) < len(values) and not met
        worst = float("inf") if never else max(known, default=0.0)
        mean, half_width = interval(np.array(known)) if worst < np.inf else (np.inf, np.nan)
        found.append(Kept(who, what, float(runs[0][key]), worst, met, mean, half_width))
    return found


def check_promised(scenario: Scenario) -> None:
    """Raise InputError for a scenario in which nobody is promised anything, before it is run."""
    if not any(scenario.promise_to(workload) for workload in scenario.workload):
        raise unpromised()


def unpromised() -> InputError:
    """Return what to raise where runs have no promises that could be kept."""
    names = ", ".join(sorted(PRESETS))
    said = f"nothing is promised, so any size will do; add an slo, or use --slo ({names})"
    return InputError(Problem("deployments", said))
