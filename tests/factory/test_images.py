"""Images in prompts: encoded once, in the step that computes the first of their prompt."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.errors import InputError
from factory_sim.factory.build import roofline
from factory_sim.factory.engine.images import Encodes
from factory_sim.factory.engine.request import Request
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out
from factory_sim.factory.replica import Speed
from factory_sim.factory.run import simulate
from factory_sim.frozen import validate
from factory_sim.physics.step_time import Cost, StepTime
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.means import mean_lengths
from tests.factory.side_by_side import Case, Toy, toy_power
from tests.factory.small import small_scenario
from tests.factory.test_exactness import TOYS, assert_same, cases
from tests.workload.making import CATALOG, HERE, requests, workload

IMAGES: dict[str, Any] = {"share": 0.5, "count": {"uniform": {"low": 1, "high": 3}}, "tokens": 64}
ONE: dict[str, Any] = {"process": "closed", "concurrency": 1, "requests": 1}


def seeing(images: dict[str, Any] | None = None, **deployment: Any) -> Scenario:
    """Return a small scenario of a model that sees."""
    more = deployment.pop("workload", {"arrivals": ONE})
    given = small_scenario(**more).model_dump(mode="json", by_alias=True, exclude_none=True)
    given["deployments"]["d"] |= {"model": "qwen3-vl-8b", **deployment}
    if images is not None:
        given["workload"]["w"]["images"] = images
    return validate(Scenario, given)


def test_a_prompt_waits_for_its_images() -> None:
    """Of 100 tokens of text and two images of 50, in one step: 10 ms, 1 ms a token, 30 an image."""

    def even(fleet: Fleet, clock: float) -> StepTime:
        return Toy(base=0.01, per_token=0.001, image=0.03, clock=clock)

    scenario = seeing({"count": 2, "tokens": 50})
    run = simulate(scenario, step_time=even, debug=True)
    (fleet,) = lay_out(scenario).fleets
    first_ms = 1e3 * fleet.host.per_request_s + 10.0 + 200.0 + 60.0
    columns = ["prompt_tokens", "images", "ttft_ms", "e2e_ms"]
    (row,) = run.requests[columns].itertuples(index=False)
    assert tuple(row) == pytest.approx((200, 2, first_ms, first_ms + 19 * 11.0), rel=1e-12)
    assert run.summary["images"] == {"share_of_requests": 1.0, "per_request": 2.0}
    assert "images" not in simulate(seeing(), step_time=even).summary


@cache
def speed_of(name: str, clock: float) -> Speed:
    return Speed(replace(TOYS[name], clock=clock, image=0.0137), toy_power(clock))


@st.composite
def with_images(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(["constant", "binary", "linear", "windowed"]))
    case = draw(cases(toys=(name,)))
    shown = [replace(asked, images=draw(st.integers(0, 3))) for asked in case.requests]
    return replace(case, requests=tuple(shown), speed_at=lambda clock: speed_of(name, clock))


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(with_images())
def test_macro_steps_equal_single_steps_with_images(case: Case) -> None:
    assert_same(case)


def test_an_encoder_takes_what_its_products_and_its_attention_take() -> None:
    """Of Qwen3-VL, 27 layers of 1,152 columns over 4 patches a token: 2 flops a weight and patch,
    and 4 a column, layer and pair of patches of an image, at the shares of peak of the GPU."""
    (fleet,) = lay_out(seeing({"tokens": 1000})).fleets
    encoder: Any = roofline(fleet, 1.0)
    chip, patches, columns, layers = fleet.chip, 4000, 1152, 27
    weights = layers * (4 * columns * columns + 2 * columns * 4304)
    for images in (1, 3):
        cost = encoder.encode(images)
        products_s = 2 * weights * patches * images / (chip.flops_bf16 * chip.gemm_compute)
        pairs = images * patches**2
        attention_s = 4 * columns * layers * pairs / (chip.flops_bf16 * chip.attention_compute)
        assert cost.compute_s == pytest.approx(products_s + attention_s, rel=1e-9)
        assert cost.host_s == pytest.approx(layers * chip.per_layer_s)
        assert cost.duration_s == pytest.approx(
            cost.compute_s + cost.memory_s + cost.host_s, rel=1e-9
        )
    without = lay_out(seeing()).fleets[0]
    held = fleet.memory.weight_bytes - without.memory.weight_bytes
    assert held == pytest.approx(2 * weights, rel=0.01)


def test_the_encoder_slows_those_who_decode_meanwhile() -> None:
    """The mean TPOT grows by what encoding takes of the time, rate times seconds of an image, and
    by what the longer stay of all adds to the batch."""
    load = {
        "workload": {"rate": "2 /s", "duration": "60 s", "lengths": {"prompt": 9, "output": 90}}
    }
    images = {"tokens": 1000}
    run = simulate(seeing(images, **load))
    (fleet,) = lay_out(seeing(images, **load)).fleets
    encoder: Encodes = roofline(fleet, 1.0)  # type: ignore[assignment]
    blind = simulate(
        seeing(images, **load), step_time=lambda fleet, clock: _Blind(roofline(fleet, clock))
    )
    share = 2 * encoder.encode(1).duration_s
    grown = run.summary["tpot_ms"]["mean"] / blind.summary["tpot_ms"]["mean"]
    assert 0.02 < share < grown - 1.0 < 1.6 * share


class _Blind:
    """A step time whose images take no time."""

    def __init__(self, step_time: StepTime) -> None:
        self._step_time = step_time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step_time, name)

    def encode(self, images: int) -> Cost:
        return Cost(0.0)


def test_images_leave_all_other_draws_as_they_are() -> None:
    fields: dict[str, Any] = {
        "arrivals": {"process": "poisson", "rate": "50 /s"},
        "lengths": "azure-conv-2023",
    }
    plain, shown = (requests(workload(**fields, **more)) for more in ({}, {"images": IMAGES}))
    assert np.array_equal(plain.output, shown.output)
    assert np.array_equal(plain.prompt, shown.prompt - 64 * shown.images)
    assert (shown.images > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert set(shown.images) == {0, 1, 2, 3}


def test_each_archetype_of_a_mix_has_images_of_its_own() -> None:
    """What shows nothing stays as it is, and the mean prompt counts each by its share."""
    text: dict[str, Any] = {"lengths": {"prompt": 100, "output": 5}}
    kinds: dict[str, Any] = {
        "chat": {"weight": 3, **text},
        "one": {"weight": 1, **text, "images": {"tokens": 64}},
        "some": {"weight": 1, **text, "images": {"share": 0.4, "count": 5, "tokens": 32}},
    }
    arrivals = {"process": "poisson", "rate": "200 /s"}
    spec = workload(arrivals=arrivals, mix=kinds)
    found = requests(spec)
    chat, one, some = (found.archetype == kind for kind in range(3))
    assert not found.images[chat].any()
    assert set(found.images[one]) == {1}
    assert set(found.images[some]) == {0, 5}
    assert (found.images[some] > 0).mean() == pytest.approx(0.4, abs=0.03)
    assert np.array_equal(found.prompt, 100 + found.images * np.where(some, 32, 64))
    prompt, _, _ = mean_lengths(spec, CATALOG, HERE)
    assert prompt == pytest.approx(100 + 0.2 * 64 + 0.2 * 0.4 * 5 * 32)
    assert found.prompt.mean() == pytest.approx(prompt, rel=0.02)
    bare = {kind: {k: v for k, v in own.items() if k != "images"} for kind, own in kinds.items()}
    plain = requests(workload(arrivals=arrivals, mix=bare))
    assert np.array_equal(plain.archetype, found.archetype)
    assert np.array_equal(plain.arrival_s, found.arrival_s)


def test_a_mix_is_served_with_its_images() -> None:
    """Beside images of another size at one deployment it is refused, where that is said."""
    text = {"lengths": {"prompt": 100, "output": 5}}
    mix = {"chat": {"weight": 1, **text}, "shown": {"weight": 1, **text, "images": {"tokens": 64}}}
    given = seeing().model_dump(mode="json", by_alias=True, exclude_none=True)
    del given["workload"]["w"]["lengths"]
    given["workload"]["w"] |= {"mix": mix, "arrivals": {"process": "poisson", "rate": "9 /s"}}
    run = simulate(validate(Scenario, given), debug=True)
    (fleet,) = lay_out(validate(Scenario, given)).fleets
    assert fleet.vision is not None
    shown = run.requests["archetype"] == 1
    assert (run.requests["images"] == shown).all()
    assert run.summary["images"]["share_of_requests"] == pytest.approx(shown.mean())
    mix["chat"]["images"] = {"tokens": 65}
    told = r"w\.mix\.shown\.images\.tokens: all images sent to d are of one size so far.* 64, 65"
    with pytest.raises(InputError, match=told):
        lay_out(validate(Scenario, given))


def test_who_is_asked_next_is_shown_the_images_too() -> None:
    request = Request(1, 0.0, 200, 20, images=2)
    request.unseen = 0
    assert (request.again().images, request.again().unseen) == (2, 2)


@pytest.mark.parametrize(
    ("images", "deployment", "told"),
    [
        ({"tokens": 64}, {"model": "llama-3.1-8b"}, r"d\.model: a workload sends images, and"),
        ({"tokens": 64}, {"step_time": "aiconfigurator"}, "d.step_time: is not modelled together"),
        ({"tokens": 64}, {"parallelism": {"pp": 2}}, r"d\.parallelism\.pp: is not modelled"),
        ({"tokens": 64}, {"parallelism": {"cp": 2}}, r"d\.parallelism\.cp: is not modelled"),
        (
            {"tokens": 64},
            {"engine": {"speculation": {"num_speculative_tokens": 2, "acceptance": 0.5,
                                        "draft": "ngram"}}},
            r"engine\.speculation: is not modelled together with images",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    images: dict[str, Any], deployment: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        lay_out(seeing(images, **deployment))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"images": {"tokens": 0}}, r"images\.tokens"),
        ({"images": {"tokens": 9, "count": 0}}, "count can be 0; who has images has one"),
        (
            {"images": {"tokens": 9}, "lengths": None, "mix": {"chat": {"weight": 1}}},
            r"images belongs to the archetypes of a mix; write mix\.NAME\.images",
        ),
        ({"images": {"tokens": 9}, "sessions": {"turns": 3}}, "images in sessions are not"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], told: str) -> None:
    given = {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "1 /s"},
        "lengths": {"prompt": 10, "output": 5},
    }
    with pytest.raises(InputError, match=told):
        validate(WorkloadSpec, given | fields)
