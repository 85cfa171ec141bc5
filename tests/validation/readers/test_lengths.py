"""Lengths as tools report them, made into those of a scenario."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory_sim.errors import InputError
from factory_sim.frozen import validate
from factory_sim.scenario.lengths import Lengths
from factory_sim.validation.readers.lengths import (
    SHARES,
    Spread,
    lengths,
    of_percentiles,
    of_samples,
)
from factory_sim.workload.lengths import mean

FIXED = Spread(100.0)


def wrong(prompt: Spread, known: dict[str, Any], cached: float = 0.0) -> str:
    with pytest.raises(InputError) as caught:
        lengths("result.json", prompt, FIXED, known, cached)
    return str(caught.value)


def test_a_mean_is_a_number_and_a_distribution_keeps_its_mean() -> None:
    rng = np.random.default_rng(7)
    prompts = np.ceil(rng.lognormal(5.0, 1.2, 4000))
    exact = lengths("result.json", of_samples(prompts.tolist()), FIXED, None)
    assert exact["output"] == 100
    # As a summary has it: percentiles, and a longest prompt far out.
    inner = {share: float(np.quantile(prompts, share)) for share in SHARES}
    summed = of_percentiles(prompts.mean(), prompts.min(), prompts.max(), inner)
    assert lengths("result.json", summed, FIXED, None) == exact
    made = validate(Lengths, {"prompt": exact["prompt"], "output": 100})
    assert mean(made.prompt) == pytest.approx(prompts.mean(), rel=1e-3)
    points = dict(exact["prompt"]["quantiles"])
    for share in SHARES:
        assert points[share] == pytest.approx(np.quantile(prompts, share), abs=1e-3)
    # Straight lines between the percentiles would make prompts a tenth longer.
    straight = float(np.trapezoid([points[share] for share in SHARES], SHARES))
    assert straight > 1.1 * prompts.mean()


def test_a_distribution_with_many_long_requests_keeps_its_mean_too() -> None:
    prompts = 1000.0 - np.random.default_rng(7).exponential(100.0, 3000)
    found = lengths("result.json", of_samples(prompts.tolist()), FIXED, None)
    made = validate(Lengths, {"prompt": found["prompt"], "output": 100})
    assert mean(made.prompt) == pytest.approx(prompts.mean(), rel=1e-3)


def test_a_request_without_a_token_counts_as_one() -> None:
    found = lengths("result.json", of_samples([0.0, 3.0]), FIXED, None)["prompt"]
    assert found["quantiles"][0] == [0.0, 1.0]


def test_the_user_knows_the_distribution_behind_a_mean() -> None:
    known = {"prompt": {"uniform": {"low": 800, "high": 1000}}, "output": None, "cached": 64}
    found = lengths("result.json", Spread(903.2), FIXED, known)
    assert found == {"prompt": known["prompt"], "output": 100, "cached": 64}
    # A number adds nothing to a mean, nor a distribution to single requests.
    assert lengths("result.json", Spread(903.2), FIXED, {"prompt": 900})["prompt"] == 903.2
    singles = of_samples([900.0, 906.4])
    assert lengths("result.json", singles, FIXED, known)["prompt"] != known["prompt"]


def test_user_and_file_must_agree() -> None:
    assert wrong(Spread(903.2), {"prompt": 1024}) == (
        "lengths.prompt: result.json says 903.2 tokens in the mean, and you say 1024; leave yours "
        "out, or give the result of the run you mean"
    )
    assert wrong(Spread(1000.0), {"cached": 512}, cached=128.0) == (
        "lengths.cached: result.json says 128 tokens in the mean, and you say 512; leave yours "
        "out, or give the result of the run you mean"
    )


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        (
            {"inputs": 5},
            "lengths: must be a mapping such as {prompt: 1000, output: 200, cached: 0}",
        ),
        ({"cached": "half"}, "lengths.cached: must be a number of tokens, not 'half'"),
        (
            {"prompt": {"uniform": {"low": 9, "high": 3}}},
            "lengths.prompt.uniform: high (3) must be at least low (9)",
        ),
    ],
)
def test_lengths_that_are_none_are_named(known: dict[str, Any], problem: str) -> None:
    assert wrong(Spread(100.0), known) == problem
