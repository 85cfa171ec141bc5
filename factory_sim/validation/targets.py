"""What the simulator has to reach: a median error for each source, kind of model and metric.

The limits are those that the project set itself before it was fitted; they are held against
the rows of the public tables, and where several models were fitted to, against the fit that
left the row's model out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import NamedTuple

from factory_sim.catalog import Catalog
from factory_sim.validation.case import Case
from factory_sim.validation.compare import Spread, spread_of
from factory_sim.validation.runner import Outcome

Errors = Mapping[str, Mapping[str, float]]
"""Relative errors by case and metric."""


LEFT_OUT = "left_out.json"
"""Written beside this file with the calibration: errors by model, case and metric."""

MODELS_TO_LEAVE_OUT = 3
"""With fewer models than these behind a limit, leaving one out says nothing of the next one."""


class Limit(NamedTuple):
    """The median error that a metric may have over the rows of a source that are `chosen`.

    group: what rows are told apart by (a GPU, an engine); the limit holds for each.
    """

    source: str
    rows: str
    metrics: tuple[str, ...]
    limit: float
    chosen: Callable[[Case, Catalog], bool]
    group: Callable[[Case], str]


class Standing(NamedTuple):
    """How a metric stands to its limit; left_out: under fits without each row's model."""

    limit: Limit
    group: str
    metric: str
    models: int
    fitted: Spread
    left_out: Spread | None

    @property
    def counts_left_out(self) -> bool:
        """Tell whether there are models enough for leaving one out to say something."""
        return self.models >= MODELS_TO_LEAVE_OUT


def _every(case: Case, facts: Catalog) -> bool:
    return True


def _overloaded(case: Case, facts: Catalog) -> bool:
    return "e2e_mean_ms" not in case.measured  # no latency of a run that times out is taken


def _in_time(case: Case, facts: Catalog) -> bool:
    return not _overloaded(case, facts)


def _large_moe(case: Case, facts: Catalog) -> bool:
    return facts.model(case.model).moe is not None and "gpt-oss" not in case.model


def _dense_or_gpt_oss(case: Case, facts: Catalog) -> bool:
    return case.gpu in ("h100-sxm", "b200-sxm") and not _large_moe(case, facts)


def _whole(case: Case) -> str:
    return ""


def _gpu(case: Case) -> str:
    return case.gpu


def _engine(case: Case) -> str:
    return case.engine.profile


LIMITS = (
    Limit("openloop", "not overloaded", ("e2e_mean_ms",), 0.04, _in_time, _whole),
    Limit("openloop", "not overloaded", ("ttft_p50_ms",), 0.10, _in_time, _whole),
    Limit("openloop", "overloaded", ("output_tok_s",), 0.08, _overloaded, _whole),
    Limit("mlenergy", "all", ("output_tok_s", "itl_p50_ms"), 0.07, _every, _gpu),
    Limit("mlenergy", "all", ("gpu_power_w",), 0.06, _every, _gpu),
    Limit("mlenergy", "all", ("energy_per_output_token_j",), 0.08, _every, _gpu),
    Limit("inferencex", "dense, gpt-oss", ("tpot_mean_ms",), 0.06, _dense_or_gpt_oss, _engine),
    Limit("inferencex", "dense, gpt-oss", ("ttft_mean_ms",), 0.20, _dense_or_gpt_oss, _engine),
    Limit("inferencex", "large MoE", ("tpot_mean_ms",), 0.15, _large_moe, _whole),
    Limit("splitwise", "all", ("prefill_ms",), 0.08, _every, _gpu),
    Limit("splitwise", "all", ("tpot_mean_ms",), 0.06, _every, _gpu),
    Limit("llmservingsim", "all", ("ttft_mean_ms",), 0.10, _every, _whole),
    Limit("llmservingsim", "all", ("tpot_mean_ms", "e2e_mean_ms"), 0.05, _every, _whole),
    Limit("mlperf", "all", ("server_power_w",), 0.10, _every, _whole),
)


def standings(
    sources: Mapping[str, list[Outcome]], facts: Catalog, left_out: Errors
) -> list[Standing]:
    """Return how every metric stands to its limit, in the order of LIMITS.

    A limit of which no row could be run is absent.
    """
    found = []
    for limit in LIMITS:
        outcomes = [
            o for o in sources.get(limit.source, []) if o.simulated and limit.chosen(o.case, facts)
        ]
        for group in sorted({limit.group(o.case) for o in outcomes}):
            own = [o for o in outcomes if limit.group(o.case) == group]
            models = len({o.case.model for o in own})
            for metric in limit.metrics:
                errors = [o.errors[metric] for o in own if metric in o.errors]
                apart = [left_out.get(o.case.id, {}).get(metric) for o in own]
                other = [error for error in apart if error is not None]
                if errors:
                    enough = other and models >= MODELS_TO_LEAVE_OUT
                    spread = spread_of(other) if enough else None
                    found.append(Standing(limit, group, metric, models, spread_of(errors), spread))
    return found


def left_out_errors() -> dict[str, dict[str, float]]:
    """Return the errors by case and metric under fits that left the case's model out.

    They are those that `factory-sim calibrate --catalog` wrote; empty where it wrote none.
    """
    by_model = left_out_by_model()
    return {case: errors for cases in by_model.values() for case, errors in cases.items()}


def left_out_by_model() -> dict[str, dict[str, dict[str, float]]]:
    """Return the same, by model first."""
    file = resources.files("factory_sim.validation").joinpath(LEFT_OUT)
    found: dict[str, dict[str, dict[str, float]]] = {}
    if file.is_file():
        found = json.loads(file.read_text("utf-8"))
    return found
