"""A replica as a queue: when a step takes a fixed time, theory knows how long requests wait.

A request of one prompt token and k output tokens then holds its slot for k steps. One slot is
M/D/1 when all k are equal and M/G/1 when k is geometric; c slots come near M/M/c. Seeds are
fixed; each interval holds the truth 99 times in 100, and is asked to be narrow and to refuse
the model next door.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import accumulate, repeat

import pytest

from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.physics.step_time import Cost
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario
from tests.queueing import (
    Interval,
    batch_means,
    geometric_service_moments_s,
    md1_wait_s,
    mg1_wait_s,
    mm1_wait_s,
    mmc_wait_s,
    priority_waits_s,
)
from tests.reference import Chunk, ReferenceRequest, ReferenceRun, run_reference

STEP_S = 1.0
POLICIES = ["chunked", "continuous", "static"]


class FixedStep:
    """A step time that does not depend on the batch."""

    def step_s(self, contexts: Sequence[int], chunks: Sequence[Chunk], sampled: int) -> float:
        return STEP_S

    def step_power_w(self, contexts: Sequence[int], chunks: Sequence[Chunk], sampled: int) -> float:
        return 0.0


def serve(
    rate: float, output: Callable[[], int], *, count: int, slots: int, policy: str
) -> ReferenceRun:
    """Send `count` requests of one prompt token at Poisson times, into ample KV."""
    arrivals = random.Random(7)
    times = accumulate(arrivals.expovariate(rate) for _ in range(count))
    requests = [ReferenceRequest(time, prompt=1, output=output()) for time in times]
    return run_reference(
        requests,
        policy=policy,
        max_num_seqs=slots,
        max_num_batched_tokens=slots,
        blocks=slots * max(request.output for request in requests),
        physics_by_clock={1.0: FixedStep()},
        clock_changes=[(0.0, 1.0)],
    )


def waits(run: ReferenceRun) -> list[float]:
    assert all(record.outcome == "completed" for record in run)
    admitted = [record.admitted_s for record in run if record.admitted_s is not None]
    return [a - record.request.arrival_s for a, record in zip(admitted, run, strict=True)]


def geometric(mean: float, seed: int) -> Callable[[], int]:
    """Draw an exponential of this mean (nearly: see geometric_service_moments_s), rounded up."""
    draw = random.Random(seed)
    scale = math.log(1 - 1 / mean)
    return lambda: max(math.ceil(math.log(1 - draw.random()) / scale), 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_slot_and_fixed_outputs_are_m_d_1(policy: str) -> None:
    run = serve(0.7 / STEP_S, repeat(1).__next__, count=20_000, slots=1, policy=policy)
    waited = batch_means(waits(run))
    assert md1_wait_s(0.7, 1.0) in waited
    assert mm1_wait_s(0.7, 1.0) not in waited
    assert waited.relative < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_one_slot_and_geometric_outputs_are_m_g_1(policy: str) -> None:
    tokens, rate = 4.0, 0.7 / 4.0
    run = serve(rate, geometric(tokens, seed=8), count=15_000, slots=1, policy=policy)
    waited = batch_means(waits(run))
    assert mg1_wait_s(rate, *geometric_service_moments_s(tokens, STEP_S)) in waited
    assert md1_wait_s(rate, tokens * STEP_S) not in waited
    assert waited.relative < 0.2


@pytest.mark.slow
def test_slots_that_share_their_steps_come_near_m_m_c() -> None:
    # A slot that falls free mid-step does not exist, but an arrival mid-step does: it waits up
    # to a step more, half a step in the mean, of a wait of about 11 steps.
    tokens, slots = 20.0, 3
    rate = 0.7 * slots / tokens
    run = serve(rate, geometric(tokens, seed=9), count=20_000, slots=slots, policy="chunked")
    waited = batch_means(waits(run))
    assert mmc_wait_s(slots, rate, tokens) in waited
    assert mm1_wait_s(rate, tokens / slots) not in waited  # one slot, three times as fast
    assert waited.relative < 0.25


@pytest.mark.parametrize("policy", POLICIES)
def test_littles_law(policy: str) -> None:
    # The number present as each step saw it, against the stays as each request saw them.
    run = serve(0.06, geometric(20.0, seed=10), count=500, slots=2, policy=policy)
    present_s = sum(
        (step.running + step.waiting) * (step.end_s - step.start_s) for step in run.steps
    )
    stays_s = 0.0
    starts = iter(run.steps)
    step = next(starts)
    for record in run:
        while step.start_s < record.request.arrival_s - 1e-9:
            step = next(starts)
        assert record.left_s is not None
        stays_s += record.left_s - step.start_s
    assert present_s == pytest.approx(stays_s, rel=1e-12)


# The same of the engine, through the front door: hundreds of steps a service, so that a slot
# that serves tokens is a slot that serves seconds, and exponential lengths are exponential.

TOKENS = 200
SERVICE_S = 1.0
EXPONENTIAL = [
    [share, max(1.0, -TOKENS * math.log(1.0 - share))] for share in (i / 500 for i in range(500))
] + [[1.0, TOKENS * (math.log(500) + 2.0)]]  # the last 500th, with nearly the mean it has


class FixedPace:
    """A step time that does not depend on the batch, as an engine asks for it."""

    window = 0
    per_context = per_windowed = Cost(0.0)

    def decode(self, sequences: int) -> Cost:
        return Cost(SERVICE_S / TOKENS, host_s=SERVICE_S / TOKENS)

    def mixed(
        self, sequences: int, context: int, windowed: int, chunks: object, sampled: int
    ) -> Cost:
        return self.decode(sequences)


def queue(rate: float, slots: int, output: object, count: int) -> tuple[Interval, Run]:
    """Return the waits at one replica of `slots` slots, and the run."""
    scenario = small_scenario(
        seed=11,
        duration=f"{count / rate} s",
        engine={"max_num_seqs": slots, "max_num_batched_tokens": 64},
        rate=f"{rate} /s",
        lengths={"prompt": 1, "output": output},
    )
    run = simulate(scenario, step_time=lambda fleet, clock: FixedPace())
    (fleet,) = lay_out(scenario).fleets
    waited = run.requests["admitted_s"] - run.requests["arrival_s"] - fleet.host.per_request_s
    assert set(run.requests["outcome"]) == {"completed"}
    little = run.summary["littles_law"]
    assert little["requests_in_system"] == pytest.approx(
        little["arrival_rate_per_s"] * little["time_in_system_s"], rel=1e-6
    )
    return batch_means(waited.tolist()), run


def test_engine_one_slot_and_fixed_lengths_are_m_d_1() -> None:
    waited, run = queue(0.7, 1, TOKENS, count=12_000)
    assert md1_wait_s(0.7, SERVICE_S) in waited
    assert mm1_wait_s(0.7, SERVICE_S) not in waited
    assert waited.relative < 0.15
    assert run.summary["utilisation"]["gpu_busy"] == pytest.approx(0.7, rel=0.03)


def test_engine_one_slot_and_exponential_lengths_are_m_m_1() -> None:
    waited, _ = queue(0.7, 1, {"quantiles": EXPONENTIAL}, count=30_000)
    assert mm1_wait_s(0.7, SERVICE_S) in waited
    assert md1_wait_s(0.7, SERVICE_S) not in waited
    assert waited.relative < 0.2


@pytest.mark.parametrize(("slots", "load"), [(3, 0.6), (10, 0.7)])
def test_engine_slots_and_exponential_lengths_are_m_m_c(slots: int, load: float) -> None:
    rate = load * slots
    waited, _ = queue(rate, slots, {"quantiles": EXPONENTIAL}, count=30_000)
    assert mmc_wait_s(slots, rate, SERVICE_S) in waited
    assert mm1_wait_s(rate, SERVICE_S / slots) not in waited
    assert waited.relative < 0.35


@pytest.mark.parametrize("length", ["fixed", "exponential"])
def test_engine_priorities_that_interrupt_nobody_are_cobhams(length: str) -> None:
    rates, service_s = [0.2, 0.25, 0.3], SERVICE_S
    output = TOKENS if length == "fixed" else {"quantiles": EXPONENTIAL}
    squared_s2 = service_s**2 * (1.0 if length == "fixed" else 2.0)
    told = small_scenario().model_dump(mode="json", exclude_none=True)
    names = ["first", "second", "third"]
    told |= {
        "duration": "12000 s",
        "seed": 5,
        "classes": {name: {"priority": number} for number, name in enumerate(names)},
        "workload": {
            name: {
                "deployment": "d",
                "class": name,
                "arrivals": {"process": "poisson", "rate": f"{rate} /s"},
                "lengths": {"prompt": 1, "output": output},
            }
            for name, rate in zip(names, rates, strict=True)
        },
    }
    told["deployments"]["d"]["engine"] = {
        "max_num_seqs": 1,
        "max_num_batched_tokens": 64,
        "scheduling": "priority",
    }
    scenario = validate(Scenario, told)
    run = simulate(scenario, step_time=lambda fleet, clock: FixedPace())
    (fleet,) = lay_out(scenario).fleets
    waited = run.requests["admitted_s"] - run.requests["arrival_s"] - fleet.host.per_request_s
    theory = priority_waits_s(rates, [service_s] * 3, [squared_s2] * 3)
    found = [batch_means(waited[run.requests["class"] == name].tolist()) for name in names]
    for wait_s, interval in zip(theory, found, strict=True):
        assert wait_s in interval
    assert mg1_wait_s(sum(rates), service_s, squared_s2) not in found[0]  # first come, first served
    assert theory[1] not in found[0] and theory[0] not in found[2]
    assert found[0].relative < 0.15
