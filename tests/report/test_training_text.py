"""What training jobs did, as it is printed, and what they come to before a run."""

from __future__ import annotations

from pathlib import Path

from factory_sim.factory.check import check
from factory_sim.report.layout import rendered
from factory_sim.report.training import training
from factory_sim.scenario.load import load
from tests.report import synthetic

JOB = {
    "gpus": 64,
    "tokens_per_s": 46_712.3,
    "mfu": 0.3912,
    "goodput": 0.8011,
    "checkpoints": 4,
    "failures": 1,
    "energy_mwh": 0.03367,
    "lost_to_failures_s": 289.1,
}


def test_a_job_has_a_row() -> None:
    swing = {"amplitude_mw": 0.0249, "period_s": 16.33}
    whole = {"days": 12.4, "gpu_energy_mwh": 399.0}
    job = JOB | {"power_swing": swing, "whole_run": whole}
    text = list(rendered(training({"training": {"tune": job}})))
    assert text == [
        "                          GPUs  tokens/s    MFU  goodput  saves  failures    energy",
        "  tune                      64    46,700  39.1%    80.1%      4         1  33.7 kWh",
        "  goodput                share of the time in steps that count; saves:",
        "                         checkpoints; energy of GPU boards",
        "  tune, lost             4 min 49 s of work",
        "  tune, swing            24.9 kW at the boards every 16.3 s",
        "  tune, all tokens       12.4 days and 399 MWh at this pace",
        "  of the site            tokens/s per GPU and per MW, and J per token, count",
        "                         GPUs and watts of jobs",
    ]


def test_a_job_that_has_done_nothing_yet() -> None:
    job = {key: value for key, value in JOB.items() if key != "mfu"} | {"lost_to_failures_s": 0}
    assert len(list(rendered(training({"training": {"tune": job}})))) == 6
    assert list(rendered(training(synthetic.run(50).summary))) == []


def test_what_a_job_comes_to_before_a_run() -> None:
    root = Path(__file__).parents[2]
    rows = check(load(root / "configs" / "cotenant.yaml")).sections["Training tune"]
    assert rows["gpus"] == "64 NVIDIA H100 SXM5 80 GB: 4 data-parallel ranks of 8 x 2"
    assert rows["run"].startswith("8.47e+20 flops: 2e+09 tokens through 70.5 billion parameters")
    assert rows["checkpoint"] == "49.4 s after every 604 s of work (495 s would be best)"
    assert rows["failures"] == "one every 0.78 h; 229 s to restart"
    assert rows["expected"] == "75.7% of the time counts; the run takes 0.5 days"
