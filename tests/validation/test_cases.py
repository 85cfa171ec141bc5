"""The built-in cases: sound, broad, chosen by their stated rules, equal to the public tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from factory_sim.catalog import load_catalog
from factory_sim.factory.layout import lay_out
from factory_sim.validation import builtin
from factory_sim.validation.builtin import builtin_cases
from factory_sim.validation.case import Case, scenario_of
from factory_sim.validation.runner import run_cases
from factory_sim.validation.sources import SOURCES, source_cases

DATA = Path(__file__).parents[3] / "shared" / "data"
MEASURED = DATA / "measured"
needs_tables = pytest.mark.skipif(not MEASURED.is_dir(), reason="needs ../shared/data/measured")

CASES = builtin_cases()
FILES = sorted((Path(builtin.__file__).parent / "cases").glob("*.yaml"))
FACTS = load_catalog()


def row_of(case: Case) -> str:
    """Return the row of its source that a case repeats."""
    return case.source.rpartition("; row ")[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_case_can_be_simulated(case: Case) -> None:
    (fleet,) = lay_out(scenario_of(case, FACTS)).fleets
    assert fleet.memory.blocks * fleet.memory.block_tokens >= fleet.max_step_tokens > 0


def test_every_case_names_its_source_and_its_own_row() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert all("https://" in case.source.rpartition("; row ")[0] for case in CASES)
    assert len({row_of(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_opens_with_its_source_and_the_rule_of_its_choice(file: Path) -> None:
    head = file.read_text(encoding="utf-8").partition("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "Source: " in head and "Rule: " in head


def test_the_cases_span_what_users_run() -> None:
    assert 55 <= len(CASES) <= 75
    gpus = {"a100-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "rtx-pro-6000"}
    assert {case.gpu for case in CASES} == gpus
    assert {case.load["kind"] for case in CASES} == {"open", "closed", "offline", "static"}
    assert {case.weights(FACTS) for case in CASES} == {
        *("bf16", "fp8", "nvfp4", "mxfp4", "int4"),
    }
    sparse = [case for case in CASES if FACTS.model(case.model).moe is not None]
    assert len(sparse) >= 20 and len(CASES) - len(sparse) >= 20
    assert len({case.model for case in CASES}) >= 12
    metrics = [name for case in CASES for name in case.measured]
    for name in ("ttft_mean_ms", "tpot_mean_ms", "itl_p50_ms", "e2e_p99_ms", "prefill_ms"):
        assert metrics.count(name) >= 8, name
    for name in ("gpu_power_w", "energy_per_output_token_j", "server_power_w"):
        assert metrics.count(name) >= 4, name


def test_the_loads_are_light_and_heavy() -> None:
    at_once = [
        case.load.get("concurrency") or case.load.get("batch") or case.engine.max_num_seqs
        for case in CASES
        if case.load["kind"] != "open"
    ]
    assert sum(n <= 8 for n in at_once) >= 15 and sum(n >= 128 for n in at_once) >= 15
    assert any("overloaded" in case.note for case in CASES)


@pytest.mark.alone
@pytest.mark.slow
def test_the_cases_run_in_well_under_two_minutes() -> None:
    started = time.perf_counter()
    outcomes = run_cases(CASES, workers=2)
    assert time.perf_counter() - started < 60.0
    assert [(o.case.id, o.reason) for o in outcomes if o.reason] == []
    assert [o.case.id for o in outcomes if set(o.simulated) != set(o.case.measured)] == []


# With the tables at hand: the same figures, and the rows that the rules name.


def told(case: Case) -> dict[str, Any]:
    """Return what a case says, but for its name; a rate is rounded as in the files."""
    load = dict(case.load)
    if "rate" in load:
        load["rate"] = f"{float(load['rate'].removesuffix(' /s')):.3f} /s"
    if case.system is not None and load["kind"] == "open":
        load = {key: load[key] for key in ("kind", "arrivals", "rate")}  # how long: ours
    return {**case.model_dump(exclude={"id", "source", "note"}), "load": load}


def tables() -> dict[str, Case]:
    """Return the cases of every public table by their row."""
    return {
        case.id.removeprefix("openloop-"): case
        for name in SOURCES
        for case in source_cases(name, DATA)
    }


@needs_tables
def test_the_figures_are_those_of_the_public_tables() -> None:
    rows = tables()
    for case in CASES:
        row = rows[row_of(case)]
        if row.load["kind"] == "trace":
            assert case.measured == row.measured and case.engine == row.engine
            assert (case.gpu, case.model) == (row.gpu, row.model)
        else:
            assert told(case) == told(row), case.id


@needs_tables
def test_the_lengths_of_the_sharegpt_run_are_those_of_its_recording() -> None:
    (case,) = (case for case in CASES if case.gpu == "rtx-pro-6000")
    assert isinstance(case.lengths, dict)
    trace = pd.read_csv(DATA / "traces" / "llmservingsim" / "RTXPRO6000__Llama-3.1-8B.csv")
    for key, column, excess in (("prompt", "input_toks", 0.006), ("output", "output_toks", 0.003)):
        known, tokens = np.array(case.lengths[key]["quantiles"]).T
        assert known == pytest.approx(np.linspace(0.0, 1.0, 41))
        assert tokens == pytest.approx(np.quantile(trace[column], known), abs=0.051)
        mean = float(np.trapezoid(tokens, known))
        assert mean / trace[column].mean() - 1.0 == pytest.approx(excess, abs=0.0005)
    spearman = trace["input_toks"].corr(trace["output_toks"], method="spearman")
    assert case.lengths["rank_correlation"] == pytest.approx(spearman, abs=0.0005)
    assert case.load["requests"] == len(trace)
    rate = float(case.load["rate"].removesuffix(" /s"))
    assert rate == pytest.approx(len(trace) / trace["arrival_s"].max(), abs=0.0005)


def read(name: str) -> pd.DataFrame:
    """Return a table with its rows named as the cases of `sources` name them."""
    table = pd.read_csv(MEASURED / f"{name}.csv")
    if name == "aiconfigurator_silicon_e2e":
        named = table["precision"].notna()
        table = table[(table["quality"] == "measured; clean agg config") & named]
    if name == "vllm_h100_openloop":
        table["id"] = table["case"]
    repeats = table.groupby("id").cumcount()
    again = [f"|repeat-{n}" if n else "" for n in repeats]
    return table.assign(row=table["id"] + again, batch=table.get("batch_or_concurrency"))


def ends(table: pd.DataFrame, groups: list[str], order: list[str]) -> Iterator[str]:
    """Yield the first and the last row of each group."""
    for _, group in table.groupby(groups):
        rows = list(group.sort_values([*order, "row"])["row"])
        yield from (rows[0], rows[-1])


def of_openloop() -> Iterator[str]:
    yield from read("vllm_h100_openloop")["row"]


def of_mlenergy() -> Iterator[str]:
    table = read("mlenergy_v3_llm")
    chat = table["workload"] == "lm-arena-chat"
    mxfp4 = (table["workload"] == "gpqa") & (table["precision"] == "mxfp4")
    groups, order = ["gpu", "architecture", "precision"], ["batch", "total_params_b", "num_gpus"]
    yield from ends(table[chat | mxfp4], groups, order)
    yield "mlenergy3|lm-arena-chat|Llama-3.1-8B-Instruct|H100x1|tp1ep1dp1|bs16"  # claims/one_gpu


def of_inferencex() -> Iterator[str]:
    table = read("aiconfigurator_silicon_e2e")
    table = table[table["batch"] != 512]
    order = ["batch", "input_tokens", "output_tokens", "num_gpus", "row"]
    for turn, (_, group) in enumerate(table.groupby(["gpu", "model", "precision", "engine"])):
        rows = list(group.sort_values(order)["row"])
        yield rows[(0, len(rows) // 2, -1)[turn % 3]]


def of_splitwise() -> Iterator[str]:
    table = read("splitwise_perf_model")
    table = table[
        table["gpu"].isin(["A100-80GB", "H100"]) & ~((table["tp"] == 2) & (table["batch"] == 64))
    ]
    yield from ends(table, ["gpu", "tp"], ["batch", "input_tokens", "output_tokens"])


def of_llmservingsim() -> Iterator[str]:
    yield from read("llmservingsim_vllm")["row"]


def of_mlperf() -> Iterator[str]:
    table = read("mlperf_llm")
    yield from table[table["system_power_w"].notna()]["row"]


RULES: tuple[Callable[[], Iterator[str]], ...] = (
    *(of_inferencex, of_llmservingsim, of_mlenergy, of_mlperf, of_openloop, of_splitwise),
)


@needs_tables
def test_the_rows_are_those_that_the_stated_rules_choose() -> None:
    assert [row_of(case) for case in CASES] == [row for rule in RULES for row in rule()]
