"""What a case measures is what its words say: checked where arithmetic alone gives the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory_sim.catalog import load_catalog
from factory_sim.factory.build import roofline
from factory_sim.factory.layout import lay_out
from factory_sim.physics.step_time import Chunk
from factory_sim.validation.case import Case, cases_from, scenario_of
from factory_sim.validation.measure import simulate_case
from factory_sim.validation.runner import run_cases
from tests.validation.test_case import OPEN


def case(**changes: Any) -> Case:
    (made,) = cases_from([{**OPEN, "id": "x", **changes}], "f", Path())
    return made


def static(batch: int = 4, prompt: int = 300, output: int = 50) -> Case:
    return case(
        model="llama-3.1-8b",
        parallelism={},
        engine={"profile": "ideal"},
        load={"kind": "static", "batch": batch},
        lengths={"prompt": prompt, "output": output},
        measured={"prefill_ms": 1, "tpot_mean_ms": 1, "output_tok_s": 1, "gpu_power_w": 1},
    )


def test_a_static_batch_prefills_at_once_and_then_decodes() -> None:
    facts = load_catalog()
    made = static()
    (fleet,) = lay_out(scenario_of(made, facts)).fleets
    step = roofline(fleet, 1.0)
    prefill_s = step.mixed(0, 0, 0, [Chunk(0, 300)] * 4, 4).duration_s
    contexts = [4 * (300 + made_so_far) for made_so_far in range(1, 50)]
    decode_s = [step.decode(4).duration_s + c * step.per_context.duration_s for c in contexts]
    found = simulate_case(made, facts)
    assert found["prefill_ms"] == pytest.approx(1e3 * prefill_s, rel=1e-9)
    assert found["tpot_mean_ms"] == pytest.approx(1e3 * sum(decode_s) / 49, rel=1e-9)
    whole_s = prefill_s + sum(decode_s)
    assert found["output_tok_s"] == pytest.approx(4 * 50 / whole_s, rel=1e-9)


def test_energy_per_token_is_power_over_tokens_per_second() -> None:
    measured = {"gpu_power_w": 1, "output_tok_s": 1, "energy_per_output_token_j": 1}
    found = simulate_case(case(measured=measured), load_catalog())
    joules = 4 * found["gpu_power_w"] / found["output_tok_s"]
    assert found["energy_per_output_token_j"] == pytest.approx(joules, rel=1e-9)


def test_energy_is_that_of_the_servers_where_their_watts_were_measured() -> None:
    measured = {"server_power_w": 1, "output_tok_s": 1, "energy_per_output_token_j": 1}
    found = simulate_case(case(measured=measured), load_catalog())
    joules = found["server_power_w"] / found["output_tok_s"]
    assert found["energy_per_output_token_j"] == pytest.approx(joules, rel=1e-9)
    assert found["server_power_w"] > 4 * 80.0 + 1000.0  # half its GPUs, and the host


def test_a_steady_load_is_measured_without_its_ramps() -> None:
    """With one length for all, the steady rate is that of the full batch; the tail is slower."""
    load = {"kind": "closed", "concurrency": 8, "requests": 20}
    lengths = {"prompt": 100, "output": {"uniform": {"low": 50, "high": 350}}}
    whole, steady = (
        simulate_case(case(load={**load, **extra}, lengths=lengths), load_catalog())
        for extra in ({}, {"steady": True})
    )
    assert steady["output_tok_s"] > 1.1 * whole["output_tok_s"]


def test_a_load_may_be_steady_as_soon_as_all_answer() -> None:
    """From first tokens on, contexts are short at first: steps are shorter than in a settled mix.

    ITL is that of the whole run, whose tail runs with fewer sequences.
    """
    load = {"kind": "offline", "requests": 24}
    lengths = {"prompt": 100, "output": {"uniform": {"low": 1000, "high": 3500}}}
    engine = {"profile": "ideal", "max_num_seqs": 8}
    measured = {"output_tok_s": 1, "itl_p50_ms": 1}
    whole, begun, settled = (
        simulate_case(
            case(load={**load, **extra}, lengths=lengths, engine=engine, measured=measured),
            load_catalog(),
        )
        for extra in ({}, {"steady": "begun"}, {"steady": True})
    )
    assert begun["itl_p50_ms"] == whole["itl_p50_ms"] < settled["itl_p50_ms"]
    assert begun["output_tok_s"] > settled["output_tok_s"] > whole["output_tok_s"]


def test_steady_is_a_word_we_know() -> None:
    with pytest.raises(ValueError, match=r"load\.steady must be true, false or begun"):
        case(load={"kind": "offline", "requests": 24, "steady": "beginning"})


def test_too_short_a_steady_load_says_so() -> None:
    load = {"kind": "closed", "concurrency": 8, "requests": 8, "steady": True}
    (outcome,) = run_cases([case(load=load)])
    assert "take several times 8" in outcome.reason


def test_the_clock_of_a_benchmark_stops_with_the_last_answer() -> None:
    """Two lonely requests, 100 s apart: the time between them, and the second one's answer."""
    load = {"kind": "open", "arrivals": "constant", "rate": "0.01 /s", "requests": 2}
    found = simulate_case(case(load=load), load_catalog())
    seconds = 100.0 + found["e2e_mean_ms"] / 1e3
    assert found["output_tok_s"] == pytest.approx(2 * 246 / seconds, rel=1e-9)


def test_the_same_outcomes_on_any_number_of_workers() -> None:
    cases = [static(batch) for batch in (1, 2, 3, 5, 8, 13)]
    renamed = [c.model_copy(update={"id": f"c{n}"}) for n, c in enumerate(cases)]
    told: list[int] = []
    alone = run_cases(renamed, progress=told.append)
    assert told == [1, 2, 3, 4, 5, 6]
    assert run_cases(renamed, workers=2) == alone
