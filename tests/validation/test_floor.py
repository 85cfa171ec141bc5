"""What a curve of its own leaves of the errors of a series: by hand, and by fitting again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from factory_sim.catalog import load_catalog
from factory_sim.report.validation_page import write_page
from factory_sim.validation.case import Case
from factory_sim.validation.floor import CURVE, FEWEST, Floor, floor_of, off_curve
from factory_sim.validation.runner import Outcome

BATCHES = np.array([8.0, 16, 32, 64, 128, 256])


def ran(model: str, batch: float, off: float, name: str = "", prompt: int = 100) -> Outcome:
    case = Case.model_validate(
        {
            "id": name or f"{model}-{batch}",
            "source": "made up",
            "gpu": "b200-sxm",
            "model": model,
            "engine": {"profile": "vllm-0.11", "max_num_seqs": int(batch)},
            "load": {"kind": "offline", "requests": 1000},
            "lengths": {"prompt": prompt, "output": 100},
            "measured": {"gpu_power_w": 100.0},
        }
    )
    return Outcome(case, {"gpu_power_w": 100.0 * off})


def series(model: str, errors: np.ndarray, prompt: int = 100) -> list[Outcome]:
    return [
        ran(model, b, float(np.exp(e)), f"{model}-{b}-{prompt}", prompt)
        for b, e in zip(BATCHES, errors, strict=True)
    ]


def floor(outcomes: list[Outcome]) -> Floor:
    found = floor_of(outcomes, "gpu_power_w", load_catalog())
    assert found is not None
    return found


def test_a_row_left_out_is_told_by_a_curve_fitted_without_it() -> None:
    errors = np.random.default_rng(7).normal(size=len(BATCHES))
    seen, unseen = off_curve(BATCHES, errors, CURVE)
    x = np.log(BATCHES)
    assert seen == pytest.approx(errors - np.polyval(np.polyfit(x, errors, CURVE), x))
    for row in range(len(BATCHES)):
        others = np.arange(len(BATCHES)) != row
        curve = np.polyfit(x[others], errors[others], CURVE)
        assert unseen[row] == pytest.approx(errors[row] - np.polyval(curve, x[row]))


def test_a_row_that_alone_says_something_of_the_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="more batch sizes than it has coefficients"):
        off_curve(BATCHES[:3], np.zeros(3), CURVE)


def test_a_factor_leaves_what_bends_and_a_parabola_leaves_nothing_of_a_smooth_error() -> None:
    x = np.log2(BATCHES)
    outcomes = series("llama-3.1-8b", 0.3 + 0.1 * x) + series("qwen3-8b", -0.02 * x**2)
    found = floor(outcomes)
    assert (found.series, found.rows, found.pairs, found.alike) == (2, 12, 0, None)
    assert found.curve == pytest.approx((0.0, 0.0), abs=1e-9)
    assert found.level.unseen > found.level.seen > 0.05


def test_scatter_is_left_whatever_the_curve() -> None:
    jolt = 0.1 * np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    found = floor(series("llama-3.1-8b", jolt))
    assert found.curve.unseen > found.curve.seen > 0.05


def test_rows_of_one_shape_are_held_against_each_other_and_other_prompts_are_not() -> None:
    flat = np.zeros(len(BATCHES))
    outcomes = series("llama-3.1-70b", flat) + series("llama-3.3-70b", flat + np.log(1.08))
    outcomes += series("llama-3.1-70b", flat + 1.0, prompt=250)
    found = floor(outcomes)
    assert (found.series, found.pairs) == (3, len(BATCHES))
    assert found.alike == pytest.approx(0.08, abs=0.006)  # either way round


def test_short_series_and_loads_without_a_batch_say_nothing() -> None:
    facts = load_catalog()
    few = series("llama-3.1-8b", np.zeros(6))[: FEWEST - 1]
    assert floor_of(few, "gpu_power_w", facts) is None
    closed = {"kind": "closed", "concurrency": 8, "requests": 80}
    others = [
        Outcome(o.case.model_copy(update={"load": closed}), o.simulated)
        for o in series("llama-3.1-8b", np.zeros(6))
    ]
    assert floor_of(others, "gpu_power_w", facts) is None


def test_the_page_holds_what_is_left_beside_the_limit(tmp_path: Path) -> None:
    page = tmp_path / "validation.md"
    flat = np.zeros(len(BATCHES))
    outcomes = series("llama-3.1-70b", flat) + series("llama-3.3-70b", flat + np.log(1.08))
    write_page(page, {"mlenergy": outcomes}, outcomes[:1], "## Weak", load_catalog())
    text = page.read_text(encoding="utf-8")
    _, _, section = text.partition("## How near any smooth model could come\n")
    (row,) = [line for line in section.splitlines() if "| b200-sxm | `gpu_power_w` | 2 |" in line]
    assert row.startswith("| ML.ENERGY v3 | b200-sxm | `gpu_power_w` | 2 | 6.0 % | 4.00 % | 0.00 %")
    write_page(page, {"mlenergy": outcomes[:2]}, outcomes[:1], "## Weak", load_catalog())
    assert "any smooth model" not in page.read_text(encoding="utf-8")
