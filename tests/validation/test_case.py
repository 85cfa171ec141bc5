"""A case says what was measured; what is wrong in one is said by its own field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError
from factory_sim.factory.layout import lay_out
from factory_sim.validation.case import cases_from, read_cases, scenario_of
from factory_sim.validation.runner import run_cases

OPEN: dict[str, Any] = {
    "id": "one",
    "source": "made up",
    "gpu": "h100-sxm",
    "model": "llama-2-70b",
    "precision": "fp16",
    "parallelism": {"tp": 4},
    "engine": {"profile": "vllm", "max_num_seqs": 128, "max_num_batched_tokens": 2048},
    "load": {"kind": "open", "arrivals": "constant", "rate": "8 /s", "requests": 48},
    "lengths": {"prompt": 574.9, "output": 246, "cached": 559},
    "measured": {"e2e_mean_ms": 4678, "ttft_p50_ms": 55.2, "output_tok_s": 1955},
}


def problems(**changes: Any) -> list[str]:
    with pytest.raises(InputError) as error:
        cases_from([{**OPEN, **changes}], "f.yaml", Path())
    return [str(problem) for problem in error.value.problems]


def test_a_case_becomes_the_scenario_that_repeats_it() -> None:
    (case,) = cases_from([OPEN], "f.yaml", Path())
    scenario = scenario_of(case, load_catalog())
    served, sent = scenario.deployments["served"], scenario.workload["sent"]
    assert (served.model, served.parallelism.tp, served.replicas) == ("llama-2-70b", 4, 1)
    assert served.engine.max_num_batched_tokens == 2048
    assert sent.arrivals.process == "constant" and sent.arrivals.rate == 8.0
    assert sent.cached.fixed == 559
    assert sent.lengths.prompt.fixed == 575  # a measured mean is rounded to whole tokens


def test_expert_parallelism_without_data_parallelism_spans_the_attention_too() -> None:
    fields = {"model": "qwen3-235b-a22b", "parallelism": {"tp": 1, "ep": 8}}
    (case,) = cases_from([{**OPEN, **fields, "lengths": {"prompt": 9, "output": 9}}], "f", Path())
    parallel = scenario_of(case, load_catalog()).deployments["served"].parallelism
    assert (parallel.tp, parallel.ep) == (8, 8)


@pytest.mark.parametrize(
    ("model", "given", "meant"),
    [
        ("llama-3.1-70b", "fp16", "bf16"),
        ("llama-3.1-70b", "fp4", "nvfp4"),
        ("gpt-oss-120b", "fp4", "mxfp4"),
        ("gpt-oss-120b", "mxfp4", "mxfp4"),
    ],
)
def test_a_precision_by_its_common_name(model: str, given: str, meant: str) -> None:
    fields = {"gpu": "b200-sxm", "model": model, "precision": given}
    (case,) = cases_from([{**OPEN, **fields}], "f", Path())
    assert scenario_of(case, load_catalog()).deployments["served"].precision == meant


def test_data_parallelism_of_a_dense_model_is_replication() -> None:
    (case,) = cases_from([{**OPEN, "parallelism": {"tp": 2, "dp": 4}}], "f.yaml", Path())
    served = scenario_of(case, load_catalog()).deployments["served"]
    assert (served.replicas, served.parallelism.dp) == (4, 1)


def test_data_parallelism_of_experts_is_one_replica_of_ranks() -> None:
    fields = {"model": "qwen3-30b-a3b", "parallelism": {"tp": 2, "dp": 2, "ep": 4}}
    (case,) = cases_from([{**OPEN, **fields}], "f.yaml", Path())
    served = scenario_of(case, load_catalog()).deployments["served"]
    spread = served.parallelism
    assert (served.replicas, spread.tp, spread.dp, spread.ep) == (1, 2, 2, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"measured": {"ttft_ms": 3}}, "measured.ttft_ms"),
        ({"measured": {"e2e_mean_ms": -1}}, "measured.e2e_mean_ms"),
        ({"measured": {"e2e_mean_ms": float("nan")}}, "measured.e2e_mean_ms"),
        ({"measured": {}}, "measured: must hold at least 1"),
        ({"load": {"kind": "opne"}}, "load.kind must be one of open, closed"),
        ({"load": {"kind": "closed", "concurrency": 4}}, "load.requests is required"),
        ({"load": {"kind": "static"}}, "load.batch is required"),
        ({"modle": "x"}, "did you mean 'model'?"),
        ({"engine": {"prefix_caching": False}}, "lengths.cached needs engine.prefix_caching"),
        ({"source": ""}, "source"),
    ],
)
def test_a_malformed_case_is_an_error_that_names_the_field(
    changes: dict[str, Any], said: str
) -> None:
    told = problems(**changes)
    assert any(said in line and line.startswith("f.yaml: one") for line in told), told


def test_every_problem_of_a_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text("- {id: a}\n- {id: a, source: b}\n- 3\n")
    with pytest.raises(InputError) as error:
        read_cases(file)
    told = "\n".join(map(str, error.value.problems))
    assert "this id is taken" in told and "must be a mapping" in told and "a: gpu" in told


@pytest.mark.parametrize("text", ["", "{}", "a: 1", "- [", "[]"])
def test_a_file_without_cases_is_an_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"must be a list of cases|is not valid YAML"):
        read_cases(file)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gpu": "h1000"}, "unknown accelerator"),
        ({"model": "lama"}, "unknown model"),
        ({"parallelism": {"tp": 2, "pp": 2, "dp": 2}, "model": "deepseek-v3"}, "leave out dp"),
        ({"parallelism": {"tp": 1}}, "does not fit"),
        ({"load": {"kind": "open", "requests": 3}}, "load.rate"),
        ({"parallelism": {"tp": 64}}, "scale-up domain"),
    ],
)
def test_what_cannot_be_simulated_is_listed_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    (outcome,) = run_cases(cases_from([{**OPEN, **changes}], "f.yaml", Path()))
    assert not outcome.simulated
    assert reason in outcome.reason


def test_prompts_computed_apart_are_a_pool_with_a_link() -> None:
    fields = {
        "model": "qwen3-30b-a3b",
        "parallelism": {"tp": 2, "ep": 2},
        "workers": 2,
        "prefill": {"workers": 3, "parallelism": {"tp": 1, "dp": 2, "ep": 2}, "link": "50 GB/s"},
        "measured": {"tpot_mean_ms": 10.0, "ttft_mean_ms": 20.0},
        "load": {"kind": "closed", "concurrency": 4, "requests": 8},
        "lengths": {"prompt": 100, "output": 10},
        "gpu": "b200-sxm",
    }
    (case,) = cases_from([{**OPEN, **fields}], "f.yaml", Path())
    assert case.all_gpus == 10
    scenario = scenario_of(case, load_catalog())
    served, network = scenario.deployments["served"], scenario.network
    assert served.prefill is not None and network is not None
    assert (served.replicas, served.prefill.replicas) == (2, 3)
    assert network.links["kv"].bandwidth == 50e9
    (outcome,) = run_cases([case])
    assert set(outcome.simulated) == {"tpot_mean_ms", "ttft_mean_ms"}


def test_a_pipeline_spreads_over_servers_where_a_stage_fits_into_one() -> None:
    (case,) = cases_from([{**OPEN, "parallelism": {"tp": 8, "pp": 2}}], "f.yaml", Path())
    scenario = scenario_of(case, load_catalog())
    assert scenario.deployments["served"].parallelism.gpus == case.gpus == 16
    (fleet,) = lay_out(scenario).fleets
    assert len({gpu.domain for gpu in fleet.replicas[0]}) == 2
