"""Pipelines equal the plain reference, keep the period that theory gives, and speed up rounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.factory.build import roofline
from factory_sim.factory.layout import lay_out
from factory_sim.factory.replica import Speed
from factory_sim.factory.run import simulate
from factory_sim.physics.pipeline import Stages
from factory_sim.physics.step_time import StepTime
from factory_sim.scenario.parallelism import Parallelism
from tests.factory.side_by_side import Case, Toy, engine, reference, toy_power
from tests.factory.small import small_scenario
from tests.factory.test_exactness import (
    ENERGY,
    SAME,
    TOYS,
    assert_same_gaps,
    assert_same_requests,
    cases,
)
from tests.ranked_reference import turns_last
from tests.reference import ReferenceRequest


@st.composite
def pipelined(draw: st.DrawFn) -> Case:
    case = draw(cases(tuple(TOYS)))
    counts = draw(st.sampled_from([(2,), (1, 1), (2, 1), (1, 3)]))
    # A last stage with an output head, or a first with more context to read.
    extra = draw(st.sampled_from([{}, {"per_sample": 0.003}, {"attend": 9e-5, "base": 0.0}]))

    def speed_at(clock: float) -> Speed:
        speed = case.speed_at(clock)
        toy = speed.step_time
        assert isinstance(toy, Toy)
        kinds = [toy, replace(toy, **extra)][: len(counts)]
        return Speed(Stages(kinds, counts), speed.power)

    return replace(case, pp=sum(counts), speed_at=speed_at, async_scheduling=False)


@settings(deadline=None, max_examples=70, suppress_health_check=list(HealthCheck))
@given(pipelined())
def test_pipelines_equal_single_steps(case: Case) -> None:
    slow, fast = reference(case), engine(case)
    assert_same_requests(slow, fast)
    assert_same_gaps(slow, fast)
    batch = fast.batch
    totals = batch.ledger.totals(batch.stretch.step_time)
    # Watts are of the mean over stages, which is more than their mean where they differ.
    energy_j = sum(step.energy_j for step in slow.steps)
    assert totals.energy_j >= (1.0 - ENERGY) * energy_j
    model = case.speed_at(1.0).step_time
    assert isinstance(model, Stages)
    if len(set(model.stages)) == 1:
        assert totals.energy_j == pytest.approx(energy_j, rel=ENERGY)
    assert batch.kv.free == batch.kv.total
    assert batch.recomputed_tokens == sum(record.recomputed for record in slow)
    assert totals.output_tokens == pytest.approx(sum(record.emitted for record in slow))
    busy_s = sum(step.end_s - step.start_s for step in slow.steps)
    assert totals.busy_s == pytest.approx(busy_s, rel=SAME)
    causes = (*totals[1:7], totals.stage_wait_s)
    assert sum(causes) == pytest.approx(busy_s, rel=SAME)
    assert min(causes) >= -SAME * busy_s
    if all(step.clock == 1.0 for step in slow.steps):
        assert totals.throttled_s == pytest.approx(0.0, abs=SAME * busy_s)


STAGES = st.lists(st.floats(0.2, 5.0), min_size=2, max_size=5)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_round_is_the_period_of_a_first_in_first_out_pipeline(data: st.DataObject) -> None:
    """Micro-batches that follow each other through the stages, event by event, where stages differ
    by a factor that is the same for all of them."""
    stages = data.draw(STAGES)
    loads = [data.draw(st.floats(0.0, 4.0)) for _ in stages]
    pp, rounds = len(stages), 400
    free = [0.0] * pp  # when each stage is done with what it has
    back = [0.0] * pp  # when each micro-batch was last through
    seen: list[float] = []
    for _, number in product(range(rounds), range(pp)):
        now = back[number]
        for stage in range(pp):
            now = free[stage] = max(now, free[stage]) + loads[number] * stages[stage]
        back[number] = now
        seen.append(now)
    period = (seen[-1] - seen[rounds * pp // 2 - 1]) / (rounds / 2)

    class Linear:
        def __init__(self, each: float) -> None:
            self.each = each

        def step_s(self, contexts: list[float], chunks: object, sampled: int) -> float:
            return self.each * contexts[0]

        def step_power_w(self, *load: object) -> float:
            return 1.0

    lasts = turns_last([Linear(each) for each in stages], 1.0)  # type: ignore[arg-type]
    round_s, power_w = lasts([([load], [], 0, 0.0) for load in loads])
    assert period == pytest.approx(round_s, rel=1e-2, abs=1e-9)
    assert power_w == pytest.approx(1.0)


def toys(many: int, of: int, **each: float) -> Speed:
    """One request a micro-batch: `many` of them over `of` equal stages."""
    return Speed(Stages([Toy(**each)], [of]), toy_power(1.0))


@pytest.mark.parametrize(("busy", "round_s"), [(1, 4.0), (2, 4.0), (4, 4.0)])
def test_a_full_pipeline_takes_no_longer_than_one_micro_batch(busy: int, round_s: float) -> None:
    """Four stages of a second: a token takes the sum of stages, however many turns are taken."""
    case = Case(
        tuple(ReferenceRequest(0.0, 16, 11) for _ in range(busy)),
        lambda clock: toys(busy, 4, compute=1.0),
        pp=4,
    )
    run = engine(case)
    assert {run.left[n][1] for n in range(busy)} == {11 * round_s}
    totals = run.batch.ledger.totals(run.batch.stretch.step_time)
    # A GPU has work for a second of each micro-batch's turn, and waits for the rest.
    assert totals.compute_s == pytest.approx(11 * busy)
    assert totals.stage_wait_s == pytest.approx(11 * (4 - busy))
    power = toy_power(1.0)
    working_j = 11 * busy * power.energy_j(1.0, 1.0, 0.0)
    waiting_j = 11 * (4 - busy) * power.idle_w
    assert totals.energy_j == pytest.approx(working_j + waiting_j, rel=ENERGY)


@pytest.mark.parametrize("pp", [2, 8])
def test_watts_of_the_mean_stage_are_those_of_all_stages_of_a_model(pp: int) -> None:
    """The last has the output head, of a model of 8 billion weights with 128,256 tokens."""
    scenario = small_scenario()
    spec = scenario.deployments["d"].model_copy(update={"parallelism": Parallelism(pp=pp)})
    (fleet,) = lay_out(scenario.model_copy(update={"deployments": {"d": spec}})).fleets
    model, power = roofline(fleet, 1.0), fleet.power.at(1.0)
    assert isinstance(model, Stages)

    def joules(step_time: StepTime, n: int, context: int) -> float:
        terms = zip(step_time.decode(n), step_time.per_context, strict=True)
        cost = [fixed + context * each for fixed, each in terms]
        return power.energy_j(cost[0], cost[5], cost[6])

    for n, context in ((1, 1_000), (32, 32_000), (64, 256_000)):
        pairs = zip(model.stages, model.counts, strict=True)
        apart_j = sum(many * joules(stage, n, context) for stage, many in pairs)
        assert joules(model, n, context) == pytest.approx(apart_j, rel=ENERGY)


def test_the_slowest_stage_sets_the_pace_of_a_full_pipeline() -> None:
    """Stages of 1, 1 and 2 s: 4 s for one on its way alone, 3 * 2 s once all have a turn."""
    stages = Stages([Toy(compute=1.0), Toy(compute=2.0)], [2, 1])
    for busy, round_s in ((1, 4.0), (2, 4.0), (3, 6.0)):
        case = Case(
            tuple(ReferenceRequest(0.0, 16, 5) for _ in range(busy)),
            lambda clock: Speed(stages, toy_power(clock)),
            pp=3,
        )
        assert {engine(case).left[n][1] for n in range(busy)} == {5 * round_s}


def test_a_pipeline_over_two_servers_runs_whole_and_keeps_its_promises() -> None:
    """With prefix caches, time-outs and all counts checked at every boundary; twice the same."""
    scenario = small_scenario(
        duration="5 s",
        rate="20 /s",
        lengths={"prompt": 400, "output": 40},
        cached=64,
        timeout="2 s",
    )
    deployment = scenario.deployments["d"]
    spread = deployment.model_copy(update={"parallelism": Parallelism(tp=4, pp=4)})
    racks = (scenario.racks[0].model_copy(update={"servers_per_rack": 2}),)
    wide = scenario.model_copy(update={"deployments": {"d": spread}, "racks": racks})
    runs = [simulate(wide, debug=True) for _ in range(2)]
    summary = runs[0].summary
    assert summary == runs[1].summary
    assert summary["requests_completed"] > 90
    assert 0.0 < summary["time_lost"]["waiting_for_stages"] < 1.0
    assert sum(summary["time_lost"].values()) == pytest.approx(1.0)
    assert "waiting_for_stages" not in simulate(scenario).summary["time_lost"]
