"""Weights that a GPU cannot multiply: refused, or unpacked to bf16 where the user says so."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from factory_sim.catalog import Precision
from factory_sim.catalog.catalog import load_catalog
from factory_sim.errors import InputError
from factory_sim.factory.build import roofline
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.fleets.precision import multiplied_in
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import simulate
from factory_sim.frozen import validate
from factory_sim.physics.arithmetic import layer_weights
from factory_sim.physics.step_time import make_chunk
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario

CATALOG = load_catalog()
WEIGHTS = get_args(Precision)


def told(fallback: bool) -> Deployment:
    return validate(Deployment, {"model": "llama-3.1-8b", "precision_fallback": fallback})


def on(system: str, precision: str, **more: object) -> Scenario:
    given = small_scenario().model_dump(mode="json", by_alias=True, exclude_none=True)
    given["racks"] = [{"system": system, "count": 1, "servers_per_rack": 1}]
    given["deployments"]["d"] |= {"precision": precision, **more}
    return validate(Scenario, given)


@pytest.mark.parametrize(("gpu", "weights"), [*product(sorted(CATALOG.accelerators), WEIGHTS)])
def test_every_pair_of_the_catalogue(gpu: str, weights: Precision) -> None:
    """A pair whose arithmetic has a rate is multiplied so; all others ask for the fallback, and
    then are multiplied in bf16."""
    accelerator = CATALOG.accelerator(gpu)
    if weights in accelerator.flops or weights == "fp32":
        assert multiplied_in("d", accelerator, weights, told(False), CATALOG) == weights
        with pytest.raises(InputError, match=r"^d\.precision_fallback: .* multiplies .* itself"):
            multiplied_in("d", accelerator, weights, told(True), CATALOG)
    elif weights == "bf16":
        assert accelerator.announced  # its bf16 rate is not published, and `need` says so
    else:
        with pytest.raises(InputError, match=rf"^d\.precision: a {gpu} multiplies .* no {weights}"):
            multiplied_in("d", accelerator, weights, told(False), CATALOG)
        assert multiplied_in("d", accelerator, weights, told(True), CATALOG) == "bf16"


def test_who_refuses_says_what_would_work() -> None:
    with pytest.raises(InputError) as error:
        lay_out(on("dgx-h100", "nvfp4"))
    assert str(error.value) == (
        "deployments.d.precision: a h100-sxm multiplies fp32, bf16, fp8, int8 and no nvfp4; say "
        "'precision_fallback: true' to read the weights as nvfp4 and multiply them in bf16, take "
        "one of these precisions, or racks with another GPU, such as b200-sxm"
    )


def test_unpacked_weights_read_fewer_bytes_and_multiply_no_faster() -> None:
    """On an A100 a step of one token saves the time of half the layers' bytes; a long prompt takes
    as long as in bf16 (vLLM pull request 5975: up to twice as fast where memory binds)."""
    fleets = {}
    for precision in ("bf16", "fp8"):
        more = {"precision_fallback": True} if precision == "fp8" else {}
        (fleets[precision],) = lay_out(on("dgx-a100", precision, **more)).fleets
    bf16, fp8 = fleets["bf16"], fleets["fp8"]
    assert fp8.chip.flops == bf16.chip.flops
    assert (bf16.weight_only, fp8.weight_only) == (None, "bf16")
    assert fp8.shard.bytes_per_weight == bf16.shard.bytes_per_weight / 2
    assert fp8.memory.blocks > bf16.memory.blocks
    saved_s = layer_weights(bf16.model) / (bf16.chip.gemm_memory * bf16.chip.bandwidth)
    assert _seconds(bf16, 1) - _seconds(fp8, 1) == pytest.approx(saved_s, rel=1e-6)
    assert saved_s > 0.2 * _seconds(bf16, 1)
    assert _seconds(fp8, 4096) == pytest.approx(_seconds(bf16, 4096), rel=1e-6)


def _seconds(fleet: Fleet, prompt: int) -> float:
    return roofline(fleet, 1.0).mixed(0, 0, 0, [make_chunk((0, prompt))], 1).duration_s


def test_a_run_says_what_it_could_not_multiply() -> None:
    run = simulate(on("dgx-a100", "fp8", precision_fallback=True))
    assert run.record["weight_only"] == {"d": {"weights": "fp8", "multiplied_in": "bf16"}}
    assert "weight_only" not in simulate(on("dgx-h100", "fp8")).record
