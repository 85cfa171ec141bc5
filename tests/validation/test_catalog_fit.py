"""The package's own calibration: what it is fitted to, with which parameters, and that it runs."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from factory_sim.catalog import calibration, load_catalog
from factory_sim.catalog.catalog import uncalibrated
from factory_sim.catalog.parameters import fact_of
from factory_sim.validation import catalog_fit
from factory_sim.validation.catalog_fit import (
    Stage,
    alone,
    fit_all,
    knobs_of,
    left_out,
    scanned,
    targets_of,
    text_of,
)
from factory_sim.validation.fit import Fit, Knob, Target, fit, without
from factory_sim.validation.sources import SOURCES, source_cases

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")


@needs_data
@pytest.mark.parametrize("source", SOURCES)
def test_every_row_of_a_source_is_a_case(source: str) -> None:
    cases = source_cases(source, DATA)
    facts = load_catalog()
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        facts.accelerator(case.gpu), facts.model(case.model), facts.engine(case.engine.profile)


@needs_data
def test_rows_with_many_gpus_a_model_are_read_as_they_ran() -> None:
    cases = source_cases("wide", DATA)
    assert sum(case.prefill is not None for case in cases) == 29
    assert sum(case.prefill is None and case.parallelism.dp > 1 for case in cases) == 11


@pytest.mark.slow
@needs_data
def test_parameters_belong_to_families_and_engines_and_are_few() -> None:
    facts = load_catalog()
    targets = targets_of(DATA, facts)
    engines = sorted({target.case.engine.profile for target in targets})
    knobs = knobs_of(targets, facts, engines)
    models = {target.group for target in targets}
    assert len(targets) > 400 and len(models) > 12
    assert len(knobs) < len(targets) / 5
    assert not [knob.name for knob in knobs if any(model in knob.name for model in models)]
    before = uncalibrated()
    for knob in knobs:
        assert knob.low < knob.value <= knob.high, knob.name
    later = ("engines.vllm.", "power.", catalog_fit.SCAN)  # fitted after these
    shipped = {n for n in calibration.shipped().names if not n.startswith(later)}
    assert shipped == {knob.name for knob in knobs}
    assert before.engines["ideal"].per_step.value == 0.0


@pytest.mark.slow
@needs_data
def test_the_prior_alone_is_where_a_fit_to_nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """With residuals of weight zero the fit is the prior, and its text reads back."""

    def weightless(data: Path, facts: object, usable: object = None) -> list[Target]:
        cases = [
            next(c for c in source_cases("openloop", data)),
            next(c for c in source_cases("mlenergy", data) if c.engine.max_num_seqs == 8),
        ]
        return [Target(c, dict.fromkeys(("output_tok_s",), 0.0), c.model) for c in cases]

    monkeypatch.setattr(catalog_fit, "targets_of", weightless)
    stages = fit_all(DATA, workers=1)
    read = calibration.read(text_of(stages))
    before = uncalibrated()
    assert read.values["families.hopper-bf16.gemm_memory"] == pytest.approx(
        before.families["hopper-bf16"].gemm_memory.value, rel=1e-3
    )
    assert read.errors["families.hopper-bf16.gemm_memory"] >= 0.0
    assert {name.partition(".")[0] for name in read.names} == {"families", "engines", "power"}

    row = next(c for c in source_cases("splitwise", DATA) if c.gpu == "h100-sxm")
    monkeypatch.setattr(catalog_fit, "SOURCES", ("one",))
    monkeypatch.setattr(catalog_fit, "source_cases", lambda name, data: [row])
    errors = left_out(stages, DATA, workers=1)
    assert list(errors) == [row.model] and set(errors[row.model][row.id]) == set(row.measured)


def _found(values: dict[str, float], errors: list[float]) -> Stage:
    knobs = tuple(Knob(name, value, 0.1) for name, value in values.items())
    nothing = np.zeros((0, len(knobs)))
    covariance = np.diag(np.square(errors))
    return Stage(Fit(knobs, values, covariance, nothing, np.zeros(0), [], 0.0), [])


def test_what_is_fitted_again_counts_once_and_last() -> None:
    """Of a parameter in two stages the text has the later value, error and correlations."""
    names = ("families.hopper-bf16.gemm_memory", "families.ampere-bf16.gemm_memory")
    joint = _found(dict(zip(names, (0.8, 0.7), strict=True)), [0.1, 0.2])
    again = _found({names[1]: 0.6}, [0.05])
    read = calibration.read(text_of([joint, again]))
    assert read.values == {names[0]: 0.8, names[1]: 0.6}
    assert read.errors == {names[0]: 0.1, names[1]: 0.05}
    assert read.covariance == pytest.approx(np.diag([0.01, 0.0025]))


def test_what_no_fit_has_touched_again_stays_to_the_letter() -> None:
    """Of one fit repeated the text has its parameter anew, and all others as they ship."""
    shipped = calibration.shipped()
    text = text_of([_found({catalog_fit.SCAN: 0.002}, [0.3])], shipped)
    read = calibration.read(text)
    others = [name for name in shipped.names if name != catalog_fit.SCAN]
    assert read.names == [*others, catalog_fit.SCAN]
    assert read.values == shipped.values | {catalog_fit.SCAN: "2000 us"}
    assert read.errors == shipped.errors | {catalog_fit.SCAN: 0.3}
    places = [shipped.names.index(name) for name in others]
    kept = shipped.covariance[np.ix_(places, places)]
    np.testing.assert_allclose(read.covariance[:-1, :-1], kept, rtol=1e-12)
    assert not read.covariance[-1, :-1].any()
    lines = resources.files("factory_sim.catalog").joinpath("data/calibration.yaml").read_text()
    changed = set(text.splitlines()) ^ set(lines.splitlines())
    assert all(catalog_fit.SCAN in line for line in changed) and len(changed) == 2


@pytest.mark.slow
@needs_data
def test_what_ships_of_mamba_is_at_rest_and_of_two_models() -> None:
    """Fitted from where it is, with all others as they ship, it stays; and so without its prior."""
    facts = load_catalog()
    targets, (knob,) = scanned(DATA, facts)
    assert {t.group for t in targets} == {"nemotron-nano-9b-v2", "nemotron-nano-12b-v2"}
    assert all("ml-energy" in t.case.source for t in targets)
    start = {knob.name: float(fact_of(facts, knob.name).value)}
    with ProcessPoolExecutor(2) as pool:
        found = fit(targets, [knob], pool, start=start)
    assert found.values[knob.name] == pytest.approx(start[knob.name], rel=0.01)
    assert found.errors[knob.name] == pytest.approx(calibration.shipped().errors[knob.name], 0.05)
    each = [without(found, targets, model)[knob.name] for model in {t.group for t in targets}]
    assert max(each) / min(each) < 1.3  # each of the two tells the other's


@pytest.mark.slow
@needs_data
def test_what_ships_of_the_engine_fitted_alone_is_at_rest() -> None:
    """Fitted from where they are, with all others as they ship, its parameters stay."""
    facts = load_catalog()
    targets = targets_of(DATA, facts)
    engines = sorted({target.case.engine.profile for target in targets})
    few, own = alone(targets, knobs_of(targets, facts, engines), facts)
    assert all("splitwise" in t.case.source for t in few) and len(own) == 10
    start = {knob.name: float(fact_of(facts, knob.name).value) for knob in own}
    with ProcessPoolExecutor(2) as pool:
        found = fit(few, own, pool, start=start)
    for name, value in start.items():
        assert found.values[name] == pytest.approx(value, rel=0.02), name


def test_a_folder_without_tables_is_one_clear_error(tmp_path: Path) -> None:
    from factory_sim.errors import InputError

    with pytest.raises(InputError, match="lacks the table"):
        source_cases("openloop", tmp_path)
