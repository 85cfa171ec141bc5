"""`factory-sim calibrate`: a profile out of cases and of results, and the refit of what ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from factory_sim.catalog import calibration, load_catalog
from factory_sim.validation import catalog_fit
from factory_sim.validation.targets import left_out_by_model
from tests.cli.test_validate import CASE
from tests.validation.readers.test_vllm_bench import SUMMARY

OURS = [
    CASE | {"id": f"n{n}", "load": {"kind": "closed", "concurrency": n, "requests": 2 * n}}
    for n in (1, 16)
]


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(OURS))
    return path


def test_a_profile_is_fitted_written_and_can_be_named(cases, factory_sim_command):
    code, out, err = factory_sim_command(
        *("calibrate", "mine.yaml", "--engine", "ours", "--gpu", "h100-sxm", "-o", "my.yaml")
    )
    assert (code, err) == (0, "")
    assert "before" in out and "left out" in out and "standard error" in out
    assert out.endswith("engine profile: my.yaml; in a scenario, engine: {profile: my.yaml}\n")
    assert load_catalog().engine("my.yaml").name == "ours"
    scenario = cases.with_name("s.yaml")
    scenario.write_text(
        yaml.safe_dump([OURS[0] | {"engine": {"profile": "my.yaml"}, "id": "under-it"}])
    )
    code, out, _ = factory_sim_command("validate", "s.yaml", "--workers", "1")
    assert code == 0 and "1 of 1 cases run" in out


def test_results_of_a_tool_become_cases(cases, factory_sim_command):
    Path("result.json").write_text(json.dumps(SUMMARY))
    told = ("--gpu", "h100-sxm", "--precision", "bf16", "--tp", "1", "--max-num-seqs", "64")
    code, out, err = factory_sim_command(
        "calibrate", "--from-vllm-bench", "result.json", *told, "--write-cases", "made.yaml"
    )
    assert (code, err) == (0, "") and out == "cases: made.yaml, 1 of them\n"
    (made,) = yaml.safe_load(Path("made.yaml").read_text())
    assert made["measured"]["ttft_mean_ms"] == SUMMARY["mean_ttft_ms"]
    code, _, err = factory_sim_command(
        "calibrate", "--from-vllm-bench", "result.json", "--write-cases", "made.yaml"
    )
    assert code == 2 and "--tp 1" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "x.yaml"), "CASES: name a file"),
        (("mine.yaml",), "-o: name the file to write"),
        (("mine.yaml", "-o", "x.txt"), "must end in .yaml"),
        (("mine.yaml", "-o", "x.yaml", "--like", "nobody"), "unknown engine profile 'nobody'"),
        (("mine.yaml", "-o", "x.yaml", "--gpu", "abacus"), "--gpu"),
        (("mine.yaml", "-o", "x.yaml", "--gpu", "b200-sxm"), "holds no case of b200-sxm"),
        (("mine.yaml", "-o", "x.yaml", "--tp", "2"), "cases say it themselves"),
        (("mine.yaml", "-o", "x.yaml", "--engine", "a/b"), "is no name of a profile"),
        (("mine.yaml", "-o", "x.yaml", "--left-out", "l.json"), "goes with --catalog"),
        (("mine.yaml", "-o", "x.yaml", "--only", "power"), "goes with --catalog"),
        (("mine.yaml", "--catalog", ".", "-o", "x.yaml"), "has no part in --catalog"),
        (("--catalog", ".", "-o", "x.yaml", "--only", "mamba"), "--only: must be one of step-ti"),
        (("--catalog", ".", "-o", "x.yaml"), "lacks the table"),
    ],
)
def test_bad_use_is_one_clear_error(options, said, cases, factory_sim_command):
    code, out, err = factory_sim_command("calibrate", *options)
    assert (code, out) == (2, "")
    assert said in err and "Traceback" not in err
    assert not Path("x.yaml").exists()


@pytest.mark.parametrize(
    ("options", "beside"),
    [((), "fits/left_out.json"), (("--left-out", "l.json"), "l.json")],
)
def test_the_refit_writes_calibration_and_what_was_left_out(
    options, beside, cases, factory_sim_command, monkeypatch
):
    monkeypatch.setattr(catalog_fit, "fit_all", lambda data, *others: [data, *others])
    monkeypatch.setattr(catalog_fit, "text_of", lambda stages, kept: f"fitted to {stages[0]}\n")
    monkeypatch.setattr(catalog_fit, "left_out", lambda *given: {"model": {"case": {"m": 0.5}}})
    code, out, err = factory_sim_command(
        "calibrate", "--catalog", "tables", "-o", "fits/c.yaml", *options
    )
    assert (code, err) == (0, "")
    assert out == f"calibration: fits/c.yaml\nerrors of each model left out: {beside}\n"
    assert Path("fits/c.yaml").read_text() == "fitted to tables\n"
    assert json.loads(Path(beside).read_text()) == {"model": {"case": {"m": 0.5}}}


def test_one_fit_repeated_leaves_what_others_have_seen(cases, factory_sim_command, monkeypatch):
    told = []
    monkeypatch.setattr(catalog_fit, "fit_all", lambda data, *others: told.append(others[-1]))
    monkeypatch.setattr(catalog_fit, "text_of", lambda stages, kept: f"beside {len(kept.names)}\n")
    anew = {"nemotron-nano-9b-v2": {"case": {"m": 0.5}}}
    monkeypatch.setattr(catalog_fit, "left_out", lambda *given: anew)
    code, out, err = factory_sim_command(
        "calibrate", "--catalog", "tables", "--only", "mamba-2", "-o", "c.yaml"
    )
    assert (code, err, told) == (0, "", ["mamba-2"])
    assert out.endswith("errors of nemotron-nano-9b-v2 left out anew: left_out.json\n")
    assert Path("c.yaml").read_text() == f"beside {len(calibration.shipped().names)}\n"
    assert json.loads(Path("left_out.json").read_text()) == left_out_by_model() | anew
