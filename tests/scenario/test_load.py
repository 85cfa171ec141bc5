"""Reading a scenario: overrides, units, names, and every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.scenario import built_in, to_yaml
from factory_sim.scenario.load import plain, scenario_from
from tests.factory.small import small_scenario


def problems(*overrides: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        fs.check(fs.load(None, overrides))
    return [str(problem) for problem in caught.value.problems]


def found(*overrides: str) -> list[str]:
    return [str(problem) for problem in fs.check(fs.load(None, overrides)).problems]


def test_the_resolved_scenario_reads_back_as_itself(tmp_path: Path) -> None:
    scenario = fs.load(None, ["site.grid_limit={steps: [[0 s, 180 kW], [5 min, 150 kW]]}"])
    saved = tmp_path / "scenario.yaml"
    saved.write_text(to_yaml(scenario))
    assert fs.load(saved) == scenario


def test_every_problem_is_said_at_once() -> None:
    assert problems("site.grid_limit=200", "site.pua=1", "workload.chat.arrivals.rate=-1 /s") == [
        "site.grid_limit: 200 is a bare number; write for example '20 MW'",
        "site.pua: unknown key; did you mean 'pue'?",
        "workload.chat.arrivals.rate: must be greater than 0, not '-1 /s'",
    ]


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("duration=10 kW", "duration: '10 kW' has the wrong unit; write for example"),
        ("warmup=20 min", "warmup: must be shorter than duration (600 s), not 1200 s"),
        ("deployments.chat.model=lama", "deployments.chat.model: unknown model 'lama'"),
        (
            "deployments.chat.parallelism.ep=3",
            "deployments.chat.parallelism: ep must divide tp (4)",
        ),
        (
            "deployments.chat.parallelism.expert_skew=1.0",
            "deployments.chat.parallelism: with ep: 1 ",
        ),
        (
            "deployments.chat.parallelism={tp: 2, ep: 2, redundant_experts: 2}",
            "deployments.chat.parallelism: redundant_experts only cost memory",
        ),
        (
            "deployments.chat.engine.speculation="
            "{num_speculative_tokens: 1, acceptance: 0.5, draft: eagel3}",
            "deployments.chat.engine.speculation.draft: unknown draft 'eagel3'; did you mean "
            "'eagle3'?",
        ),
        ("workload.chat.deployment=x", "workload.chat.deployment: there is no deployment 'x'"),
        ("deployments.chat.engine.max_num_batched_tokens=8", "deployments.chat.engine: max_num_ba"),
        ("racks.0.count=0", "racks.0.count: must be greater than 0, or 'fill', not 0"),
        ("racks.1.count=1", "--set racks.1: '1' is no index of a list of 1"),
        ("deployments.chat.engine.batching=static", "deployments.chat.engine: static batching"),
        (
            "deployments.chat.engine={batching: static, async_scheduling: true}",
            "deployments.chat.engine: static batching takes requests only when nothing runs",
        ),
        (
            "deployments.chat.replicas={simulate: many}",
            "deployments.chat.replicas.simulate: must be a whole number, not 'many'",
        ),
        ("deployments.chat.replicas=0", "deployments.chat.replicas: must be greater than 0, or 'f"),
        (
            "workload.chat.arrivals={process: stages, stages: [{rate: 5, duration: 1 s}]}",
            "workload.chat.arrivals.stages.0.rate: 5 is a bare number; write for example '150 /s'",
        ),
        (
            "workload.chat.arrivals="
            "{process: stages, stages: [{rate: 5 /s, duration: 1 s}], evenly: 1}",
            "workload.chat.arrivals.evenly: unknown key; did you mean 'evenly_spaced'?",
        ),
        (
            "workload.chat.arrivals.process=posson",
            "workload.chat.arrivals.process: must be one of 'constant', 'poisson', 'gamma', 'mmpp'",
        ),
        ("site.carbon=-1 g/kWh", "site.carbon: must be greater than or equal to 0, not '-1 g/kWh'"),
        (
            "catalog=/nowhere",
            "catalog: /nowhere is not a folder; give one that holds catalog files",
        ),
        ("site.cooling=air", "site: give either 'pue', such as 1.3, or 'cooling'"),
    ],
)
def test_a_field_is_named_with_what_would_work(override: str, start: str) -> None:
    (problem,) = problems(override)
    assert problem.startswith(start)


@pytest.mark.parametrize(
    ("override", "start"),
    [
        (
            "deployments.chat.parallelism.tp=64",
            "deployments.chat.replicas: a replica of 64 GPUs needs 64 GPUs in racks of 8-GPU",
        ),
        (
            "deployments.chat.parallelism.tp=3",
            "deployments.chat.parallelism.tp: must divide the 64",
        ),
        ("site.grid_limit=20 kW", "racks.0.count: no rack fits: one dgx-h100 rack needs 55.5 kW"),
        ("racks.0.count=8", "racks: need 444.0 kW at the meter (nameplate), more than"),
        (
            "deployments.chat.replicas=99",
            "deployments.chat.replicas: 99 replicas of 4 GPUs need 396",
        ),
        ("workload.chat.lengths=foo", "workload.chat.lengths: unknown lengths 'foo'"),
    ],
)
def test_what_cannot_be_built_says_by_how_much(override: str, start: str) -> None:
    (problem,) = found(override)
    assert problem.startswith(start)


def test_a_limit_below_idle_is_an_error() -> None:
    (problem,) = found("site.grid_limit={steps: [[0 s, 190 kW], [5 min, 30 kW]]}")
    assert problem.startswith("site.grid_limit: falls to 30.0 kW, but the racks draw 65.0 kW even")


def test_a_model_too_big_names_what_is_missing() -> None:
    (problem,) = found("deployments.chat.precision=bf16", "deployments.chat.parallelism.tp=1")
    assert "llama-3.1-70b does not fit: weights need 141.1 GB a GPU" in problem
    assert "GB are missing" in problem
    assert "max_num_seqs" not in problem


def test_states_too_many_for_the_memory_name_the_setting_that_mends_it() -> None:
    (problem,) = found(
        "deployments.chat.model=nemotron-nano-9b-v2",
        "deployments.chat.precision=bf16",
        "deployments.chat.parallelism.tp=1",
        "deployments.chat.engine.max_num_seqs=512",
    )
    assert "windows and states of max_num_seqs sequences 73.5 GB" in problem
    assert "a lower engine.max_num_seqs" in problem


def test_files_in_overrides_start_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scenario = fs.load(built_in("azure_chat"), ["workload.chat.arrivals.path=trace.csv"])
    assert scenario.workload["chat"].arrivals.path == str(tmp_path / "trace.csv")


def test_a_rent_is_read_back_as_it_was_written_a_word_or_a_price() -> None:
    for rent, kept in (("neocloud", "neocloud"), ("3.6 USD/h", "0.001 USD/s")):
        given = plain(small_scenario()) | {"costs": {"rent": rent}}
        assert plain(scenario_from(given))["costs"] == {"rent": kept}
        assert scenario_from(plain(scenario_from(given))) == scenario_from(given)
