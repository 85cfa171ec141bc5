"""Lengths: each distribution against its own formula, the built-in tables against their traces."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from scipy import stats
from scipy.special import ndtr, ndtri

from factory_sim.errors import InputError
from factory_sim.frozen import validate
from factory_sim.scenario.lengths import Lengths, Quantiles
from factory_sim.workload.lengths import (
    PER_UNIT,
    REACH,
    ByNormal,
    Copula,
    Curve,
    mean,
    quantile,
    sampler,
)
from tests.workload.making import CATALOG, HERE, TRACES, needs_traces

SAMPLES = Path(__file__).parent / "samples"
MIDDLES = (np.arange(200_000) + 0.5) / 200_000


def length(form: Any) -> Any:
    return validate(Lengths, {"prompt": form, "output": 1}).prompt


def drawn(form: Any) -> Any:
    return quantile(length(form), MIDDLES)


def test_fixed() -> None:
    assert set(drawn(7)) == {7}
    assert mean(length(7)) == 7.0


def test_uniform_takes_every_whole_number_equally() -> None:
    tokens, counts = np.unique(drawn({"uniform": {"low": 3, "high": 7}}), return_counts=True)
    assert tokens.tolist() == [3, 4, 5, 6, 7]
    assert counts.tolist() == [40_000] * 5
    assert mean(length({"uniform": {"low": 3, "high": 7}})) == 5.0


@pytest.mark.parametrize(
    "spread",
    [
        {"median": 300, "sigma": 0.8},
        {"median": 300, "p99": 300 * np.exp(0.8 * 2.3263478740408408)},
        {"mean": 300 * np.exp(0.32), "sigma": 0.8},
        {"mean": 300 * np.exp(0.32), "p99": 300 * np.exp(0.8 * 2.3263478740408408)},
    ],
)
def test_a_lognormal_is_the_same_however_it_is_given(spread: dict[str, float]) -> None:
    form = length({"lognormal": spread})
    assert form.lognormal.log_parameters() == pytest.approx((np.log(300), 0.8), rel=1e-12)
    assert np.median(drawn({"lognormal": spread})) == 300
    assert mean(form) == pytest.approx(300 * np.exp(0.32), rel=1e-12)


def test_a_lognormal_is_cut_at_its_most_and_never_below_one() -> None:
    tokens = drawn({"lognormal": {"median": 20, "sigma": 2, "max": 100}})
    assert (tokens.min(), tokens.max()) == (1, 100)
    form = length({"lognormal": {"median": 400, "sigma": 1, "max": 1000}})
    assert mean(form) == pytest.approx(quantile(form, MIDDLES).mean(), rel=1e-4)


def test_quantiles_run_straight_between_their_points() -> None:
    form = {"quantiles": [[0, 10], [0.5, 20], [1, 100]]}
    shares = np.array([1e-12, 0.25, 0.5, 0.75, 1 - 1e-12])
    assert quantile(length(form), shares).tolist() == [10, 15, 20, 60, 100]
    assert mean(length(form)) == 0.5 * 15 + 0.5 * 60


@settings(max_examples=100, deadline=None)
@given(
    inner=st.sets(st.floats(1e-9, 1 - 1e-9), max_size=40),
    scale=st.sampled_from([1.0, 1e-3, 1e-7]),  # many points close to each other, too
    seed=st.integers(0, 2**32),
)
def test_a_curve_is_numpys_to_the_last_bit(inner: set[float], scale: float, seed: int) -> None:
    rng = default_rng(seed)
    known = np.unique([0.0, *(share * scale for share in inner), 1.0])
    values = np.sort(rng.random(len(known))) * 1e5
    shares = np.concatenate([rng.random(200), rng.random(200) * scale, known])
    found = Curve(tuple(zip(known.tolist(), values.tolist(), strict=True))).at(shares)
    assert found.tobytes() == np.interp(shares, known, values).tobytes()


@pytest.mark.parametrize(
    "form",
    [
        7,
        {"uniform": {"low": 1, "high": 10}},  # one number ends where a cell does
        {"uniform": {"low": 1, "high": 1_000_000}},
        {"lognormal": {"median": 300, "sigma": 0.8}},
        {"lognormal": {"median": 300, "sigma": 0}},
        {"quantiles": [[0, 2], [0.4, 456], [0.5, 456], [0.5001, 703], [0.9, 862.5], [1, 14050]]},
    ],
)
def test_tokens_that_are_looked_up_are_those_worked_out(form: Any) -> None:
    ends = np.arange(-REACH * PER_UNIT, REACH * PER_UNIT + 1) / PER_UNIT
    beside = [np.nextafter(ends, far) for far in (-np.inf, np.inf)]
    far = [-37.0, -4.5, 4.5, 7.0]
    normals = np.concatenate([ends, *beside, far, default_rng(3).standard_normal(50_000)])
    looked_up = ByNormal(length(form)).at(normals)
    assert looked_up.tolist() == quantile(length(form), ndtr(normals)).tolist()


@pytest.mark.parametrize("rank_correlation", [-0.7, 0.0, 0.4, 1.0])
def test_prompt_and_output_have_the_rank_correlation_asked_for(rank_correlation: float) -> None:
    form = {"lognormal": {"median": 5000, "sigma": 1}}
    given = {"prompt": form, "output": form, "rank_correlation": rank_correlation}
    normals = default_rng(3).standard_normal((100_000, 2))
    prompt, output = Copula(validate(Lengths, given)).draw(normals)
    assert stats.spearmanr(prompt, output)[0] == pytest.approx(rank_correlation, abs=0.01)


def test_the_correlation_leaves_the_prompts_alone() -> None:
    form = {"lognormal": {"median": 500, "sigma": 1}}
    normals = default_rng(3).standard_normal((1000, 2))
    apart = Copula(validate(Lengths, {"prompt": form, "output": form})).draw(normals)
    together = Copula(
        validate(Lengths, {"prompt": form, "output": form, "rank_correlation": 0.5})
    ).draw(normals)
    assert (apart[0] == together[0]).all()
    assert (apart[1] != together[1]).any()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        sampler("azure-conv", CATALOG, HERE, "workload.chat.lengths")
    assert str(caught.value) == (
        "workload.chat.lengths: unknown lengths 'azure-conv'; did you mean 'azure-conv-2023'? "
        "known: alibaba-batch-generation, arxiv-summarization, azure-code-2023, azure-conv-2023, "
        "mooncake-conversation, mooncake-toolagent"
    )


def measured(name: str) -> tuple[Any, Any]:
    if name == "mooncake-conversation":
        with gzip.open(TRACES / "mooncake" / "conversation_trace.jsonl.gz") as file:
            rows = [json.loads(line) for line in file]
        return (
            np.array([row["input_length"] for row in rows]),
            np.array([row["output_length"] for row in rows]),
        )
    files = {
        "azure-conv-2023": TRACES / "azure2023_conv.csv",
        "azure-code-2023": TRACES / "azure2023_code.csv",
        "arxiv-summarization": TRACES / "vidur_arxiv_summarization.csv",
    }
    table = pd.read_csv(files.get(name, SAMPLES / f"{name}.csv"))
    return table.input_toks.to_numpy(), table.output_toks.to_numpy()


def normal_score_correlation(first: Any, second: Any) -> float:
    scores = [ndtri((stats.rankdata(x) - 0.5) / len(x)) for x in (first, second)]
    return float(np.corrcoef(scores)[0, 1])


SAMPLED = ("alibaba-batch-generation", "mooncake-toolagent")
NAMES = [
    name if name in SAMPLED else pytest.param(name, marks=needs_traces)
    for name in sorted(CATALOG.lengths)
]


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_table_is_the_quantiles_of_its_trace(name: str) -> None:
    made = sampler(name, CATALOG, HERE, "lengths")
    assert isinstance(made, Copula)
    for form, trace in zip((made.lengths.prompt, made.lengths.output), measured(name), strict=True):
        assert isinstance(form, Quantiles)
        shares, tokens = np.array(form.quantiles).T
        method, near = ("hazen", 0.03) if name in SAMPLED else ("linear", 0.01)
        assert np.allclose(tokens, np.quantile(trace, shares, method=method), rtol=1e-5)
        assert mean(form) == pytest.approx(trace.mean(), rel=near)
        sampled = quantile(form, MIDDLES)
        assert sampled.mean() == pytest.approx(trace.mean(), rel=near)
        assert sampled.std() == pytest.approx(trace.std(), rel=2 * near)
        assert stats.ks_2samp(sampled, trace).statistic < 0.009


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_table_keeps_the_correlation_of_its_trace(name: str) -> None:
    normals = default_rng(5).standard_normal((100_000, 2))
    sampled = sampler(name, CATALOG, HERE, "lengths").draw(normals)
    assert normal_score_correlation(*sampled) == pytest.approx(
        normal_score_correlation(*measured(name)), abs=0.015
    )


def test_the_normal_scores_of_a_copula_are_its_normals() -> None:
    normals = default_rng(1).standard_normal((1000, 2))
    assert np.allclose(ndtri(ndtr(normals)), normals)
