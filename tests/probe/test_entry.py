"""The folder that a probe writes: read by the catalogue, named by a scenario, honest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

import factory_sim
from factory_sim.catalog import Catalog, load_catalog
from factory_sim.errors import InputError
from factory_sim.probe import entry
from factory_sim.probe.figures import figures
from factory_sim.probe.measure import sweep
from tests.probe import made_up
from tests.probe.made_up import MadeUp

WHEN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOURCE = "factory-sim probe on NVIDIA Made-Up 1, driver 580.1, PyTorch 2.13.0, 2026-11-21"


def written(folder: Path, device: MadeUp, name: str | None = None) -> str:
    called = entry.entry_name(name, device)
    found = sweep(device, 60.0)
    drawn = figures(found, device.count, device.power_limit_w)
    entry.write(folder, called, device, found, drawn, WHEN)
    return called


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    written(tmp_path, MadeUp(count=8))
    return load_catalog(tmp_path)


def test_the_entry_is_measured_and_says_where(catalog: Catalog) -> None:
    found = catalog.accelerator("nvidia-made-up-1")
    facts = [*found.flops.values(), found.hbm, found.hbm_bandwidth, found.tdp, found.idle]
    facts += [found.scaleup_bandwidth, found.scaleup_gpus]
    assert {(fact.kind, fact.source) for fact in facts if fact} == {("measured", SOURCE)}
    assert found.flops["bf16"].value == pytest.approx(800e12, rel=1e-3)
    assert found.hbm_bandwidth.value == pytest.approx(4.3e12, rel=1e-3)
    assert found.hbm.value == 141e9
    assert found.flops["bf16"].note == "highest rate of any kernel; products at 1755 MHz"
    assert (found.need("tdp"), found.need("idle")) == (700.0, 76.0)
    assert found.need("scaleup_bandwidth") == pytest.approx(360e9, rel=1e-3)
    assert found.need("scaleup_gpus") == 8


def test_what_the_simulator_computes_with_is_what_was_measured(catalog: Catalog) -> None:
    chip, row = catalog.accelerator("nvidia-made-up-1"), catalog.efficiency
    for precision, rate in made_up.FLOPS.items():
        family = row("nvidia-made-up-1", precision)
        reached = chip.flops[precision].value * family.gemm_compute.value
        assert reached == pytest.approx(rate, rel=2e-3)
        reading = chip.hbm_bandwidth.value * family.gemm_memory.value
        assert reading == pytest.approx(made_up.WEIGHTS, rel=2e-3)
        cached = chip.hbm_bandwidth.value * family.kv_memory.value
        assert cached == pytest.approx(made_up.CACHE, rel=2e-3)
        assert family.allreduce_latency.value == pytest.approx(9e-6, rel=2e-3)
    curve = catalog.power_curve("nvidia-made-up-1")
    assert curve.compute_weight.value == pytest.approx(made_up.POWER.compute_weight, rel=0.02)


def test_what_was_not_measured_is_an_estimate(catalog: Catalog) -> None:
    bf16 = catalog.efficiency("nvidia-made-up-1", "bf16")
    fp8 = catalog.efficiency("nvidia-made-up-1", "fp8")
    assert {bf16.gemm_compute.kind, bf16.kv_memory.kind, bf16.network.kind} == {"measured"}
    assert {fp8.gemm_compute.kind, fp8.gemm_memory.kind} == {"measured"}
    assert {fp8.kv_memory.kind, fp8.attention_compute.kind} == {"estimate"}
    assert {bf16.per_layer.kind, bf16.elementwise_memory.kind} == {"estimate"}
    assert (bf16.per_layer.note, fp8.per_layer.note) == ("as hopper-bf16", "as hopper-fp8")
    curve = catalog.power_curve("nvidia-made-up-1")
    assert (curve.memory_weight.kind, curve.clock_exponent.kind) == ("measured", "estimate")


def test_what_a_device_does_not_show_stays_absent(tmp_path: Path) -> None:
    name = written(tmp_path, MadeUp(powered=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "accelerators.yaml",
        "efficiency.yaml",
        "probe.json",
    ]
    found = load_catalog(tmp_path).accelerator(name)
    assert found.tdp is found.idle is found.scaleup_bandwidth is None
    with pytest.raises(InputError, match="no published figure for 'tdp'"):
        found.need("tdp")
    assert load_catalog(tmp_path).efficiency(name, "bf16").network.kind == "estimate"


@pytest.mark.parametrize("kin", entry.KIN)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8", "int8", "nvfp4"])
def test_every_precision_has_a_row_to_take_the_rest_from(kin, precision) -> None:
    rows = load_catalog().families
    assert rows[entry.KIN[kin][precision]].per_layer.note != "as " + entry.KIN[kin][precision]
    assert kin in load_catalog().power


def test_under_a_name_of_the_catalogue_a_scenario_runs_on_the_figures(tmp_path: Path) -> None:
    written(tmp_path, MadeUp(count=8), "H200 SXM")
    site = yaml.safe_load(factory_sim_quickstart())
    site |= {"duration": "20 s", "warmup": "0 s", "catalog": str(tmp_path)}
    site["racks"] = [{"system": "dgx-h200", "count": "fill"}]
    path = tmp_path.parent / "site.yaml"
    path.write_text(yaml.safe_dump(site), encoding="utf-8")
    scenario = factory_sim.load(path)
    assert scenario.facts.system("dgx-h200").accelerator == "h200-sxm"
    assert scenario.facts.accelerator("h200-sxm").flops["fp8"].source == SOURCE
    run = factory_sim.simulate(scenario)
    assert run.summary["output_tokens_per_s"] > 0
    assert run.record["kinds"]["measured"] >= 12


def factory_sim_quickstart() -> str:
    from factory_sim.scenario.load import built_in

    return built_in("quickstart").read_text(encoding="utf-8")


def test_every_point_and_condition_is_kept(tmp_path: Path) -> None:
    device = MadeUp(count=8)
    written(tmp_path, device)
    kept = json.loads((tmp_path / "probe.json").read_text(encoding="utf-8"))
    assert kept["schema_version"] == entry.SCHEMA_VERSION
    assert kept["when"] == "2026-11-21T12:00:00+00:00"
    assert kept["conditions"] == device.conditions
    assert kept["left_out"] == {"nvfp4": "not on this one"}
    assert len(kept["points"]) == len(sweep(device, 60.0).points)
    product = next(p for p in kept["points"] if p["kind"] == "gemm" and p["rows"] == 8192)
    assert product["inner"] == 8192 and product["precision"] == "bf16"
    assert product["call_s"] == pytest.approx(2 * 8192**3 / 800e12)
    assert product["clock_hz"] == 1755e6 and product["limits"] == ["power limit"]
    assert kept["figures"]["gemm"]["bf16"]["residual"] < 1e-3
    assert len(kept["reductions"]) == len(device.sizes.reduced)
    assert "null" not in (tmp_path / "probe.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "device_name", "expected"),
    [
        (None, "NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        (None, "AMD EPYC (TM) 7B13", "amd-epyc-tm-7b13"),
        ("My GPU", "x", "my-gpu"),
        ("h100-sxm", "x", "h100-sxm"),
    ],
)
def test_an_entry_is_named_as_the_catalogue_names(given, device_name, expected) -> None:
    device = MadeUp()
    device.name = device_name
    assert entry.entry_name(given, device) == expected


@pytest.mark.parametrize("given", ["", "a/b", "..", "x: {y}"])
def test_a_name_that_cannot_be_asked_for_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="--name"):
        entry.entry_name(given, MadeUp())
