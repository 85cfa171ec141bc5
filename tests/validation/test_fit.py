"""A fit finds again what was put in, and says how sure it is."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory_sim.catalog import load_catalog
from factory_sim.catalog.parameters import fact_of
from factory_sim.validation.case import Case, cases_from
from factory_sim.validation.catalog_fit import ENGINES, ROWS, SPREADS
from factory_sim.validation.fit import ROBUST, Fit, Knob, Target, fit, prior_of, touches, without
from factory_sim.validation.runner import run_cases

TRUTH = {"engines.vllm.per_step": 2e-3, "engines.vllm.per_sequence": 60e-6}
METRICS = ("tpot_mean_ms", "output_tok_s")
BEFORE = 0.6
"""What was known before, as a share of the truth."""


def closed(model: str, clients: int) -> dict[str, Any]:
    return {
        "id": f"{model}-{clients}",
        "source": "made by the engine itself",
        "gpu": "h100-sxm",
        "model": model,
        "engine": {"profile": "vllm"},
        "load": {"kind": "closed", "concurrency": clients, "requests": 3 * clients},
        "lengths": {"prompt": 200, "output": 100},
        "measured": dict.fromkeys(METRICS, 1.0),
    }


def truth() -> list[Case]:
    """Return cases that measured what the engine does with the parameters of TRUTH."""
    documents = [closed(m, n) for m in ("llama-3.1-8b", "qwen3-8b") for n in (1, 8, 64)]
    outcomes = run_cases(cases_from(documents, "made", Path()), TRUTH)
    return [o.case.model_copy(update={"measured": o.simulated}) for o in outcomes]


@pytest.fixture(scope="module")
def fitted() -> tuple[Fit, list[Target]]:
    targets = [Target(c, dict.fromkeys(METRICS, 1.0), c.model) for c in truth()]
    knobs = [Knob(name, BEFORE * value, 1.0) for name, value in TRUTH.items()]
    with ProcessPoolExecutor(2) as pool:
        return fit(targets, knobs, pool), targets


def test_it_finds_the_parameters_again(fitted: tuple[Fit, list[Target]]) -> None:
    found, _ = fitted
    for name, value in TRUTH.items():
        assert found.values[name] == pytest.approx(value, rel=0.03)


def test_residuals_vanish_and_errors_are_small(fitted: tuple[Fit, list[Target]]) -> None:
    found, _ = fitted
    assert np.abs(found.residuals[: len(found.rows)]).max() < 0.01
    assert max(found.errors.values()) < 0.05


def test_leaving_a_model_out_changes_little_where_all_agree(
    fitted: tuple[Fit, list[Target]],
) -> None:
    found, targets = fitted
    for group in ("llama-3.1-8b", "qwen3-8b"):
        values = without(found, targets, group)
        for name, value in TRUTH.items():
            assert values[name] == pytest.approx(value, rel=0.05)


def test_a_prior_is_a_distance_in_spreads_and_kin_may_move_together() -> None:
    alone = [Knob("a", 1.0, 0.5), Knob("b", 1.0, 0.2)]
    assert prior_of(alone) == pytest.approx(ROBUST * np.diag([2.0, 5.0]))
    kin = [Knob(name, 1.0, 0.5, kin="same", together=1.0) for name in "abc"]
    residuals = prior_of([*kin, Knob("d", 1.0, 0.5, kin="other", together=1.0)])
    assert np.linalg.inv(residuals.T @ residuals) * ROBUST**2 == pytest.approx(
        np.diag([0.25] * 4) + np.pad(np.ones((3, 3)), (0, 1))
    )
    far = np.linalg.norm(residuals @ [1.0, -1.0, 0.0, 0.0])
    assert far > 2.0 * np.linalg.norm(residuals @ [1.0, 1.0, 1.0, 0.0])


def test_who_has_no_rows_goes_with_its_kin() -> None:
    """A parameter that nothing was measured of moves as its kin's mean does, less what is known."""
    prior = prior_of([Knob(name, 1.0, 0.5, kin="same", together=1.0) for name in "ab"])
    seen = np.array([[100.0, 0.0]])  # the first is known to be off by 0.3
    slope, miss = np.vstack([seen, prior]), np.array([30.0, 0.0, 0.0])
    found, *_ = np.linalg.lstsq(slope, miss, rcond=None)
    assert found == pytest.approx([0.3, 0.3 * 1.0 / 1.25], rel=1e-3)


def test_a_parameter_touches_only_the_cases_it_is_part_of() -> None:
    facts = load_catalog()
    (case,) = cases_from([closed("llama-3.1-8b", 4)], "made", Path())
    yes = ["engines.vllm.per_step", "families.hopper-bf16.gemm_memory"]
    no = ["engines.trtllm.per_step", "families.hopper-fp8.gemm_memory", "power.hopper.clock_floor"]
    no += ["families.blackwell-bf16.gemm_memory", "families.hopper-bf16.expert_compute"]
    assert [name for name in yes + no if touches(case, name, facts)] == yes
    cached = case.model_copy(update={"kv_precision": "fp8"})
    assert touches(cached, "families.hopper-fp8.kv_memory", facts)
    assert not touches(cached, "families.hopper-bf16.kv_memory", facts)
    routed = case.model_copy(update={"model": "qwen3-30b-a3b"})
    for name in ("families.*.expert_spread", "engines.vllm.launch_per_moe_layer"):
        assert (touches(case, name, facts), touches(routed, name, facts)) == (False, True)
    watched = {
        name: one.model_copy(update={"measured": {"gpu_power_w": 500.0}})
        for name, one in (("dense", case), ("routed", routed))
    }
    for name, felt in (("cache_factor", {"dense", "routed"}), ("expert_factor", {"routed"})):
        touched = {key for key, one in watched.items() if touches(one, f"power.*.{name}", facts)}
        assert touched == felt and not touches(case, f"power.*.{name}", facts)
    narrow = case.model_copy(update={"precision": "fp8"})
    assert touches(narrow, "engines.vllm.quantise_per_layer", facts)
    assert not touches(case, "engines.vllm.quantise_per_layer", facts)
    hybrid = case.model_copy(update={"model": "nemotron-nano-9b-v2"})
    assert touches(hybrid, "engines.vllm.scan_per_mamba_layer", facts)
    for other in (case, case.model_copy(update={"model": "qwen3.5-35b-a3b"})):
        assert not touches(other, "engines.vllm.scan_per_mamba_layer", facts)


def test_what_touches_a_case_changes_it_and_what_does_not_does_not() -> None:
    """Every knob of one case, moved by a tenth: `touches` knows which of them it feels."""
    facts = load_catalog()
    document = closed("qwen3-30b-a3b", 4) | {"precision": "fp8", "measured": {"e2e_mean_ms": 1.0}}
    (case,) = cases_from([document], "made", Path())
    names = ["families.*.expert_spread"]
    names += [f"families.{row}.{field}" for row in ROWS[:2] for field in SPREADS]
    names += [f"engines.{engine}.{field}" for engine in ("vllm", "sglang") for field in ENGINES]
    before = run_cases([case])[0].simulated
    for name in names:
        value = float(fact_of(facts, name).value)
        moved = run_cases([case], {name: value * 0.9})[0].simulated != before
        felt = touches(case, name, facts) and value > 0.0
        # Where one of two bounds holds, the other is not felt.
        assert moved == felt or (felt and name.endswith(("compute", "memory"))), name
