"""Whole streams: mixes, cached tokens, seeds, means, and what leaves what alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import SeedSequence

from factory_sim.errors import InputError
from factory_sim.workload.means import mean_lengths
from factory_sim.workload.stream import draws, open_blocks, scripts, trace_reports
from tests.workload.making import CATALOG, HERE, requests, workload

POISSON = {"process": "poisson", "rate": "50 /s"}
NORMAL = {"prompt": {"lognormal": {"median": 500, "sigma": 1}}, "output": 5}
UNIFORM = {"prompt": {"uniform": {"low": 1, "high": 9}}, "output": 3}


def same(first: Any, second: Any, *names: str) -> bool:
    return all(getattr(first, n).tobytes() == getattr(second, n).tobytes() for n in names)


def test_the_same_seed_gives_the_same_requests_and_another_gives_others() -> None:
    spec = workload(arrivals=POISSON, lengths=NORMAL, cached={"uniform": {"low": 0, "high": 900}})
    first = requests(spec)
    assert same(first, requests(spec), *first._fields)
    assert not same(first, requests(spec, seed=2), "arrival_s")
    seed = SeedSequence(1)
    seed.spawn(3)  # what others have spawned from the seed must not matter
    again = list(open_blocks(spec, CATALOG, 100.0, seed, HERE))
    assert np.concatenate([part.prompt for part in again]).tobytes() == first.prompt.tobytes()


def test_a_change_of_lengths_leaves_arrivals_as_they_were() -> None:
    plain = requests(workload(arrivals=POISSON, lengths=NORMAL))
    longer = requests(workload(arrivals=POISSON, lengths=UNIFORM))
    assert same(plain, longer, "arrival_s")
    assert not same(plain, longer, "prompt")


def test_cached_tokens_leave_the_rest_as_it_was_and_stay_below_the_prompt() -> None:
    plain = requests(workload(arrivals=POISSON, lengths=NORMAL))
    cached = requests(workload(arrivals=POISSON, lengths=NORMAL, cached=400))
    assert same(plain, cached, "arrival_s", "prompt", "output")
    assert (cached.cached == np.minimum(400, cached.prompt - 1)).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), block=st.integers(1, 500))
def test_blocks_do_not_matter(seed: int, block: int) -> None:
    mix = {
        "chat": {"weight": {"sinusoid": {"mean": 1, "amplitude": 1, "period": "9 s"}}},
        "short": {"weight": 0.5, "lengths": UNIFORM, "cached": {"uniform": {"low": 0, "high": 9}}},
    }
    spec = workload(arrivals=POISSON, mix=mix)
    whole, cut = requests(spec, 10.0, seed), requests(spec, 10.0, seed, block)
    assert same(whole, cut, *whole._fields)
    assert (whole.prompt >= 1).all()
    assert (whole.output >= 1).all()
    assert ((whole.cached >= 0) & (whole.cached < whole.prompt)).all()
    assert (whole.session == -1).all()


@pytest.mark.parametrize(
    ("name", "prompt", "output"),
    [
        ("chat", 1155, 211),
        ("code", 2048, 28),
        ("summarise", 2588, 291),
        ("agent", 8759, 187),
        ("batch", 97, 1739),
    ],
)
def test_an_archetype_brings_its_own_lengths(name: str, prompt: float, output: float) -> None:
    spec = workload(arrivals=POISSON, mix={name: {"weight": 1}})
    assert mean_lengths(spec, CATALOG, HERE) == pytest.approx((prompt, output, 0.0), rel=0.03)


def test_a_mix_follows_its_weights_as_they_drift() -> None:
    mix = {
        "one": {
            "weight": {"steps": [["0 s", 1], ["50 s", 3]]},
            "lengths": {"prompt": 1, "output": 1},
        },
        "two": {"weight": 1, "lengths": {"prompt": 2, "output": 2}},
    }
    found = requests(workload(arrivals={"process": "constant", "rate": "400 /s"}, mix=mix))
    assert (found.prompt == found.archetype + 1).all()
    early = found.archetype[found.arrival_s < 50]
    late = found.archetype[found.arrival_s >= 50]
    assert early.mean() == pytest.approx(0.5, abs=0.01)
    assert late.mean() == pytest.approx(0.25, abs=0.01)
    spec = workload(arrivals=POISSON, mix=mix)
    assert mean_lengths(spec, CATALOG, HERE) == (1.5, 1.5, 0.0)
    assert mean_lengths(spec, CATALOG, HERE, duration_s=100.0) == (1.375, 1.375, 0.0)


def test_weights_that_vanish_together_are_an_error() -> None:
    mix = {"chat": {"weight": {"steps": [["0 s", 1], ["9 s", 0]]}}}
    with pytest.raises(InputError, match=r"^workload\.mix: the weights at 9\.\d+ s are \[0\.0\]"):
        requests(workload(arrivals=POISSON, mix=mix))


def test_draws_are_the_lengths_of_the_open_stream() -> None:
    fields: dict[str, Any] = {
        "lengths": NORMAL,
        "cached": {"uniform": {"low": 0, "high": 900}},
        "reasoning": {"share": "30 %", "tokens": 70},
        "images": {"share": "40 %", "tokens": 256},
    }
    closed = workload(arrivals={"process": "closed", "concurrency": 2}, **fields)
    opened = requests(workload(arrivals={"process": "offline", "requests": 10_000}, **fields))
    drawn = draws(closed, CATALOG, SeedSequence(1), HERE)
    columns = (opened.prompt, opened.output, opened.cached, opened.reasoning, opened.images)
    expected = zip(*(column.tolist() for column in columns), strict=True)
    assert [next(drawn) for _ in range(10_000)] == list(expected)


def test_a_closed_loop_has_no_arrivals_of_its_own() -> None:
    spec = workload(arrivals={"process": "closed", "concurrency": 2})
    with pytest.raises(ValueError, match="use draws"):
        open_blocks(spec, CATALOG, 10.0, SeedSequence(1), HERE)


@pytest.mark.parametrize(
    "lengths", ["azure-conv-2023", "azure-code-2023", NORMAL, UNIFORM, {"prompt": 9, "output": 2}]
)
def test_mean_lengths_are_the_means_of_what_is_drawn(lengths: Any) -> None:
    cached = {"uniform": {"low": 0, "high": 900}}
    spec = workload(
        arrivals={"process": "offline", "requests": 200_000}, lengths=lengths, cached=cached
    )
    found = requests(spec)
    means = mean_lengths(spec, CATALOG, HERE)
    assert found.prompt.mean() == pytest.approx(means[0], rel=0.015)
    assert found.output.mean() == pytest.approx(means[1], rel=0.015)
    assert found.cached.mean() == pytest.approx(means[2], rel=0.02)


def test_a_process_has_no_trace_to_report() -> None:
    assert trace_reports(workload(arrivals=POISSON), HERE) == []


def test_sessions_ask_what_their_means_say() -> None:
    """Every prompt is all that was asked and answered before, and what it asks."""
    sessions = {"turns": {"uniform": {"low": 1, "high": 12}}, "think_time": "9 s"}
    lengths = {"prompt": {"uniform": {"low": 1, "high": 99}}, "output": 40}
    spec = workload(
        arrivals={"process": "poisson", "rate": "1 /s"}, lengths=lengths, sessions=sessions
    )
    prompts, before, answers = [], [], []
    drawn = scripts(spec, CATALOG, SeedSequence(5), HERE)
    for _ in range(20_000):
        script = next(drawn)
        said = 0
        for asked, answer in zip(script.asked, script.answers, strict=True):
            prompts.append(said + asked)
            before.append(said)
            answers.append(answer)
            said += asked + answer
        assert set(script.pauses_s) == {9.0}
    means = np.mean(prompts), np.mean(answers), np.mean(before)
    assert means == pytest.approx(mean_lengths(spec, CATALOG, HERE), rel=0.02)
    prompt, output, cached = mean_lengths(spec, CATALOG, HERE, keeps=False)
    assert (prompt, output, cached) == (*mean_lengths(spec, CATALOG, HERE)[:2], 0.0)
