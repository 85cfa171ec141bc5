"""A fitted engine profile: it finds a known engine again, and its file is a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError
from factory_sim.report.calibration import lines
from factory_sim.validation.case import Case, cases_from
from factory_sim.validation.profile import Profile, fit_profile, start_of, to_yaml
from factory_sim.validation.runner import run_cases

SHIPPED = load_catalog().engine("vllm")
TRUTH = {
    "engines.vllm.per_step": 2.5 * SHIPPED.per_step.value,
    "engines.vllm.per_sequence": 2.0 * SHIPPED.per_sequence.value,
}
"""A slower engine than the one set out from: multiples of it, so that a refit changes no test."""
LAYERS = {"llama-3.1-8b": 32, "qwen3-8b": 36}


def document(model: str, clients: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"{model}-{clients}",
        "source": "made by the engine itself",
        "gpu": "h100-sxm",
        "model": model,
        "engine": {"profile": "vllm"},
        "load": {"kind": "closed", "concurrency": clients, "requests": 3 * clients},
        "lengths": {"prompt": 100, "output": 60},
        "measured": {"tpot_mean_ms": 1.0, "ttft_mean_ms": 1.0},
    } | other


def measured(documents: list[dict[str, Any]]) -> list[Case]:
    outcomes = run_cases(cases_from(documents, "made", Path()), TRUTH)
    return [o.case.model_copy(update={"measured": o.simulated}) for o in outcomes]


@pytest.fixture(scope="module")
def profile() -> Profile:
    wanted = [document(m, n) for m in LAYERS for n in (1, 64)]
    broken = cases_from([document("llama-3.1-405b", 1)], "made", Path())
    return fit_profile([*measured(wanted), *broken], "ours", "vllm", "our benchmark", workers=2)


def test_it_comes_near_what_was_measured(profile: Profile) -> None:
    worst = [max(map(abs, o.errors.values())) for o in profile.before]
    assert min(worst) > 0.05
    assert max(abs(e) for o in profile.after for e in o.errors.values()) < 0.04
    assert max(abs(e) for o in profile.left_out for e in o.errors.values()) < 0.06
    assert profile.groups == "model"


def test_it_finds_the_times_of_the_engine_again(profile: Profile) -> None:
    figures = profile.figures
    per_sequence = TRUTH["engines.vllm.per_sequence"]
    assert figures["per_sequence"].value == pytest.approx(per_sequence, rel=0.1)
    # Time of a step and of its layers: models of 32 and 36 layers tell little but their sum.
    for layers in LAYERS.values():
        truth = TRUTH["engines.vllm.per_step"] + layers * SHIPPED.launch_per_layer.value
        found = figures["per_step"].value + layers * figures["launch_per_layer"].value
        assert found == pytest.approx(truth, rel=0.1)
    assert 0.1 < figures["per_step"].error < 1.0
    assert figures["per_sequence"].error < 0.2


def test_what_the_cases_do_not_feel_is_left_as_it_was(profile: Profile) -> None:
    routed = profile.figures["launch_per_moe_layer"]
    assert routed.error is None and routed.value == routed.before
    assert profile.figures["per_sequence"].error is not None


def test_a_case_that_cannot_be_run_is_said(profile: Profile) -> None:
    (unused,) = profile.unused
    assert unused.reason.startswith("parallelism.tp: llama-3.1-405b does not fit")
    assert "Not fitted to: cannot be run" in "\n".join(lines(profile))


def test_its_file_is_an_engine_profile(profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(to_yaml(profile, load_catalog()), encoding="utf-8")
    engine = load_catalog().engine(str(path))
    assert engine.name == "ours"
    per_sequence = profile.figures["per_sequence"]
    assert engine.per_sequence.value == pytest.approx(per_sequence.value, rel=1e-4)
    assert (engine.per_sequence.kind, engine.per_sequence.source) == ("calibrated", "our benchmark")
    assert engine.per_sequence.error == pytest.approx(per_sequence.error, rel=1e-2)
    assert engine.defaults == load_catalog().engine("vllm").defaults


def test_a_file_from_before_a_time_was_known_has_none_of_it(profile: Profile, tmp_path) -> None:
    (name, entry), *_ = yaml.safe_load(to_yaml(profile, load_catalog())).items()
    assert entry.pop("scan_per_mamba_layer")["value"] == "0.001 s"
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump({name: entry}), encoding="utf-8")
    fact = load_catalog().engine(str(path)).scan_per_mamba_layer
    assert (fact.value, fact.kind) == (0.0, "estimate") and "does not state it" in fact.source


def test_where_to_set_out_from() -> None:
    facts = load_catalog()
    cases = measured([document("llama-3.1-8b", 1)])
    assert start_of(cases, None, facts) == "vllm"
    assert start_of(cases, "trtllm", facts) == "trtllm"
    with pytest.raises(InputError, match="--like: unknown engine profile 'nobody'"):
        start_of(cases, "nobody", facts)
    two = cases_from(
        [document("llama-3.1-8b", 1), document("qwen3-8b", 1, engine={"profile": "sglang"})],
        "made",
        Path(),
    )
    with pytest.raises(InputError, match="the cases name sglang, vllm; say which"):
        start_of(two, None, facts)


def test_a_profile_without_host_time_cannot_be_set_out_from() -> None:
    cases = measured([document("llama-3.1-8b", 1)])
    with pytest.raises(InputError, match="all zero"):
        fit_profile(cases, "ours", "ideal", "x")
