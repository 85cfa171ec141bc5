"""The calibration file: what is written is read back, and lies over what was written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from factory_sim.catalog import calibration, load_catalog
from factory_sim.catalog.catalog import uncalibrated
from factory_sim.catalog.parameters import fact_of, values_of, with_values

NAMES = ["families.hopper-bf16.per_layer", "engines.vllm-0.15.launch_per_layer"]


def test_what_is_written_is_read_back() -> None:
    covariance = np.array([[0.04, 0.006], [0.006, 0.01]])
    values = dict(zip(NAMES, ("31.1 us", "0.9"), strict=True))
    errors = dict(zip(NAMES, (0.2, 0.1), strict=True))
    read = calibration.read(calibration.write("a fit", values, errors, covariance))
    assert read.names == NAMES
    assert read.values == {NAMES[0]: "31.1 us", NAMES[1]: 0.9}
    np.testing.assert_allclose(read.covariance, covariance, rtol=1e-2)


def test_nothing_written_is_no_calibration() -> None:
    assert calibration.read("").names == []


def test_a_fitted_figure_replaces_the_hand_written_one_and_says_so() -> None:
    shipped, before, after = calibration.shipped(), uncalibrated(), load_catalog()
    assert shipped.names
    for name in shipped.names:
        fact = fact_of(after, name)
        assert (fact.kind, fact.source) == ("calibrated", shipped.source)
        assert fact.error == pytest.approx(shipped.errors[name])
        assert fact_of(before, name).error is None


def test_what_all_share_is_an_estimate_of_those_never_measured() -> None:
    facts = load_catalog()
    for family, kind in (("hopper", "calibrated"), ("cdna3", "estimate")):
        fact = facts.power_curve(family).expert_factor
        assert fact.kind == kind
        assert fact.value == facts.power_curve("blackwell").expert_factor.value
    for row, kind in (("hopper-mxfp4", "calibrated"), ("cdna3-bf16", "estimate")):
        assert facts.families[row].expert_spread.kind == kind


def test_the_covariance_is_one() -> None:
    """Symmetric, with no negative variance in any direction."""
    covariance = calibration.shipped().covariance
    np.testing.assert_allclose(covariance, covariance.T)
    lowest = np.linalg.eigvalsh(covariance).min()
    assert lowest > -1e-3 * np.trace(covariance) / len(covariance)  # correlations are rounded


def test_what_is_like_a_fitted_row_is_an_estimate_of_its_value() -> None:
    facts = load_catalog()
    fitted, copied = facts.families["hopper-bf16"], facts.families["ada-bf16"]
    assert copied.gemm_memory.value == fitted.gemm_memory.value
    assert (copied.gemm_memory.kind, copied.gemm_memory.error) == ("estimate", None)


def test_other_values_leave_the_catalogue_as_it_was() -> None:
    facts = load_catalog()
    was = values_of(facts, NAMES)
    moved = with_values(facts, {name: 2 * value for name, value in was.items()})
    assert values_of(moved, NAMES) == {name: 2 * value for name, value in was.items()}
    assert values_of(facts, NAMES) == was
    everywhere = with_values(facts, {"families.*.expert_spread": 0.25})
    assert {row.expert_spread.value for row in everywhere.families.values()} == {0.25}
    assert fact_of(everywhere, "families.*.expert_spread").value == 0.25
    with pytest.raises(KeyError):
        fact_of(facts, "families.hopper-bf16.family")
