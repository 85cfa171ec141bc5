"""Bands: none where nothing is unsure, wider where more is, the same on any worker count."""

from __future__ import annotations

import math

import numpy as np
import pytest

import factory_sim as fs
from factory_sim.catalog import calibration
from factory_sim.experiments.uncertainty import ESTIMATE_SPREAD, bands, draw_parameters, headlines
from factory_sim.scenario.scenario import Scenario


def scenario(system: str = "dgx-h100", *overrides: str) -> Scenario:
    return fs.load(
        None,
        [
            "duration=30 s",
            "warmup=5 s",
            f"racks.0.system={system}",
            "racks.0.count=1",
            "racks.0.servers_per_rack=1",
            "site.grid_limit=40 kW",
            "provisioning.oversubscribe=1",
            "workload.chat.arrivals={process: poisson, rate: 4 /s}",
            *overrides,
        ],
    )


def test_fitted_parameters_are_drawn_from_the_covariance_of_the_fit() -> None:
    fitted = calibration.shipped()
    name = "families.hopper-fp8.gemm_memory"
    place = fitted.names.index(name)
    draws = draw_parameters(scenario(), 4000)
    value = float(fitted.values[name])
    logs = [math.log(draw[name] / value) for draw in draws]
    assert np.median(logs) == pytest.approx(0.0, abs=0.01)
    # A share stays at most 1, so the upper half may be cut; the lower is not.
    below = -np.quantile(logs, 0.1587)
    assert below == pytest.approx(math.sqrt(fitted.covariance[place, place]), rel=0.1)


def test_an_estimate_is_drawn_wider_and_a_datasheet_figure_not_at_all() -> None:
    draws = draw_parameters(scenario("l40s-8"), 4000)
    name = "families.ada-fp8.per_layer"
    logs = np.log([draw[name] for draw in draws])
    assert np.std(logs) == pytest.approx(ESTIMATE_SPREAD, rel=0.05)
    assert not [name for name in draws[0] if name.startswith("accelerators")]


def test_bands_hold_the_value_and_are_the_same_on_any_number_of_workers() -> None:
    described = scenario()
    summary = fs.simulate(described).summary
    told: list[tuple[int, int]] = []
    alone = bands(described, summary, draws=4, progress=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert bands(described, summary, draws=4, workers=2) == alone
    values = headlines(summary)
    assert set(alone) == set(values)
    for path, (low, high) in alone.items():
        assert low <= values[path] <= high, path
    low, high = alone["tpot_ms.p50"]
    assert high > 1.02 * low


def test_nothing_unsure_no_band() -> None:
    """At light load the open stream decides the tokens per second, not the parameters."""
    described = scenario()
    low, high = bands(described, fs.simulate(described).summary, 3)["output_tokens_per_s"]
    assert high / low < 1.01


def test_a_time_of_layers_that_a_model_lacks_is_not_drawn() -> None:
    name = "engines.vllm-0.11.scan_per_mamba_layer"
    (deployment,) = scenario().deployments
    profile = f"deployments.{deployment}.engine.profile=vllm-0.11"
    hybrid = (f"deployments.{deployment}.model=nemotron-nano-9b-v2",)
    hybrid += (f"deployments.{deployment}.precision=bf16",)
    assert name not in draw_parameters(scenario("dgx-h100", profile), 1)[0]
    drawn = [draw[name] for draw in draw_parameters(scenario("dgx-h100", profile, *hybrid), 4000)]
    shipped = calibration.shipped()
    value = float(fs.load().facts.engines["vllm-0.11"].scan_per_mamba_layer.value)
    assert np.std(np.log(np.array(drawn) / value)) == pytest.approx(shipped.errors[name], rel=0.05)
